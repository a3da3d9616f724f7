#include "model/plan.h"

#include <algorithm>
#include <map>
#include <set>

namespace cctl {
namespace {

// Shortest drain after a withdrawal: what readers need to hear of it.
constexpr Millis kLeastDrain{1'000};

struct Change {
  Placed target;
  std::vector<OldGeneration> old;  // that run on the target's host
  std::string title;
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

std::string titleOf(const Placed& target, const ObservedInstance* old, const Version& version) {
  if (!old) return fmt::format("{} on {}: start {}", target.instance, target.host, version);
  if (old->version == version)
    return fmt::format("{} on {}: renew {}", target.instance, target.host, version);
  return fmt::format("{} on {}: {} → {}", target.instance, target.host, old->version, version);
}

class Planner {
 public:
  explicit Planner(const PlanInput& input) : input_(input), groups_(groupByPlace(input.observed)) {}

  Plan plan() {
    for (const Placed& placed : input_.placement) classify(placed);
    const bool serving = std::any_of(input_.observed.begin(), input_.observed.end(),
                                     [](const ObservedInstance& o) { return o.running; });
    const auto batch = static_cast<size_t>(
        input_.manifest->upgrade.batch.of(static_cast<int>(input_.placement.size())));
    addWaves(creates_, serving ? batch : creates_.size(), &Planner::addCreate);
    addWaves(replacements_, batch, &Planner::addReplacement);
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
    if (main) noteStrays(found->second, *main);
    if (isHeld(placed.instance)) {
      plan_.held.push_back(placed.instance);
    } else if (main && main->ready && main->current && main->up_to_date && !input_.force) {
      plan_.kept.push_back(placed.instance);
      plan_.kept_running.push_back(*main);
    } else if (main && main->running) {
      replacements_.push_back({placed, {oldOf(*main)}, titleOf(placed, main, input_.version)});
    } else {
      creates_.push_back({placed, {}, titleOf(placed, main, input_.version)});
    }
  }

  void noteStrays(const std::vector<const ObservedInstance*>& generations,
                  const ObservedInstance& main) {
    for (const ObservedInstance* generation : generations)
      if (generation != &main && (generation->running || generation->wanted))
        plan_.strays.push_back(oldOf(*generation));
  }

  void addWaves(const std::vector<Change>& changes, size_t batch,
                void (Planner::*add)(Wave&, const std::vector<Change>&)) {
    for (size_t at = 0; at < changes.size(); at += batch) {
      const auto first = changes.begin() + static_cast<std::ptrdiff_t>(at);
      const auto last =
          changes.begin() + static_cast<std::ptrdiff_t>(std::min(changes.size(), at + batch));
      const std::vector<Change> part(first, last);
      Wave wave;
      for (const Change& change : part)
        wave.title += (wave.title.empty() ? "" : ", ") + change.title;
      (this->*add)(wave, part);
      plan_.waves.push_back(std::move(wave));
    }
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
    wave.steps = {StartStep{targetsOf(changes)}, PublishStep{idsOf(changes)}};
  }

  void addReplacement(Wave& wave, const std::vector<Change>& changes) {
    const DrainStep drain{std::max(kLeastDrain, input_.manifest->upgrade.drain)};
    const StartStep start{targetsOf(changes)};
    const PublishStep publish{idsOf(changes)};
    const StopStep stop{oldOfAll(changes)};
    if (input_.manifest->upgrade.order == UpgradeOrder::kStartFirst)
      wave.steps = {start, publish, drain, stop};
    else
      wave.steps = {WithdrawStep{idsOf(changes)}, drain, stop, start, publish};
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
    for (const OldGeneration& old : forget.items)
      wave.title +=
          fmt::format("{}{} on {}: remove", wave.title.empty() ? "" : ", ", old.id, old.host);
    if (!withdraw.items.empty()) wave.steps.emplace_back(withdraw);
    wave.steps.emplace_back(DrainStep{std::max(kLeastDrain, input_.manifest->upgrade.drain)});
    wave.steps.emplace_back(forget);
    plan_.waves.push_back(std::move(wave));
  }

  bool isPlacedSomewhere(const InstanceId& id) const {
    return std::any_of(placed_.begin(), placed_.end(),
                       [&](const Placed& placed) { return placed.instance == id; });
  }

  const PlanInput& input_;
  const ByPlace groups_;
  std::set<Placed> placed_;
  std::vector<Change> creates_;
  std::vector<Change> replacements_;
  Plan plan_;
};

}  // namespace

Plan planRollout(const PlanInput& input) { return Planner(input).plan(); }

}  // namespace cctl
