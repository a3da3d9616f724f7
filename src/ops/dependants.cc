#include "ops/dependants.h"

#include <algorithm>
#include <csignal>

#include "base/text.h"
#include "model/dependency_graph.h"
#include "ops/change.h"
#include "ops/drain_connections.h"
#include "ops/probe.h"
#include "ops/render.h"
#include "ops/specs.h"
#include "transport/fan_out.h"

namespace cctl::ops {
namespace {

constexpr Millis kLookEvery{100};

OnChange actionFor(const Manifest& manifest, const ServiceName& service) {
  const auto found = manifest.on_change.find(service);
  return found == manifest.on_change.end() ? OnChange::kNone : found->second;
}

using Stages = std::vector<std::vector<Endpoint>>;

// Endpoints change, or what an earlier change left undone is looked for.
enum class Why { kChanged, kLookedFor };

// An instance whose files are not what they should be now.
struct Stale {
  InstanceId id;
  HostConnection* host = nullptr;
  protocol::GenerationSpec fresh;
};

// One dependant.
class Refresher {
 public:
  Refresher(Operation& operation, const Manifest& manifest, OnChange action, Why why)
      : operation_(operation), manifest_(manifest), action_(action), why_(why) {}

  // Those that were found to be behind go to `found`.
  Result<void> run(std::vector<InstanceId>& found, bool dry_run) {
    CCTL_TRY(std::vector<Stale> stale, findStale());
    for (const Stale& one : stale) found.push_back(one.id);
    if (dry_run) return {};
    // What a person stopped gets its files, and stays stopped.
    CCTL_CHECK(each(stale, [this](const Stale& one) {
      return isHeld(one.id) ? replace(one, 0, OnChange::kNone) : Result<void>();
    }));
    std::erase_if(stale, [this](const Stale& one) { return isHeld(one.id); });
    if (stale.empty()) return {};
    if (action_ != OnChange::kRestart) return inBatches(stale, nullptr);
    const ChangeRequest change{
        "on-change restart", {manifest_.service}, Millis(0), "", false, true};
    const auto done = runChange(operation_, change, [&](Change& begun) -> Result<ChangeEnd> {
      CCTL_CHECK(inBatches(stale, &begun));
      return ChangeEnd{};
    });
    if (!done) return fail(done.error());
    return {};
  }

  // What would follow if `of` came to have these endpoints, one after the other; for those that
  // stay stopped apart.
  Result<std::vector<DependantChange>> foresee(const ServiceName& of, const Stages& stages) {
    CCTL_TRY(const Placement placement, readPlacement());
    DependantChange change{manifest_.service, action_, batchSize(), {}};
    DependantChange stopped{manifest_.service, OnChange::kNone, batchSize(), {}};
    CCTL_TRY(const EndpointsByService now, endpointsFor(operation_.registers, manifest_));
    const auto counts = forEachOf<size_t>(operation_.fleet, placement, [&](const Placed& placed) {
      return countChanges(placed, of, stages, now);
    });
    for (size_t i = 0; i < counts.size(); ++i)
      if (!counts[i])
        operation_.events.warning(
            placement[i].instance.text(),
            fmt::format("depends on {}, and what follows for it cannot be seen now: {}", of,
                        counts[i].error().message));
      else if (*counts[i] > 0)
        (isHeld(placement[i].instance) ? stopped : change).instances[placement[i].instance] =
            *counts[i];
    std::vector<DependantChange> changes = {std::move(change), std::move(stopped)};
    std::erase_if(changes, [](const DependantChange& one) { return one.instances.empty(); });
    return changes;
  }

 private:
  Result<Placement> readPlacement() {
    CCTL_TRY(const Desired desired, readDesired(operation_.registers, manifest_.service));
    Placement placement = placementOf(manifest_.service, desired);
    placed_ = placement.size();
    for (const auto& [index, hold] : desired.held) held_.insert(index);
    return placement;
  }

  bool isHeld(const InstanceId& id) const { return held_.count(id.index) != 0; }

  Result<std::vector<Stale>> findStale() {
    CCTL_TRY(const Placement placement, readPlacement());
    CCTL_TRY(const EndpointsByService endpoints, endpointsFor(operation_.registers, manifest_));
    auto looks = forEachOf<std::optional<Stale>>(
        operation_.fleet, placement, [&](const Placed& placed) { return look(placed, endpoints); });
    std::vector<Stale> stale;
    for (size_t i = 0; i < looks.size(); ++i) {
      if (looks[i] && *looks[i]) stale.push_back(std::move(**looks[i]));
      if (!looks[i] && why_ == Why::kChanged)
        operation_.events.warning(
            placement[i].instance.text(),
            fmt::format("still has the old endpoints, the next command that reaches it brings it "
                        "up to date: {}",
                        looks[i].error().message));
    }
    return stale;
  }

  // nullopt: nothing of it is there.
  Result<std::optional<protocol::GenerationSpec>> currentOf(const Placed& placed,
                                                            HostConnection& host) {
    auto running = host.shim->call<protocol::GenerationSpec>(
        protocol::GenerationRequest{operation_.ref(placed.instance), 0},
        Deadline::in(kRequestTimeout));
    if (!running && running.error().code == Code::kNotFound) return std::nullopt;
    if (!running) return fail(running.error());
    return std::optional(std::move(*running));
  }

  static bool seesTheSame(const protocol::GenerationSpec& a, const protocol::GenerationSpec& b) {
    return a.config == b.config && a.argv == b.argv && a.env == b.env;
  }

  Result<size_t> countChanges(const Placed& placed, const ServiceName& of, const Stages& stages,
                              EndpointsByService endpoints) {
    CCTL_TRY(HostConnection * host, operation_.fleet.await(placed.host));
    CCTL_TRY(auto now, currentOf(placed, *host));
    if (!now) return 0;
    size_t count = 0;
    for (const std::vector<Endpoint>& stage : stages) {
      endpoints[of] = stage;
      CCTL_TRY(protocol::GenerationSpec next, renderAgain(placed.instance, *host, *now, endpoints));
      if (seesTheSame(next, *now)) continue;
      ++count;
      *now = std::move(next);
    }
    return count;
  }

  Result<std::optional<Stale>> look(const Placed& placed, const EndpointsByService& endpoints) {
    CCTL_TRY(HostConnection * host, operation_.fleet.await(placed.host));
    CCTL_TRY(const auto running, currentOf(placed, *host));
    if (!running) return std::nullopt;
    CCTL_TRY(protocol::GenerationSpec fresh,
             renderAgain(placed.instance, *host, *running, endpoints));
    if (seesTheSame(fresh, *running)) return std::nullopt;
    // An edit of the manifest that waits for its own deploy is no stale endpoint.
    if (why_ == Why::kLookedFor && fresh.spec_digest != running->spec_digest) return std::nullopt;
    return Stale{placed.instance, host, std::move(fresh)};
  }

  // Of the spec that runs, which need not be what the inventory says by now: only the endpoints are
  // today's.
  Result<protocol::GenerationSpec> renderAgain(const InstanceId& id, HostConnection& host,
                                               const protocol::GenerationSpec& running,
                                               const EndpointsByService& endpoints) {
    const Version version(running.version);
    GenerationRequestInput input{
        &operation_.inventory(), &manifest_,    id,        version, running.release_digest,
        running.generation,      running.ports, &endpoints};
    if (running.spec_digest == specDigest(operation_.inventory(), manifest_, version))
      return renderGeneration(host, input);
    auto spec = fetchSpec(operation_, id.service, running.spec_digest, {host.name});
    // A generation from before specs were kept on hosts.
    if (!spec) return renderGeneration(host, input);
    const Inventory then = withSpec(operation_.inventory(), std::move(*spec));
    CCTL_TRY(input.manifest, then.service(id.service.str()));
    CCTL_TRY(EndpointsByService its_own, endpointsFor(operation_.registers, *input.manifest));
    for (auto& [service, list] : its_own)
      if (const auto found = endpoints.find(service); found != endpoints.end())
        list = found->second;
    input.inventory = &then;
    input.endpoints = &its_own;
    return renderGeneration(host, input);
  }

  // Of several there is always one that is left alone.
  size_t batchSize() const {
    const auto wanted =
        static_cast<size_t>(std::max(1, manifest_.upgrade.batch.of(static_cast<int>(placed_))));
    return placed_ > 1 && action_ != OnChange::kNone ? std::min(wanted, placed_ - 1) : wanted;
  }

  Result<void> inBatches(const std::vector<Stale>& stale, const Change* change) {
    const size_t size = batchSize();
    for (size_t at = 0; at < stale.size(); at += size) {
      const std::vector<Stale> batch(
          stale.begin() + static_cast<std::ptrdiff_t>(at),
          stale.begin() + static_cast<std::ptrdiff_t>(std::min(stale.size(), at + size)));
      if (change) CCTL_CHECK(change->held());
      CCTL_CHECK(change ? restartBatch(batch, *change) : reloadBatch(batch));
    }
    return {};
  }

  // ---- files, and SIGHUP ----

  Result<void> reloadBatch(const std::vector<Stale>& batch) {
    CCTL_CHECK(each(batch, [this](const Stale& one) { return replace(one, 0, action_); }));
    if (action_ == OnChange::kNone) return {};
    return each(batch, [this](const Stale& one) { return awaitReady(one); });
  }

  Result<void> replace(const Stale& one, uint64_t token, OnChange action) {
    protocol::ReconfigureRequest request;
    request.instance = operation_.ref(one.id);
    request.generation = one.fresh.generation;
    request.argv = one.fresh.argv;
    request.env = one.fresh.env;
    request.config = one.fresh.config;
    request.secrets = one.fresh.secrets;
    request.signal = action == OnChange::kReload ? SIGHUP : 0;
    request.caller = operation_.caller(token);
    CCTL_TRY(const auto done,
             one.host->shim->call<protocol::Empty>(request, Deadline::in(kRequestTimeout)));
    (void)done;
    if (action != OnChange::kRestart)
      operation_.events.step(one.id.text(), action == OnChange::kReload
                                                ? "config follows the new endpoints, reloaded"
                                                : "config follows the new endpoints");
    return {};
  }

  // One that SIGHUP ended is started again by its shim: that is waited for, too. What is down by
  // order, or was down before, is not waited for.
  Result<void> awaitReady(const Stale& one) {
    const Deadline end = Deadline::in(manifest_.health.start_timeout);
    for (;;) {
      CCTL_TRY(const HostReport report,
               probeHostStatus(*one.host, manifest_.service.str(), operation_.cancel));
      const auto found =
          std::find_if(report.instances.begin(), report.instances.end(), [&](const auto& status) {
            return status.index == one.id.index && status.generation == one.fresh.generation;
          });
      using S = protocol::InstanceState;
      if (found == report.instances.end() || !found->wanted || found->state == S::kReady) return {};
      if (found->state == S::kFailed || end.passed())
        return fail(Code::kFailed, "{} is {} after it was told of the new endpoints", one.id,
                    protocol::stateName(found->state));
      CCTL_CHECK(pauseFor(kLookEvery, operation_.cancel));
    }
  }

  // ---- restart ----

  Result<void> restartBatch(const std::vector<Stale>& batch, const Change& change) {
    CCTL_TRY(const std::vector<Endpoint> withdrawn, withdraw(batch));
    Result<void> restarted = each(
        batch, [&](const Stale& one) { return restart(one, change.caller(manifest_.service)); });
    std::vector<Endpoint> back;
    for (const Endpoint& endpoint : withdrawn)
      if (down_.count(endpoint.instance) == 0) back.push_back(endpoint);
    if (!back.empty())
      CCTL_CHECK(changeEndpoints([&](std::vector<Endpoint>& endpoints) {
        endpoints.insert(endpoints.end(), back.begin(), back.end());
      }));
    return restarted;
  }

  Result<std::vector<Endpoint>> withdraw(const std::vector<Stale>& batch) {
    const auto leaving = [&](const Endpoint& endpoint) {
      return std::any_of(batch.begin(), batch.end(),
                         [&](const Stale& one) { return one.id == endpoint.instance; });
    };
    CCTL_TRY(const ServiceEndpoints before, readEndpoints(operation_.registers, manifest_.service));
    std::vector<Endpoint> withdrawn;
    std::copy_if(before.endpoints.begin(), before.endpoints.end(), std::back_inserter(withdrawn),
                 leaving);
    if (withdrawn.empty()) return withdrawn;
    CCTL_CHECK(changeEndpoints(
        [&](std::vector<Endpoint>& endpoints) { std::erase_if(endpoints, leaving); }));
    std::vector<OldGeneration> items;
    for (const Endpoint& endpoint : withdrawn) items.push_back({endpoint.instance, endpoint.host});
    CCTL_CHECK(drainConnections(operation_, items, manifest_.upgrade.drain, nullptr));
    return withdrawn;
  }

  // Files and restart in one go: between the two it would run with what its files no longer say.
  Result<void> restart(const Stale& one, const protocol::Caller& caller) {
    auto done = [&]() -> Result<void> {
      CCTL_CHECK(replace(one, caller.token, action_));
      const Millis limit = kRequestTimeout + manifest_.health.start_timeout + manifest_.stop.grace;
      CCTL_TRY(const auto reply,
               one.host->shim->call<protocol::StartReply>(
                   protocol::RestartRequest{operation_.ref(one.id), caller}, Deadline::in(limit)));
      if (reply.state == protocol::InstanceState::kReady) return {};
      return fail(Code::kFailed, "{}: not ready after its restart: {}", one.id, reply.problem);
    }();
    if (!done) {
      const std::lock_guard lock(mutex_);
      down_.insert(one.id);
      return done;
    }
    operation_.events.step(one.id.text(), "restarted with the new endpoints");
    return {};
  }

  Result<void> changeEndpoints(const std::function<void(std::vector<Endpoint>&)>& change) {
    CCTL_CHECK(updateEndpoints(operation_.registers, manifest_.service, change));
    CCTL_CHECK(pushNames(operation_, {manifest_.service}, allHosts(operation_.inventory())));
    refreshDependants(operation_, manifest_.service);
    return {};
  }

  // All of a batch at once; the first failure is the batch's.
  Result<void> each(const std::vector<Stale>& batch,
                    const std::function<Result<void>(const Stale&)>& work) {
    const auto results = doForEach(operation_.fleet, batch, work);
    for (const auto& result : results)
      if (!result) return fail(result.error());
    return {};
  }

  Operation& operation_;
  const Manifest& manifest_;
  const OnChange action_;
  const Why why_;
  size_t placed_ = 0;
  std::set<int> held_;
  std::mutex mutex_;
  std::set<InstanceId> down_;  // not ready after the restart; guarded by mutex_
};

std::vector<InstanceId> refresh(Operation& operation, const Manifest& dependant, OnChange action,
                                Why why, bool dry_run) {
  std::vector<InstanceId> found;
  auto refreshed = Refresher(operation, dependant, action, why).run(found, dry_run);
  // Under this very command's lock: it comes to it when that is free, at its end.
  if (!refreshed && refreshed.error().code == Code::kLocked &&
      operation.registers.isGuarded(dependant.service))
    return {};
  if (!refreshed) {
    found.clear();
    operation.events.warning(
        dependant.service.str(),
        fmt::format(
            "was not brought up to date with new endpoints, the next command tries again: {}",
            refreshed.error().message));
  }
  return found;
}

// What an unknown change asks for: the strongest that any of its dependencies would.
OnChange strongestAction(const Manifest& manifest) {
  OnChange strongest = OnChange::kNone;
  for (const auto& [service, action] : manifest.on_change) strongest = std::max(strongest, action);
  return strongest;
}

// What others see of a restart: each batch leaves the registry and comes back.
Stages stagesOfRestart(const DependantChange& change, const std::vector<Endpoint>& published) {
  Stages stages;
  size_t most = 0;
  for (const auto& [id, count] : change.instances) most = std::max(most, count);
  for (size_t turn = 0; turn < most; ++turn) {
    std::set<InstanceId> batch;
    const auto leave = [&] {
      std::vector<Endpoint> rest = published;
      std::erase_if(rest, [&](const Endpoint& one) { return batch.count(one.instance) != 0; });
      if (rest != published) stages.insert(stages.end(), {std::move(rest), published});
      batch.clear();
    };
    for (const auto& [id, count] : change.instances) {
      if (count > turn) batch.insert(id);
      if (batch.size() == change.batch) leave();
    }
    leave();
  }
  return stages;
}

void add(const DependantChange& change, std::vector<DependantChange>& all) {
  const auto same = std::find_if(all.begin(), all.end(), [&](const DependantChange& known) {
    return known.service == change.service && known.action == change.action;
  });
  if (same == all.end()) {
    all.push_back(change);
    return;
  }
  for (const auto& [id, count] : change.instances) same->instances[id] += count;
}

// The graph has no cycles.
Result<void> foresee(Operation& operation, const ServiceName& service, const Stages& stages,
                     std::vector<DependantChange>& all) {
  const ServiceMap& services = operation.inventory().services;
  if (stages.empty()) return {};
  for (const ServiceName& name : directDependants(services, service)) {
    const Manifest& manifest = services.at(name);
    CCTL_TRY(const std::vector<DependantChange> changes,
             Refresher(operation, manifest, actionFor(manifest, service), Why::kChanged)
                 .foresee(service, stages));
    for (const DependantChange& change : changes) {
      add(change, all);
      if (change.action != OnChange::kRestart) continue;
      CCTL_TRY(const ServiceEndpoints published, readEndpoints(operation.registers, name));
      CCTL_CHECK(foresee(operation, name, stagesOfRestart(change, published.endpoints), all));
    }
  }
  return {};
}

}  // namespace

void refreshDependants(Operation& operation, const ServiceName& service) {
  const Inventory& inventory = operation.inventory();
  for (const ServiceName& name : directDependants(inventory.services, service)) {
    const Manifest& dependant = inventory.services.at(name);
    refresh(operation, dependant, actionFor(dependant, service), Why::kChanged, false);
  }
}

std::vector<InstanceId> refreshStale(Operation& operation, bool dry_run) {
  const Inventory& inventory = operation.inventory();
  std::vector<InstanceId> found;
  for (const ServiceName& name : startOrder(inventory.services)) {
    const Manifest& manifest = inventory.services.at(name);
    if (manifest.depends_on.empty()) continue;
    const auto more =
        refresh(operation, manifest, strongestAction(manifest), Why::kLookedFor, dry_run);
    found.insert(found.end(), more.begin(), more.end());
  }
  return found;
}

Result<std::vector<DependantChange>> foreseeDependants(Operation& operation,
                                                       const ServiceName& service,
                                                       const Stages& stages) {
  std::vector<DependantChange> all;
  CCTL_CHECK(foresee(operation, service, stages, all));
  return all;
}

}  // namespace cctl::ops
