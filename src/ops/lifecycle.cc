#include "ops/lifecycle.h"

#include <algorithm>
#include <csignal>

#include "model/dependency_graph.h"
#include "ops/change.h"
#include "ops/dependants.h"
#include "ops/drain_connections.h"
#include "ops/leftovers.h"
#include "transport/fan_out.h"

namespace cctl::ops {
namespace {

bool isSelected(const LifecycleRequest& request, const Placed& placed) {
  if (request.host && placed.host != *request.host) return false;
  if (request.targets.empty()) return true;
  return std::any_of(request.targets.begin(), request.targets.end(),
                     [&](const Target& target) { return target.covers(placed.instance); });
}

bool mentions(const LifecycleRequest& request, const ServiceName& service) {
  if (request.targets.empty()) return true;
  return std::any_of(request.targets.begin(), request.targets.end(),
                     [&](const Target& target) { return target.service == service; });
}

// What a restart of it would be about; a generation 0 when its shim does not know it.
Result<ObservedInstance> observeCurrent(Operation& operation, const Placed& placed) {
  ObservedInstance observed;
  observed.id = placed.instance;
  observed.host = placed.host;
  CCTL_TRY(HostConnection * host, operation.fleet.await(placed.host));
  CCTL_TRY(const HostReport report,
           probeHostStatus(*host, placed.instance.service.str(), operation.cancel));
  for (const protocol::InstanceStatus& status : report.instances)
    if (status.index == placed.instance.index && status.current)
      return observedFrom(placed.host, status);
  return observed;
}

// The same of each; the first error.
Result<std::vector<ObservedInstance>> observeEach(Operation& operation,
                                                  const std::vector<Placed>& selected) {
  std::vector<ObservedInstance> all;
  for (auto& one : forEachOf<ObservedInstance>(
           operation.fleet, selected,
           [&](const Placed& placed) { return observeCurrent(operation, placed); })) {
    if (!one) return fail(one.error());
    all.push_back(std::move(*one));
  }
  return all;
}

RestartInput restartInput(const Manifest& manifest, const Desired& desired,
                          std::vector<ObservedInstance> instances,
                          const std::vector<Endpoint>& published) {
  std::set<InstanceId> ids;
  for (const ObservedInstance& one : instances) ids.insert(one.id);
  RestartInput input{&manifest, std::move(instances), static_cast<int>(desired.placement.size()),
                     0};
  input.published_beside = static_cast<int>(
      std::count_if(published.begin(), published.end(),
                    [&](const Endpoint& endpoint) { return ids.count(endpoint.instance) == 0; }));
  return input;
}

// Stopped while another version was deployed, which left it alone.
void warnOfOldVersion(Operation& operation, const InstanceId& id, const Version& version,
                      const Desired& desired) {
  if (version.str() == desired.version || version.str() == desired.rolling_to) return;
  operation.events.warning(
      id.text(), fmt::format("it is {} there, from before {} was deployed; 'clusterctl apply {}' "
                             "brings it up to that",
                             version, desired.version, id.service));
}

// What others would see of it, for dry runs.
Plan planOf(Action action, const RestartInput& input) {
  if (action == Action::kRestart) return planRestart(input);
  std::vector<InstanceId> ids;
  for (const ObservedInstance& one : input.instances) ids.push_back(one.id);
  Plan plan;
  if (action == Action::kStart) plan.waves.push_back({"", {PublishStep{ids}}});
  if (action == Action::kStop) plan.waves.push_back({"", {WithdrawStep{ids}}});
  return plan;
}

// One service's part of the order, under its lock.
class ServiceAction {
 public:
  ServiceAction(Operation& operation, const LifecycleRequest& request, const Manifest& manifest,
                std::vector<Placed> selected, const Change& change, LifecycleOutcome& outcome)
      : operation_(operation),
        request_(request),
        manifest_(manifest),
        selected_(std::move(selected)),
        lease_(change.lease(manifest.service)),
        token_(lease_.token()),
        outcome_(outcome) {}

  // Before: what a killed roll-out left could become what is current meanwhile. After: what was
  // published until now may be left over, too.
  Result<void> run() {
    auto done = work();
    if (done || !begun_ || done.error().code == Code::kCancelled) return done;
    return fail(Code::kPartial, "{}: broken off half-way: {}; run the same command again",
                manifest_.service, done.error().message);
  }

 private:
  Result<void> work() {
    const bool cleans = request_.action == Action::kStart || request_.action == Action::kRestart;
    if (cleans)
      CCTL_CHECK(stopLeftovers(operation_, lease_, manifest_.service, hosts(), Keep::kPublished));
    CCTL_CHECK(actOnAll());
    if (!cleans || !outcome_.failures.empty()) return {};
    CCTL_CHECK(stopLeftovers(operation_, lease_, manifest_.service, hosts(), Keep::kCurrentOnly));
    return settleUnfinished(operation_, manifest_.service);
  }

  Result<void> actOnAll() {
    CCTL_TRY(const ServiceEndpoints endpoints,
             readEndpoints(operation_.registers, manifest_.service));
    before_ = endpoints.endpoints;
    if (request_.action == Action::kRestart) return rollingRestart();
    if (operation_.cancel && operation_.cancel->cancelled())
      return fail(Code::kCancelled, "interrupted");
    if (!lease_.held()) return fail(lease_.lost());
    return act(selected_);
  }

  std::vector<HostName> hosts() const {
    std::set<HostName> names;
    for (const Placed& placed : selected_) names.insert(placed.host);
    return {names.begin(), names.end()};
  }

  // As `upgrade` says, by the same steps as a roll-out. There is nothing to go back to: it stops
  // where its budgets are spent.
  Result<void> rollingRestart() {
    CCTL_TRY(const Desired desired, readDesired(operation_.registers, manifest_.service));
    CCTL_TRY(std::vector<ObservedInstance> instances, observeEach(operation_, selected_));
    const RestartInput restart = restartInput(manifest_, desired, std::move(instances), before_);
    RolloutInput input;
    input.inventory = &operation_.inventory();
    input.manifest = &manifest_;
    input.unreachable_before = outcome_.skipped.size();
    input.most_unreachable = request_.skip_unreachable
                                 ? kAnyNumber
                                 : static_cast<size_t>(manifest_.upgrade.max_unreachable);
    input.roll_back = false;
    Rollout rollout(operation_, std::move(input), lease_);
    auto done = rollout.run(planRestart(restart));
    for (const auto& [id, running] : rollout.started()) outcome_.done.push_back(id);
    outcome_.failures.insert(outcome_.failures.end(), rollout.failures().begin(),
                             rollout.failures().end());
    if (!done && done.error().code != Code::kFailed) return fail(done.error());
    return {};
  }

  Result<void> act(const std::vector<Placed>& batch) {
    switch (request_.action) {
      case Action::kStart:
        operation_.reached("let go");
        CCTL_CHECK(setHeld(batch, false));
        return startAndPublish(batch);
      case Action::kStop:
        operation_.reached("withdraw");
        CCTL_CHECK(withdraw(batch));
        operation_.reached("hold");
        CCTL_CHECK(setHeld(batch, true));
        operation_.reached("stop");
        return each(batch, [this](const Placed& placed) { return stop(placed); });
      case Action::kReload:
        return each(batch, [this](const Placed& placed) { return sendSignal(placed, SIGHUP); });
      case Action::kRestart:
      case Action::kSignal:
        break;
    }
    return each(batch,
                [this](const Placed& placed) { return sendSignal(placed, request_.signal); });
  }

  // Runs `work` for all of the batch at once and sorts the instances into done and failed.
  Result<void> each(
      const std::vector<Placed>& batch,
      const std::function<Result<std::optional<InstanceFailure>>(const Placed&)>& work) {
    const auto results = forEachOf<std::optional<InstanceFailure>>(operation_.fleet, batch, work);
    for (size_t i = 0; i < batch.size(); ++i) {
      if (!results[i])
        outcome_.failures.push_back({batch[i].instance,
                                     batch[i].host,
                                     results[i].error().message,
                                     "",
                                     {},
                                     results[i].error().code == Code::kUnreachable});
      else if (*results[i])
        outcome_.failures.push_back(**results[i]);
      else
        outcome_.done.push_back(batch[i].instance);
    }
    return {};
  }

  Result<std::optional<InstanceFailure>> stop(const Placed& placed) {
    CCTL_TRY(HostConnection * host, operation_.fleet.await(placed.host));
    protocol::StopRequest request{operation_.ref(placed.instance), 0, true,
                                  operation_.caller(token_)};
    CCTL_TRY(const auto reply, host->shim->call<protocol::StopReply>(
                                   request, Deadline::in(manifest_.stop.grace + kRequestTimeout)));
    operation_.events.step(
        placed.instance.text(),
        fmt::format("stopped on {}{}", placed.host,
                    reply.killed
                        ? fmt::format(", killed after {}", humanDuration(manifest_.stop.grace))
                        : ""));
    return std::nullopt;
  }

  Result<std::optional<InstanceFailure>> sendSignal(const Placed& placed, int number) {
    CCTL_TRY(HostConnection * host, operation_.fleet.await(placed.host));
    protocol::SignalRequest request{operation_.ref(placed.instance), number,
                                    operation_.caller(token_)};
    CCTL_TRY(const auto reply,
             host->shim->call<protocol::Empty>(request, Deadline::in(kRequestTimeout)));
    (void)reply;
    operation_.events.step(placed.instance.text(), fmt::format("signalled on {}", placed.host));
    return std::nullopt;
  }

  Result<std::optional<InstanceFailure>> bringUp(const Placed& placed) {
    CCTL_TRY(HostConnection * host, operation_.fleet.await(placed.host));
    const protocol::Caller caller = operation_.caller(token_);
    const Deadline deadline =
        Deadline::in(manifest_.health.start_timeout + manifest_.stop.grace + kRequestTimeout);
    const protocol::InstanceRef ref = operation_.ref(placed.instance);
    auto reply =
        host->shim->call<protocol::StartReply>(protocol::StartRequest{ref, 0, caller}, deadline);
    if (!reply) return fail(reply.error());
    if (reply->state != protocol::InstanceState::kReady)
      return InstanceFailure{placed.instance,      placed.host, reply->problem,
                             reply->health_answer, reply->exit, false};
    CCTL_CHECK(noteReady(placed, *host, reply->generation));
    operation_.events.step(placed.instance.text(), fmt::format("ready on {} in {}", placed.host,
                                                               humanDuration(reply->took)));
    return std::nullopt;
  }

  Result<void> noteReady(const Placed& placed, HostConnection& host, int generation) {
    CCTL_TRY(const auto spec,
             host.shim->call<protocol::GenerationSpec>(
                 protocol::GenerationRequest{operation_.ref(placed.instance), generation},
                 Deadline::in(kRequestTimeout)));
    const Version version(spec.version);
    warnOfOldVersion(operation_, placed.instance, version, desired_);
    const std::lock_guard lock(mutex_);
    ready_.push_back(readyEndpoint(placed.instance, host, version, spec.ports));
    return {};
  }

  Result<void> startAndPublish(const std::vector<Placed>& batch) {
    ready_.clear();
    operation_.reached("start");
    CCTL_CHECK(each(batch, [&](const Placed& placed) { return bringUp(placed); }));
    operation_.reached("publish");
    return changeEndpoints([&](std::vector<Endpoint>& endpoints) {
      for (const Endpoint& endpoint : ready_) {
        std::erase_if(endpoints,
                      [&](const Endpoint& old) { return old.instance == endpoint.instance; });
        endpoints.push_back(endpoint);
      }
    });
  }

  Result<void> withdraw(const std::vector<Placed>& batch) {
    const auto leaving = [&](const Endpoint& endpoint) {
      return std::any_of(batch.begin(), batch.end(), [&](const Placed& placed) {
        return placed.instance == endpoint.instance;
      });
    };
    if (std::none_of(before_.begin(), before_.end(), leaving)) return {};
    CCTL_CHECK(changeEndpoints(
        [&](std::vector<Endpoint>& endpoints) { std::erase_if(endpoints, leaving); }));
    std::vector<OldGeneration> left;
    for (const Placed& placed : batch) left.push_back({placed.instance, placed.host, 0, true});
    return drainConnections(operation_, left, manifest_.upgrade.drain, operation_.cancel);
  }

  Result<void> changeEndpoints(const std::function<void(std::vector<Endpoint>&)>& change) {
    CCTL_CHECK(updateEndpoints(operation_.registers, manifest_.service, change));
    begun_ = true;
    std::vector<HostName> hosts;
    for (const Placed& placed : selected_) hosts.push_back(placed.host);
    operation_.reached("names");
    CCTL_CHECK(pushNames(operation_, {manifest_.service}, hosts));
    operation_.reached("dependants");
    refreshDependants(operation_, manifest_.service);
    return {};
  }

  Result<void> setHeld(const std::vector<Placed>& batch, bool held) {
    SystemClock clock;
    const Held hold{operation_.identity.text(), clock.wall()};
    CCTL_TRY(desired_,
             updateDesired(operation_.registers, manifest_.service, [&](Desired& desired) {
               for (const Placed& placed : batch) {
                 desired.held.erase(placed.instance.index);
                 if (held) desired.held[placed.instance.index] = hold;
               }
             }));
    begun_ = true;
    return {};
  }

  Operation& operation_;
  const LifecycleRequest& request_;
  const Manifest& manifest_;
  const std::vector<Placed> selected_;
  const Lease& lease_;
  const uint64_t token_;
  LifecycleOutcome& outcome_;
  std::vector<Endpoint> before_;
  Desired desired_;     // once something was written into it
  bool begun_ = false;  // the registry says something else than before
  std::mutex mutex_;
  std::vector<Endpoint> ready_;  // guarded by mutex_
};

class Lifecycle {
 public:
  Lifecycle(Operation& operation, const LifecycleRequest& request)
      : operation_(operation), request_(request) {}

  Result<LifecycleOutcome> run() {
    const auto before = std::chrono::steady_clock::now();
    const Inventory& inventory = operation_.inventory();
    operation_.fleet.begin(inventory.registry_hosts, Need::kShim);
    CCTL_TRY(const auto selected, select());
    operation_.fleet.begin(allHosts(inventory), Need::kShim);
    std::vector<HostName> concerned;
    for (const Placed& placed : outcome_.selected) concerned.push_back(placed.host);
    CCTL_TRY(ConcernedHosts usable,
             awaitConcerned(operation_, concerned, request_.skip_unreachable ? kAnyNumber : 0));
    connected_ = std::move(usable.connected);
    outcome_.skipped = std::move(usable.skipped);
    CCTL_CHECK(request_.dry_run ? onlyLook(selected) : actOnEach(selected));
    outcome_.took = std::chrono::duration_cast<Millis>(std::chrono::steady_clock::now() - before);
    return std::move(outcome_);
  }

 private:
  using ByService = std::map<ServiceName, std::vector<Placed>>;

  Result<ByService> select() {
    for (const Target& target : request_.targets)
      CCTL_CHECK(operation_.inventory().service(target.service.str()));
    ByService selected;
    for (const auto& [service, manifest] : operation_.inventory().services) {
      if (!mentions(request_, service)) continue;
      CCTL_TRY(const Desired desired, readDesired(operation_.registers, service));
      is_deployed_ = is_deployed_ || !desired.placement.empty();
      for (const Placed& placed : placementOf(service, desired)) {
        if (!isSelected(request_, placed)) continue;
        if (request_.action == Action::kRestart && desired.held.count(placed.instance.index) != 0) {
          outcome_.held.push_back(placed.instance);
          continue;
        }
        selected[service].push_back(placed);
        outcome_.selected.push_back(placed);
      }
    }
    if (!outcome_.selected.empty() || !outcome_.held.empty()) return selected;
    if (!request_.targets.empty()) return fail(Code::kUsage, "{}", nothingSelected());
    // All of a host that has nothing: a play that goes from host to host goes on.
    operation_.events.warning(request_.host->str(), "nothing of this cluster is placed there");
    return selected;
  }

  std::string nothingSelected() const {
    const std::string target = request_.targets.front().text();
    if (request_.host) return fmt::format("{} has no instance on {}", target, *request_.host);
    if (is_deployed_)
      return fmt::format("there is no {}; see 'clusterctl status {}'", target,
                         request_.targets.front().service);
    return fmt::format("{} is not deployed; deploy it with 'clusterctl deploy {} VERSION'", target,
                       request_.targets.front().service);
  }

  Result<void> onlyLook(const ByService& selected) {
    std::set<ServiceName> services;
    for (const auto& [service, placed] : selected) services.insert(service);
    CCTL_CHECK(checkUnlocked(operation_, services, request_.lock_wait));
    for (const ServiceName& service : inOrder(services))
      CCTL_CHECK(foresee(service, reachableOf(selected.at(service))));
    return {};
  }

  Result<void> foresee(const ServiceName& service, const std::vector<Placed>& selected) {
    const Manifest& manifest = operation_.inventory().services.at(service);
    CCTL_TRY(const ServiceEndpoints now, readEndpoints(operation_.registers, service));
    CCTL_TRY(const Desired desired, readDesired(operation_.registers, service));
    CCTL_TRY(std::vector<ObservedInstance> instances, observeEach(operation_, selected));
    std::map<InstanceId, Endpoint> fresh;
    for (const ObservedInstance& one : instances) {
      CCTL_TRY(const HostConnection* host, operation_.fleet.await(one.host));
      if (request_.action == Action::kStart && one.generation != 0)
        warnOfOldVersion(operation_, one.id, one.version, desired);
      fresh[one.id] = readyEndpoint(one.id, *host, one.version, one.ports);
    }
    const Plan plan = planOf(request_.action,
                             restartInput(manifest, desired, std::move(instances), now.endpoints));
    CCTL_TRY(std::vector<DependantChange> found,
             foreseeDependants(operation_, service, endpointStages(plan, now.endpoints, fresh)));
    outcome_.dependants.insert(outcome_.dependants.end(), found.begin(), found.end());
    return {};
  }

  // Who starts first is who others depend on; who stops first, who depends on others.
  std::vector<ServiceName> inOrder(const std::set<ServiceName>& services) const {
    const ServiceMap& all = operation_.inventory().services;
    return request_.action == Action::kStop ? stopOrder(all, services) : startOrder(all, services);
  }

  std::vector<Placed> reachableOf(const std::vector<Placed>& placed) const {
    std::vector<Placed> reachable;
    for (const Placed& one : placed)
      if (std::find(outcome_.skipped.begin(), outcome_.skipped.end(), one.host) ==
          outcome_.skipped.end())
        reachable.push_back(one);
    return reachable;
  }

  Result<void> actOnEach(const ByService& selected) {
    ByService reachable;
    std::set<ServiceName> services;
    for (const auto& [service, placed] : selected) {
      reachable[service] = reachableOf(placed);
      if (!reachable[service].empty()) services.insert(service);
    }
    ChangeRequest change{std::string(actionName(request_.action)), services, request_.lock_wait, "",
                         false};
    change.bare = request_.action == Action::kReload || request_.action == Action::kSignal;
    if (!change.bare) change.hosts = connected_;
    operation_.reached("lock");
    CCTL_TRY(outcome_.missed, runChange(operation_, change, [&](Change& begun) {
               return actInOrder(begun, reachable, inOrder(services));
             }));
    return {};
  }

  // Each is ready (or down) before the next begins; after a failure those behind it are left alone.
  Result<ChangeEnd> actInOrder(Change& change, const ByService& placed,
                               const std::vector<ServiceName>& order) {
    for (const ServiceName& service : order) {
      const Manifest& manifest = operation_.inventory().services.at(service);
      const size_t failures = outcome_.failures.size();
      auto done =
          ServiceAction(operation_, request_, manifest, placed.at(service), change, outcome_).run();
      if (!done) outcome_.error = done.error();
      if (outcome_.failures.size() > failures)
        change.finish(service, {Ending::kFailed, outcome_.failures.back().problem});
      else
        change.finish(service, ChangeEnd::of(outcome_.error));
      if (!done || !outcome_.failures.empty()) break;
    }
    if (outcome_.error && outcome_.done.empty() && outcome_.failures.empty()) {
      if (outcome_.error->code == Code::kCancelled)
        outcome_.error->message =
            "interrupted: what was under way was put back, and nothing was begun after it";
      return fail(*outcome_.error);
    }
    return ChangeEnd{Ending::kFailed, "not begun: a service before it failed"};
  }

  Operation& operation_;
  const LifecycleRequest& request_;
  std::vector<HostConnection*> connected_;  // of the hosts concerned
  LifecycleOutcome outcome_;
  bool is_deployed_ = false;  // one of the services asked for
};

}  // namespace

std::string_view actionName(Action action) {
  switch (action) {
    case Action::kStart:
      return "start";
    case Action::kStop:
      return "stop";
    case Action::kRestart:
      return "restart";
    case Action::kReload:
      return "reload";
    case Action::kSignal:
      break;
  }
  return "signal";
}

Result<LifecycleOutcome> lifecycle(Operation& operation, const LifecycleRequest& request) {
  return Lifecycle(operation, request).run();
}

}  // namespace cctl::ops
