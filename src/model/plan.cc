#include "model/plan.h"

#include <algorithm>
#include <map>
#include <set>

#include "model/node_set.h"

namespace cctl {
namespace {

struct Change {
  Placed target;
  std::vector<OldGeneration> old;  // that run on the target's host, or are to
  std::string what;                // "1.0.0 → 1.1.0", for the title
};

// Of several generations of one instance on one host, the one that counts: the current one if it
// runs, else whichever runs, else the current one.
const ObservedInstance* principal(const std::vector<const ObservedInstance*>& generations) {
  const ObservedInstance* best = nullptr;
  const auto rank = [](const ObservedInstance& g) {
    return (g.running ? 2 : 0) + (g.current ? 1 : 0);
  };
  for (const ObservedInstance* generation : generations)
    if (!best || rank(*generation) > rank(*best)) best = generation;
  return best;
}

// How many come next: the canary once, then batch by batch.
class Batches {
 public:
  Batches(const Upgrade& upgrade, int total, size_t batch)
      : canary_(upgrade.canary ? static_cast<size_t>(upgrade.canary->of(total)) : 0),
        batch_(batch) {}

  void setBatch(size_t batch) { batch_ = batch; }
  bool isCanary() const { return canary_ > 0; }
  size_t take() {
    const size_t size = canary_ > 0 ? canary_ : batch_;
    canary_ = 0;
    return std::max<size_t>(size, 1);
  }

 private:
  size_t canary_;
  size_t batch_;
};

// One after the other: what is done to which instance. Those that the same is done to are folded:
// "web/[0-1] on host[1-2]: 1.0.0 → 1.1.0; web/2 on host3: start 1.1.0".
class Title {
 public:
  void add(const InstanceId& id, const HostName& host, const std::string& what) {
    auto part = std::find_if(parts_.begin(), parts_.end(),
                             [&](const Part& one) { return one.what == what; });
    if (part == parts_.end()) part = parts_.insert(parts_.end(), {what, {}, {}});
    part->ids.push_back(id.text());
    part->hosts.push_back(host.str());
  }
  std::string text() const {
    std::string text;
    for (const Part& part : parts_)
      text += fmt::format("{}{} on {}: {}", text.empty() ? "" : "; ", foldNodeSet(part.ids),
                          foldNodeSet(part.hosts), part.what);
    return text;
  }

 private:
  struct Part {
    std::string what;
    std::vector<std::string> ids, hosts;
  };
  std::vector<Part> parts_;
};

Millis drainTime(const Manifest& manifest) { return std::max(kLeastDrain, manifest.upgrade.drain); }

using ByPlace = std::map<Placed, std::vector<const ObservedInstance*>>;

ByPlace groupByPlace(const std::vector<ObservedInstance>& observed) {
  ByPlace groups;
  for (const ObservedInstance& instance : observed)
    groups[{instance.id, instance.host}].push_back(&instance);
  return groups;
}

OldGeneration oldOf(const ObservedInstance& instance) {
  return {instance.id, instance.host, instance.generation, instance.running};
}

std::string changeOf(const ObservedInstance* old, const Version& version) {
  if (!old) return fmt::format("start {}", version);
  if (old->version == version) return fmt::format("renew {}", version);
  return fmt::format("{} → {}", old->version, version);
}

class Planner {
 public:
  explicit Planner(const PlanInput& input)
      : input_(input),
        groups_(groupByPlace(input.observed)),
        batches_(input.manifest->upgrade, static_cast<int>(input.placement.size()), 1) {}

  Plan plan() {
    for (const Placed& placed : input_.placement) classify(placed);
    const bool serving = std::any_of(input_.observed.begin(), input_.observed.end(),
                                     [](const ObservedInstance& o) { return o.running; });
    const auto batch = static_cast<size_t>(
        input_.manifest->upgrade.batch.of(static_cast<int>(input_.placement.size())));
    batches_.setBatch(serving ? batch : creates_.size());
    addWaves(creates_, &Planner::addCreate);
    batches_.setBatch(batch);
    addWaves(replacements_, &Planner::addReplacement);
    addRemovals();
    return std::move(plan_);
  }

 private:
  bool isHeld(const InstanceId& id) const {
    return std::find(input_.held.begin(), input_.held.end(), id.index) != input_.held.end();
  }

  void classify(const Placed& placed) {
    placed_.insert(placed);
    const auto found = groups_.find(placed);
    const ObservedInstance* main = found == groups_.end() ? nullptr : principal(found->second);
    std::vector<OldGeneration> strays =
        main ? straysOf(found->second, *main) : std::vector<OldGeneration>();
    if (isHeld(placed.instance)) {
      plan_.held.push_back(placed.instance);
    } else if (isAsWanted(main)) {
      plan_.kept.push_back(placed.instance);
      plan_.kept_running.push_back(*main);
    } else if (main && main->running) {
      // One of them may be what is published: none goes before the new one is.
      strays.insert(strays.begin(), oldOf(*main));
      replacements_.push_back({placed, std::exchange(strays, {}), changeOf(main, input_.version)});
    } else {
      creates_.push_back({placed, {}, changeOf(main, input_.version)});
    }
    plan_.strays.insert(plan_.strays.end(), strays.begin(), strays.end());
  }

  bool isAsWanted(const ObservedInstance* main) const {
    return main && main->ready && main->current && main->up_to_date && !input_.force;
  }

  static std::vector<OldGeneration> straysOf(
      const std::vector<const ObservedInstance*>& generations, const ObservedInstance& main) {
    std::vector<OldGeneration> strays;
    for (const ObservedInstance* generation : generations)
      if (generation != &main && (generation->running || generation->wanted))
        strays.push_back(oldOf(*generation));
    return strays;
  }

  void addWaves(const std::vector<Change>& changes,
                void (Planner::*add)(Wave&, const std::vector<Change>&)) {
    for (auto first = changes.begin(); first != changes.end();) {
      Wave wave;
      wave.canary = batches_.isCanary();
      const auto left = static_cast<size_t>(changes.end() - first);
      const auto last = first + static_cast<std::ptrdiff_t>(std::min(left, batches_.take()));
      const std::vector<Change> part(first, last);
      wave.title = titleOf(part);
      (this->*add)(wave, part);
      plan_.waves.push_back(std::move(wave));
      first = last;
    }
  }

  static std::string titleOf(const std::vector<Change>& changes) {
    Title title;
    for (const Change& change : changes)
      title.add(change.target.instance, change.target.host, change.what);
    return title.text();
  }

  static std::vector<Placed> targetsOf(const std::vector<Change>& changes) {
    std::vector<Placed> targets;
    for (const Change& change : changes) targets.push_back(change.target);
    return targets;
  }
  static std::vector<InstanceId> idsOf(const std::vector<Change>& changes) {
    std::vector<InstanceId> ids;
    for (const Change& change : changes) ids.push_back(change.target.instance);
    return ids;
  }
  static std::vector<OldGeneration> oldOfAll(const std::vector<Change>& changes) {
    std::vector<OldGeneration> all;
    for (const Change& change : changes)
      all.insert(all.end(), change.old.begin(), change.old.end());
    return all;
  }

  void addCreate(Wave& wave, const std::vector<Change>& changes) {
    wave.steps = {StartStep{targetsOf(changes)}, observe(idsOf(changes)),
                  PublishStep{idsOf(changes)}};
  }

  ObserveStep observe(std::vector<InstanceId> ids) const {
    return {std::move(ids), input_.manifest->upgrade.observe};
  }

  // Before an old one goes, the new one must also have kept up with its clients.
  void addReplacement(Wave& wave, const std::vector<Change>& changes) {
    const std::vector<InstanceId> ids = idsOf(changes);
    const DrainStep drain{oldOfAll(changes), drainTime(*input_.manifest)};
    const StartStep start{targetsOf(changes)};
    const PublishStep publish{ids};
    const StopStep stop{oldOfAll(changes)};
    if (input_.manifest->upgrade.order == UpgradeOrder::kStartFirst)
      wave.steps = {start, observe(ids), publish, drain, ObserveStep{ids, Millis(0)}, stop};
    else
      wave.steps = {WithdrawStep{ids}, drain, stop, start, observe(ids), publish};
  }

  // Whatever is on a host where it does not belong (any more): fewer instances, or moved ones.
  void addRemovals() {
    ForgetStep forget;
    WithdrawStep withdraw;
    for (const auto& [place, generations] : groups_) {
      if (placed_.count(place)) continue;
      forget.items.push_back(oldOf(*principal(generations)));
      if (!isPlacedSomewhere(place.instance)) withdraw.items.push_back(place.instance);
    }
    if (forget.items.empty()) return;
    Wave wave;
    Title title;
    for (const OldGeneration& old : forget.items) title.add(old.id, old.host, "remove");
    wave.title = title.text();
    if (!withdraw.items.empty()) wave.steps.emplace_back(withdraw);
    wave.steps.emplace_back(DrainStep{forget.items, drainTime(*input_.manifest)});
    wave.steps.emplace_back(forget);
    plan_.waves.push_back(std::move(wave));
  }

  bool isPlacedSomewhere(const InstanceId& id) const {
    return std::any_of(placed_.begin(), placed_.end(),
                       [&](const Placed& placed) { return placed.instance == id; });
  }

  const PlanInput& input_;
  const ByPlace groups_;
  Batches batches_;
  std::set<Placed> placed_;
  std::vector<Change> creates_;
  std::vector<Change> replacements_;
  Plan plan_;
};

const InstanceId& idOf(const Placed& item) { return item.instance; }
const InstanceId& idOf(const OldGeneration& item) { return item.id; }
const InstanceId& idOf(const InstanceId& item) { return item; }

Step filtered(Step step, const std::set<InstanceId>& ids, bool keep) {
  std::visit(
      [&](auto& one) {
        std::erase_if(one.items,
                      [&](const auto& item) { return (ids.count(idOf(item)) != 0) != keep; });
      },
      step);
  return step;
}

// Whether it can be restarted without leaving the registry: its clients wait in its socket.
bool queuesClients(const Manifest& manifest) {
  return !manifest.ports.empty() && std::all_of(manifest.ports.begin(), manifest.ports.end(),
                                                [](const Port& port) { return port.socket; });
}

Wave restartWave(const RestartInput& input, const std::vector<ObservedInstance>& part) {
  Wave wave;
  std::vector<InstanceId> ids;
  std::vector<OldGeneration> old;
  Title title;
  for (const ObservedInstance& instance : part) {
    title.add(instance.id, instance.host, "restart");
    ids.push_back(instance.id);
    old.push_back(oldOf(instance));
  }
  wave.title = title.text();
  const Manifest& manifest = *input.manifest;
  const int beside =
      input.published_beside + static_cast<int>(input.instances.size() - part.size());
  const ObserveStep observe{ids, manifest.upgrade.observe};
  if (beside == 0 && queuesClients(manifest))
    wave.steps = {RestartStep{old}, observe, PublishStep{ids}};
  else
    wave.steps = {WithdrawStep{ids}, DrainStep{old, drainTime(manifest)}, RestartStep{old}, observe,
                  PublishStep{ids}};
  return wave;
}

}  // namespace

Plan planRollout(const PlanInput& input) { return Planner(input).plan(); }

Plan planRestart(const RestartInput& input) {
  Plan plan;
  const Upgrade& upgrade = input.manifest->upgrade;
  Batches batches(upgrade, input.total, static_cast<size_t>(upgrade.batch.of(input.total)));
  for (auto first = input.instances.begin(); first != input.instances.end();) {
    const bool canary = batches.isCanary();
    const auto left = static_cast<size_t>(input.instances.end() - first);
    const auto last = first + static_cast<std::ptrdiff_t>(std::min(left, batches.take()));
    plan.waves.push_back(restartWave(input, {first, last}));
    plan.waves.back().canary = canary;
    first = last;
  }
  return plan;
}

std::vector<std::vector<Endpoint>> endpointStages(const Plan& plan, std::vector<Endpoint> before,
                                                  const std::map<InstanceId, Endpoint>& fresh) {
  std::vector<std::vector<Endpoint>> stages;
  const auto change = [&](const std::vector<InstanceId>& ids, bool publish) {
    std::vector<Endpoint> after = stages.empty() ? before : stages.back();
    for (const InstanceId& id : ids) {
      std::erase_if(after, [&](const Endpoint& old) { return old.instance == id; });
      if (const auto found = fresh.find(id); publish && found != fresh.end())
        after.push_back(found->second);
    }
    std::sort(after.begin(), after.end(),
              [](const Endpoint& a, const Endpoint& b) { return a.instance < b.instance; });
    if (after != (stages.empty() ? before : stages.back())) stages.push_back(std::move(after));
  };
  for (const Wave& wave : plan.waves)
    for (const Step& step : wave.steps) {
      if (const auto* publish = std::get_if<PublishStep>(&step)) change(publish->items, true);
      if (const auto* withdraw = std::get_if<WithdrawStep>(&step)) change(withdraw->items, false);
    }
  return stages;
}

std::string_view stepName(const Step& step) {
  constexpr std::string_view kNames[] = {"start", "observe", "publish", "withdraw",
                                         "drain", "stop",    "restart", "forget"};
  static_assert(std::size(kNames) == std::variant_size_v<Step>);
  return kNames[step.index()];
}

bool isEmpty(const Step& step) {
  return std::visit([](const auto& one) { return one.items.empty(); }, step);
}

Step onlyOf(const Step& step, const std::set<InstanceId>& ids) { return filtered(step, ids, true); }
Step without(const Step& step, const std::set<InstanceId>& ids) {
  return filtered(step, ids, false);
}

}  // namespace cctl
