#include "ops/deploy.h"

#include <algorithm>
#include <set>

#include "base/text.h"
#include "model/node_set.h"
#include "model/spec.h"
#include "ops/change.h"
#include "ops/difference.h"
#include "ops/evidence.h"
#include "ops/probe.h"
#include "ops/release_source.h"
#include "ops/render.h"
#include "ops/specs.h"

namespace cctl::ops {
namespace {

void addMissing(std::vector<HostName>& hosts, const std::vector<HostName>& more) {
  for (const HostName& host : more)
    if (std::find(hosts.begin(), hosts.end(), host) == hosts.end()) hosts.push_back(host);
}

class Deploy {
 public:
  Deploy(Operation& operation, const DeployRequest& request, const ReleaseSource& release,
         const Inventory& inventory, const Manifest& manifest)
      : timeline_(operation.events),
        operation_{operation.fleet,  operation.registers, timeline_,
                   operation.cancel, operation.identity,  operation.reason + signedOffText(release),
                   operation.on_step},
        request_(request),
        release_(release),
        inventory_(inventory),
        manifest_(manifest) {}

  Result<DeployOutcome> run() {
    const auto before = std::chrono::steady_clock::now();
    CCTL_CHECK(connect());
    if (!request_.dry_run) CCTL_CHECK(push());
    CCTL_CHECK(request_.dry_run ? planOnly() : lockedRun());
    outcome_.took = std::chrono::duration_cast<Millis>(std::chrono::steady_clock::now() - before);
    return std::move(outcome_);
  }

 private:
  // The hosts concerned come first in the queue; the others are told the names at the end.
  Result<void> connect() {
    const Inventory& inventory = operation_.inventory();
    if (!request_.dry_run)
      operation_.events.phase("connecting to " + counted(inventory.hosts.size(), "host"));
    std::vector<HostName> order = inventory.registry_hosts;
    addMissing(order, eligibleHosts(inventory, manifest_));
    addMissing(order, allHosts(inventory));
    operation_.fleet.begin(order, Need::kPlaced);
    return place();
  }

  // Where everything belongs, and which hosts that concerns.
  Result<void> place() {
    CCTL_TRY(const Desired desired, readDesired(operation_.registers, request_.service));
    outcome_.previous_version = desired.version;
    rolling_to_ = desired.rolling_to;
    rolling_by_ = desired.rolling_by;
    outcome_.unfinished = desired.unfinished();
    CCTL_TRY(placement_, wanted(desired));
    const std::vector<std::string> clashes = checkFixedPorts(operation_.inventory(), placement_);
    if (!clashes.empty()) return fail(Code::kBadInput, "{}", clashes.front());
    held_.clear();
    for (const auto& [index, hold] : desired.held) held_.push_back(index);
    concerned_.clear();
    for (const Placed& placed : placement_) addMissing(concerned_, {placed.host});
    for (const auto& [index, host] : desired.placement)
      if (isConcerned(index) && operation_.inventory().findHost(HostName(host)))
        addMissing(concerned_, {HostName(host)});
    CCTL_TRY(ConcernedHosts usable, awaitConcerned(operation_, concerned_, mostUnreachable()));
    hosts_ = std::move(usable.connected);
    outcome_.skipped = std::move(usable.skipped);
    lookElsewhere();
    return checkUser();
  }

  // What was left on other hosts, by a move that was killed or while one of them was away, is taken
  // off as well. Nothing belongs there: those that cannot be reached do not count.
  void lookElsewhere() {
    elsewhere_.clear();
    std::vector<HostName> others = eligibleHosts(inventory_, manifest_);
    std::erase_if(others, [this](const HostName& host) {
      return std::find(concerned_.begin(), concerned_.end(), host) != concerned_.end() ||
             !operation_.inventory().findHost(host);
    });
    HostErrors unreachable;
    const auto connected = connectedOf(operation_.fleet, others, unreachable);
    const auto reports = probeAll(operation_, connected, request_.service.str());
    for (HostConnection* host : connected) {
      const Result<HostReport>& report = reports.at(host->name);
      if (!report || report->instances.empty()) continue;
      hosts_.push_back(host);
      elsewhere_.insert(host->name);
    }
  }

  // Of an instance whose own host is left out nothing is known: it stays as it is everywhere.
  bool isLeftAlone(const ObservedInstance& one) const {
    return elsewhere_.count(one.host) != 0 &&
           std::any_of(placement_.begin(), placement_.end(), [&](const Placed& placed) {
             return placed.instance == one.id && isSkipped(placed.host);
           });
  }

  bool isConcerned(int index) const {
    return request_.moves.empty() || request_.moves.count(index) != 0;
  }

  Result<Placement> wanted(const Desired& desired) {
    if (request_.moves.empty()) {
      CCTL_TRY(const std::set<HostName> drained, readDrained(operation_.registers));
      return placeInstances(inventory_, manifest_, placementOf(request_.service, desired), {},
                            drained);
    }
    if (desired.version != request_.version.str())
      return fail(Code::kStalePlan, "{}: nothing was moved: {} was deployed meanwhile",
                  request_.service, desired.version);
    Placement moved;
    for (const auto& [index, host] : request_.moves)
      moved.push_back({{request_.service, index}, host});
    return moved;
  }

  size_t mostUnreachable() const {
    if (request_.skip_unreachable) return kAnyNumber;
    return static_cast<size_t>(manifest_.upgrade.max_unreachable);
  }

  // A shim that is not root can start services only as itself.
  Result<void> checkUser() {
    std::vector<std::string> unable;
    std::string login;
    for (const HostConnection* host : hosts_) {
      if (!isPlacedOn(host->name) || host->hello.uid == 0 || manifest_.user == host->hello.user ||
          manifest_.user.empty())
        continue;
      unable.push_back(host->name.str());
      login = host->hello.user;
    }
    if (unable.empty()) return {};
    return fail(Code::kBadInput,
                "{} is to run as {}, and the shim of {} runs as {}, which cannot become another "
                "user: bootstrap with `become: sudo`, log in as {}, or remove `user`",
                request_.service, manifest_.user, foldNodeSet(unable), login, manifest_.user);
  }

  Result<void> push() {
    operation_.reached("fix digest");
    CCTL_CHECK(fixReleaseDigest(operation_.registers, request_.service, request_.version,
                                release_.info.digest));
    const std::vector<HostConnection*> targets = pushTargets();
    operation_.events.phase(fmt::format("pushing {} {} to {}", request_.service, request_.version,
                                        counted(targets.size(), "host")));
    operation_.reached("push");
    CCTL_CHECK(pushToAll(operation_, release_, targets));
    operation_.reached("push spec");
    return pushSpec(operation_, request_.service,
                    canonicalSpec(inventory_, manifest_, request_.version), targets);
  }

  std::vector<HostConnection*> pushTargets() const {
    std::vector<HostConnection*> targets;
    for (HostConnection* host : hosts_)
      if (isPlacedOn(host->name)) targets.push_back(host);
    return targets;
  }

  // Why push() would be refused.
  Result<void> checkPush() {
    CCTL_CHECK(checkReleaseDigest(operation_.registers, request_.service, request_.version,
                                  release_.info.digest));
    return checkHostsFit(operation_, release_.info, pushTargets());
  }

  bool isPlacedOn(const HostName& host) const {
    return std::any_of(placement_.begin(), placement_.end(),
                       [&](const Placed& placed) { return placed.host == host; });
  }

  bool isPlaced(int index) const {
    return std::any_of(placement_.begin(), placement_.end(),
                       [&](const Placed& placed) { return placed.instance.index == index; });
  }

  bool isSkipped(const HostName& host) const {
    return std::find(outcome_.skipped.begin(), outcome_.skipped.end(), host) !=
           outcome_.skipped.end();
  }

  Result<void> makePlan() {
    PlanInput& input = outcome_.planned;
    input = {};
    input.manifest = &manifest_;
    input.version = request_.version;
    for (const Placed& placed : placement_)
      if (!isSkipped(placed.host)) input.placement.push_back(placed);
    CCTL_TRY(input.observed, observe(operation_, hosts_, inventory_, manifest_, request_.version,
                                     release_.info.digest));
    std::erase_if(input.observed, [this](const ObservedInstance& one) {
      return !isConcerned(one.id.index) || isLeftAlone(one);
    });
    CCTL_CHECK(renderNew(input));
    input.held = held_;
    input.force = request_.force;
    outcome_.plan = planRollout(input);
    outcome_.instances = static_cast<int>(placement_.size());
    return {};
  }

  // For those who look at the plan: the files of what has nothing yet where it belongs.
  Result<void> renderNew(PlanInput& input) {
    Placement bare = input.placement;
    std::erase_if(bare, [&](const Placed& placed) {
      return std::any_of(
          input.observed.begin(), input.observed.end(), [&](const ObservedInstance& one) {
            return one.id == placed.instance && one.host == placed.host && one.current;
          });
    });
    if (bare.empty()) return {};
    CCTL_TRY(const EndpointsByService endpoints, endpointsFor(operation_.registers, manifest_));
    for (const Placed& placed : bare) {
      CCTL_TRY(const HostConnection* host, operation_.fleet.await(placed.host));
      CCTL_TRY(const auto fresh, renderFirst(*host, {&inventory_,
                                                     &manifest_,
                                                     placed.instance,
                                                     request_.version,
                                                     release_.info.digest,
                                                     0,
                                                     {},
                                                     &endpoints}));
      input.new_files[placed.instance] = newFilesOf(fresh);
    }
    return {};
  }

  Result<void> planOnly() {
    if (!release_.isDigestOnly()) CCTL_CHECK(checkPush());
    CCTL_CHECK(makePlan());
    outcome_.ready = static_cast<int>(outcome_.plan.kept.size());
    return foresee();
  }

  Result<void> foresee() {
    CCTL_TRY(const ServiceEndpoints now, readEndpoints(operation_.registers, request_.service));
    Plan plan = outcome_.plan;
    PublishStep kept;
    std::map<InstanceId, Endpoint> fresh;
    for (const ObservedInstance& one : plan.kept_running) {
      kept.items.push_back(one.id);
      CCTL_TRY(fresh[one.id], endpointWith({one.id, one.host}, one.version, one.ports));
    }
    plan.waves.insert(plan.waves.begin(), Wave{"", {kept}});
    for (const Wave& wave : plan.waves)
      for (const Step& step : wave.steps)
        if (const auto* start = std::get_if<StartStep>(&step))
          for (const Placed& placed : start->items) {
            CCTL_TRY(fresh[placed.instance],
                     endpointWith(placed, request_.version, knownPorts(placed)));
          }
    CCTL_TRY(outcome_.dependants, foreseeDependants(operation_, request_.service,
                                                    endpointStages(plan, now.endpoints, fresh)));
    return {};
  }

  // Before it is started: what the manifest says, and the sockets that it takes over.
  std::map<std::string, int> knownPorts(const Placed& placed) const {
    std::map<std::string, int> ports;
    for (const Port& port : manifest_.ports) {
      ports[port.name] = port.fixed.value_or(0);
      for (const ObservedInstance& one : outcome_.planned.observed)
        if (const auto old = one.ports.find(port.name);
            port.socket && !port.fixed && old != one.ports.end() && one.id == placed.instance &&
            one.host == placed.host)
          ports[port.name] = old->second;
    }
    return ports;
  }

  Result<Endpoint> endpointWith(const Placed& placed, const Version& version,
                                const std::map<std::string, int>& ports) {
    CCTL_TRY(const HostConnection* host, operation_.fleet.await(placed.host));
    return readyEndpoint(placed.instance, *host, version, ports);
  }

  Result<void> lockedRun() {
    operation_.reached("lock");
    ChangeRequest change{
        request_.action, {request_.service}, request_.lock_wait, request_.version.str()};
    change.hosts = hosts_;
    CCTL_TRY(outcome_.missed,
             runChange(operation_, change, [this](Change& begun) -> Result<ChangeEnd> {
               CCTL_CHECK(underLock(begun));
               return ending();
             }));
    return {};
  }

  // What the budgets of `upgrade` let pass is not all that was asked for.
  ChangeEnd ending() const {
    if (outcome_.error) return ChangeEnd::of(outcome_.error);
    std::string text;
    for (const InstanceFailure& failure : outcome_.failures)
      text += fmt::format("{}{} on {}: {}", text.empty() ? "" : "; ", failure.id, failure.host,
                          failure.problem);
    for (const HostName& host : outcome_.skipped)
      text += fmt::format("{}left out: {}", text.empty() ? "" : "; ", host);
    return text.empty() ? ChangeEnd() : ChangeEnd{Ending::kPartial, text};
  }

  Result<void> underLock(Change& change) {
    // Somebody else may have moved things between our first look and the lock.
    const Placement before = placement_;
    CCTL_CHECK(place());
    if (placement_ != before) CCTL_CHECK(push());
    change.note(request_.service,
                {outcome_.previous_version, request_.version.str(), release_.signers});
    CCTL_CHECK(makePlan());
    if (request_.approve) CCTL_CHECK(request_.approve(outcome_.planned, outcome_.plan));
    CCTL_CHECK(markBegun());
    RolloutInput input = rolloutInput();
    const Rollout* running = nullptr;
    input.before_undo = [&](const Error& cause) { keepEvidence(*running, cause); };
    Rollout rollout(operation_, std::move(input), change.lease(request_.service));
    running = &rollout;
    auto done = rollout.run(outcome_.plan);
    outcome_.failures = rollout.failures();
    if (!done) outcome_.error = done.error();
    if (!done && done.error().code == Code::kRolledBack) judgePutBack();
    outcome_.ready =
        done ? static_cast<int>(rollout.started().size() + outcome_.plan.kept.size()) : 0;
    outcome_.skipped.insert(outcome_.skipped.end(), rollout.lost().begin(), rollout.lost().end());
    return finish(done.has_value());
  }

  // What an earlier run of the same roll-out had done is not this one's to undo: then not all is
  // as it was before the roll-out.
  void judgePutBack() {
    if (outcome_.unfinished.empty() || outcome_.plan.kept.empty() ||
        outcome_.previous_version == request_.version.str())
      return;
    std::string kept;
    for (const InstanceId& id : outcome_.plan.kept) kept += (kept.empty() ? "" : ", ") + id.text();
    const std::string& before = outcome_.previous_version;
    outcome_.error = Error{
        Code::kPartial,
        fmt::format("what this run did is undone, but {} {} at {} since the roll-out of {} that "
                    "did not end; {}",
                    kept, outcome_.plan.kept.size() == 1 ? "stays" : "stay", request_.version,
                    outcome_.unfinished,
                    before.empty() ? std::string("deploy another version")
                                   : fmt::format("'clusterctl deploy {} {}' puts all back",
                                                 request_.service, before))};
  }

  RolloutInput rolloutInput() const {
    RolloutInput input;
    input.inventory = &inventory_;
    input.manifest = &manifest_;
    input.version = request_.version;
    input.release_digest = release_.info.digest;
    input.unreachable_before = outcome_.skipped.size();
    input.most_unreachable = mostUnreachable();
    input.roll_back = request_.roll_back;
    input.goes_on = request_.moves.empty() && rolling_to_ == request_.version.str();
    return input;
  }

  // Nothing has been put back yet: what failed can still be asked.
  void keepEvidence(const Rollout& rollout, const Error& cause) {
    if (request_.evidence.empty()) return;
    EvidenceInput input{request_.service,
                        request_.version,
                        outcome_.previous_version,
                        begun_,
                        cause,
                        &timeline_,
                        rollout.failures(),
                        {},
                        {}};
    for (const auto& [id, running] : rollout.started()) input.fresh[id] = running.generation;
    for (const Wave& wave : outcome_.plan.waves)
      for (const Step& step : wave.steps)
        if (const auto* stop = std::get_if<StopStep>(&step))
          for (const OldGeneration& old : stop->items) input.old[old.id] = old.generation;
    auto written = writeEvidence(operation_, input, request_.evidence);
    if (written)
      outcome_.evidence.push_back(*written);
    else
      operation_.events.warning("", "no evidence was kept: " + written.error().message);
  }

  // From here on, a run that is killed leaves a mark that the next one and `status` see.
  Result<void> markBegun() {
    if (leavesUnfinished())
      operation_.events.warning(
          request_.service.str(),
          fmt::format(
              "a roll-out of {} did not end, and this does not end it; see 'clusterctl plan "
              "{}'",
              outcome_.unfinished, request_.service));
    else if (!outcome_.unfinished.empty())
      operation_.events.warning(
          request_.service.str(),
          fmt::format("finishing after a roll-out of {} that did not end{}", outcome_.unfinished,
                      outcome_.plan.empty() ? ": all runs as it should" : ""));
    if (outcome_.plan.empty()) return {};
    operation_.reached("mark begun");
    return changeDesired([&](Desired& desired) {
      if (!leavesUnfinished()) {
        desired.rolling_to = request_.version.str();
        desired.rolling_by = operation_.identity.text();
      }
      for (const Placed& placed : placement_)
        desired.placement.try_emplace(placed.instance.index, placed.host.str());
    });
  }

  // Moving instances is not what ends a roll-out of another version.
  bool leavesUnfinished() const {
    return !request_.moves.empty() && !rolling_to_.empty() && rolling_to_ != request_.version.str();
  }

  // What a roll-out that did not end had replaced, when this one began.
  bool wasMixed() const {
    const auto& observed = outcome_.planned.observed;
    return !rolling_to_.empty() &&
           std::any_of(observed.begin(), observed.end(), [this](const ObservedInstance& one) {
             return one.current && one.running && one.version.str() != outcome_.previous_version;
           });
  }

  Result<void> finish(bool done) {
    operation_.reached("record");
    auto recorded = changeDesired([&](Desired& desired) {
      const bool unfinished = outcome_.error && outcome_.error->code != Code::kRolledBack;
      const bool as_before = leavesUnfinished() || (outcome_.error && wasMixed());
      if (!unfinished) {
        desired.rolling_to = as_before ? rolling_to_ : "";
        desired.rolling_by = as_before ? rolling_by_ : "";
      }
      if (!done) {
        if (desired.version.empty() && desired.rolling_to.empty()) desired.placement.clear();
        return;
      }
      for (const Placed& placed : placement_)
        desired.placement[placed.instance.index] = placed.host.str();
      if (!request_.moves.empty()) return;
      desired.version = request_.version.str();
      desired.spec_digest = specDigest(inventory_, manifest_, request_.version);
      if (outcome_.ready > 0 || outcome_.instances == 0)
        recordGood(desired, {request_.version.str(), desired.spec_digest, SystemClock().wall()});
      std::erase_if(desired.placement, [this](const auto& one) { return !isPlaced(one.first); });
    });
    if (recorded || outcome_.error) return {};
    outcome_.unrecorded = true;
    outcome_.error =
        Error{Code::kPartial, "the registry was not told: " + recorded.error().message};
    return {};
  }

  Result<void> changeDesired(const std::function<void(Desired&)>& change) {
    CCTL_CHECK(updateDesired(operation_.registers, request_.service, change));
    return {};
  }

  Timeline timeline_;
  Operation operation_;  // the caller's, with a memory of what was told
  const DeployRequest& request_;
  const ReleaseSource& release_;
  const Inventory& inventory_;  // the manifest's; of hosts and what others are, the operation's
  const Manifest& manifest_;
  Placement placement_;
  std::vector<int> held_;
  std::string rolling_to_, rolling_by_;  // of an earlier roll-out that did not end
  std::vector<HostName> concerned_;
  std::vector<HostConnection*> hosts_;
  std::set<HostName> elsewhere_;  // of hosts_ those on which nothing of it belongs
  const WallTime begun_ = SystemClock().wall();
  DeployOutcome outcome_;
};

}  // namespace

Result<DeployOutcome> deploy(Operation& operation, const DeployRequest& request,
                             const ReleaseSource& release) {
  const Inventory& inventory = request.inventory ? *request.inventory : operation.inventory();
  CCTL_TRY(const Manifest* manifest, inventory.service(request.service.str()));
  return Deploy(operation, request, release, inventory, *manifest).run();
}

}  // namespace cctl::ops
