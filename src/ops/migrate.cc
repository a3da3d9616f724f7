#include "ops/migrate.h"

#include <algorithm>

#include "model/dependency_graph.h"
#include "model/spec.h"
#include "ops/change.h"
#include "ops/leftovers.h"
#include "ops/release_source.h"
#include "ops/specs.h"
#include "ops/sync.h"

namespace cctl::ops {
namespace {

// Everything that is placed anywhere, by service.
using AllDesired = std::map<ServiceName, Desired>;

MoveInput moveInput(const Inventory& inventory, const Manifest& manifest, const AllDesired& all,
                    std::set<HostName> closed) {
  MoveInput input;
  input.inventory = &inventory;
  input.manifest = &manifest;
  input.closed = std::move(closed);
  for (const auto& [service, desired] : all) {
    const Placement placement = placementOf(service, desired);
    if (service == manifest.service)
      input.placement = placement;
    else
      input.others.insert(input.others.end(), placement.begin(), placement.end());
  }
  return input;
}

void noteMove(MoveInput& input, const Move& move) {
  for (Placed& placed : input.placement)
    if (placed.instance == move.id) placed.host = move.to;
}

std::vector<InstanceId> idsOf(const Placement& placement) {
  std::vector<InstanceId> ids;
  for (const Placed& placed : placement) ids.push_back(placed.instance);
  return ids;
}

struct MoveSettings {
  std::string action;
  Millis lock_wait{0};
  bool skip_unreachable = false;
  bool dry_run = false;
};

// The inventory with the service as it is deployed; nullopt: it says so itself. Its manifest may
// have been edited since, which is for a deploy or apply to bring.
Result<std::optional<Inventory>> asDeployed(Operation& operation, const ServiceMoves& moves) {
  const Inventory& inventory = operation.inventory();
  CCTL_TRY(const Manifest* manifest, inventory.service(moves.service.str()));
  if (moves.spec.empty() || moves.spec == specDigest(inventory, *manifest, moves.version))
    return std::optional<Inventory>();
  CCTL_TRY(const Desired desired, readDesired(operation.registers, moves.service));
  const std::vector<HostName> hosts = hostsToAsk(inventory, desired);
  operation.fleet.begin(hosts, Need::kShim);
  auto spec = fetchSpec(operation, moves.service, moves.spec, hosts);
  if (!spec)
    return fail(spec.error().context(
        fmt::format("{}: nothing was moved: its manifest was changed since {} was deployed, and "
                    "what was deployed cannot be had; 'clusterctl apply {}' first",
                    moves.service, moves.version, moves.service)));
  return std::optional(withSpec(inventory, std::move(*spec)));
}

// One service's moves, as a roll-out of what is deployed to other places.
Result<DeployOutcome> carryOut(Operation& operation, const MoveSettings& settings,
                               const ServiceMoves& moves, const ReleaseSource& release,
                               const std::optional<Inventory>& as_deployed) {
  DeployRequest request;
  request.action = settings.action;
  request.service = moves.service;
  request.version = moves.version;
  request.lock_wait = settings.lock_wait;
  request.skip_unreachable = settings.skip_unreachable;
  request.dry_run = settings.dry_run;
  if (as_deployed) request.inventory = &*as_deployed;
  for (const Move& move : moves.moves) request.moves[move.id.index] = move.to;
  return deploy(operation, request, release);
}

// All of them, one service after the other, until one fails. Releases and specs are looked at
// before the first is begun.
Result<MigrateOutcome> carryOutAll(Operation& operation, const MoveSettings& settings,
                                   std::vector<ServiceMoves> services,
                                   const std::function<Result<void>()>& before) {
  const auto begun = std::chrono::steady_clock::now();
  std::vector<ReleaseSource> releases;
  std::vector<std::optional<Inventory>> as_deployed;
  for (const ServiceMoves& moves : services) {
    CCTL_TRY(as_deployed.emplace_back(), asDeployed(operation, moves));
    CCTL_TRY(releases.emplace_back(),
             bringRelease(operation, moves.service, moves.version, settings.dry_run));
  }
  for (const ServiceMoves& moves : services)
    if (settings.dry_run) CCTL_CHECK(checkUnlocked(operation, {moves.service}, settings.lock_wait));
  CCTL_CHECK(before());
  MigrateOutcome outcome;
  outcome.services = std::move(services);
  for (size_t i = 0; i < outcome.services.size() && !outcome.error; ++i) {
    ServiceMoves& moves = outcome.services[i];
    auto moved = carryOut(operation, settings, moves, releases[i], as_deployed[i]);
    if (!moved) {
      outcome.error = moved.error();
    } else {
      outcome.error = moved->error;
      outcome.missed = moved->missed;
      moves.outcome = std::move(*moved);
    }
  }
  outcome.took = std::chrono::duration_cast<Millis>(std::chrono::steady_clock::now() - begun);
  return outcome;
}

// ---- migrate -----------------------------------------------------------------------------------

Result<std::vector<Placed>> chooseInstances(const MigrateRequest& request, const Desired& desired) {
  const ServiceName& service = request.target.service;
  std::vector<Placed> chosen;
  for (const Placed& placed : placementOf(service, desired)) {
    if (!request.target.covers(placed.instance)) continue;
    if (request.from && placed.host != *request.from) {
      if (request.target.index)
        return fail(Code::kUsage, "{} is on {}, not on {}", placed.instance, placed.host,
                    *request.from);
      continue;
    }
    if (desired.held.count(placed.instance.index) != 0)
      return fail(Code::kRefused, "{} is stopped; 'clusterctl start {}' first", placed.instance,
                  placed.instance);
    chosen.push_back(placed);
  }
  if (chosen.empty() && desired.version.empty())
    return fail(Code::kUsage, "{} is not deployed", service);
  if (chosen.empty())
    return fail(Code::kUsage, "{} has no such instance{}", request.target,
                request.from ? fmt::format(" on {}", *request.from) : "");
  return chosen;
}

Result<Move> planMove(MoveInput& input, const Placed& placed, const std::optional<HostName>& to) {
  Move move{placed.instance, placed.host, to.value_or(HostName())};
  if (to == placed.host) return fail(Code::kUsage, "{} is on {} already", placed.instance, *to);
  if (to) {
    CCTL_CHECK(checkNewHost(input, placed, *to));
  } else {
    CCTL_TRY(move.to, findNewHost(input, placed));
  }
  noteMove(input, move);
  return move;
}

// The work itself is done: this can be done by the next command, too.
void endLeftBehind(Operation& operation, const std::string& action) {
  if (const auto settled = settleLeftBehind(operation, action); !settled)
    operation.events.warning(
        "", "what earlier operations left was not settled: " + settled.error().message);
}

// ---- drain -------------------------------------------------------------------------------------

class Drain {
 public:
  Drain(Operation& operation, const DrainRequest& request)
      : operation_(operation), request_(request) {}

  Result<DrainOutcome> run() {
    operation_.fleet.begin(operation_.inventory().registry_hosts, Need::kShim);
    CCTL_CHECK(choose());
    if (!outcome_.stuck.empty() && request_.on_stuck == OnStuck::kRefuse) return fail(refusal());
    const MoveSettings settings{"drain", request_.lock_wait, request_.skip_unreachable,
                                request_.dry_run};
    CCTL_TRY(outcome_.moved,
             carryOutAll(operation_, settings, std::move(services_), [this] { return mark(); }));
    if (request_.on_stuck == OnStuck::kStop && !outcome_.moved.error)
      if (auto stopped = stopStuck(); !stopped) outcome_.moved.error = stopped.error();
    if (request_.dry_run) return std::move(outcome_);
    if (auto unmarked = unmarkWhenInVain(); !unmarked)
      outcome_.moved.error =
          Error{Code::kPartial, fmt::format("{}; {} stays closed to new instances: {}",
                                            outcome_.moved.error->message, request_.host,
                                            unmarked.error().message)};
    // Else what was moved or stopped has done so.
    if (outcome_.moved.services.empty() && outcome_.stopped.empty()) {
      endLeftBehind(operation_, "drain");
      outcome_.moved.missed = tellEveryHost(operation_);
    }
    return std::move(outcome_);
  }

 private:
  Result<void> choose() {
    CCTL_TRY(std::set<HostName> closed, readDrained(operation_.registers));
    outcome_.was_drained = closed.count(request_.host) != 0;
    CCTL_TRY(mark_, readHostMark(operation_.registers, request_.host));
    closed.insert(request_.host);
    CCTL_TRY(const AllDesired all, readAllDesired(operation_.registers));
    const Inventory& inventory = operation_.inventory();
    for (const ServiceName& service : startOrder(inventory.services))
      if (const auto found = all.find(service); found != all.end())
        chooseOf(moveInput(inventory, inventory.services.at(service), all, closed), found->second);
    for (const auto& [service, desired] : all)
      if (inventory.findService(service) == nullptr) chooseGone(service, desired);
    return {};
  }

  void chooseOf(MoveInput input, const Desired& desired) {
    ServiceMoves moves{
        input.manifest->service, Version(desired.version), desired.spec_digest, {}, std::nullopt};
    for (const Placed& placed : placementOf(moves.service, desired)) {
      if (placed.host != request_.host) continue;
      if (wasToBeStopped(placed.instance)) {
        outcome_.stuck.push_back(
            {placed.instance, fmt::format("{} was to be stopped before", placed.instance)});
      } else if (desired.held.count(placed.instance.index) != 0) {
        outcome_.held.push_back(placed.instance);
      } else if (auto to = findNewHost(input, placed)) {
        moves.moves.push_back({placed.instance, placed.host, *to});
        noteMove(input, moves.moves.back());
      } else {
        outcome_.stuck.push_back({placed.instance, to.error().message});
      }
    }
    if (!moves.moves.empty()) services_.push_back(std::move(moves));
  }

  // A drain that was killed may have noted that it is stopped, and not have stopped it.
  bool wasToBeStopped(const InstanceId& id) const {
    return request_.on_stuck == OnStuck::kStop &&
           std::find(mark_.stopped.begin(), mark_.stopped.end(), id) != mark_.stopped.end();
  }

  void chooseGone(const ServiceName& service, const Desired& desired) {
    for (const Placed& placed : placementOf(service, desired))
      if (placed.host == request_.host)
        outcome_.stuck.push_back(
            {placed.instance, fmt::format("{} left the inventory; 'clusterctl apply {}' removes it",
                                          placed.instance, service)});
  }

  Error refusal() const {
    std::string text =
        fmt::format("nothing was changed: not everything can leave {}:", request_.host);
    for (const Stuck& one : outcome_.stuck) text += "\n  " + one.why;
    text += "\nor use --stop to stop these until undrain, --leave to leave them running";
    return {Code::kRefused, text};
  }

  Result<void> mark() {
    if (request_.dry_run) return {};
    SystemClock clock;
    operation_.reached("mark host");
    CCTL_CHECK(updateHostMark(operation_.registers, request_.host, [&](HostMark& mark) {
      if (mark.drained) return;
      mark = {true, operation_.identity.text(), clock.wall(), {}};
    }));
    outcome_.marked = true;
    return {};
  }

  // Written down before they are stopped: an undrain starts what a killed drain had stopped.
  Result<void> stopStuck() {
    if (outcome_.stuck.empty()) return {};
    LifecycleRequest request;
    request.action = Action::kStop;
    request.lock_wait = request_.lock_wait;
    request.dry_run = request_.dry_run;
    for (const Stuck& one : outcome_.stuck)
      request.targets.push_back({one.id.service, one.id.index});
    if (!request_.dry_run) CCTL_CHECK(noteStuck());
    CCTL_TRY(LifecycleOutcome stopped, lifecycle(operation_, request));
    outcome_.stopped = request_.dry_run ? idsOf(stopped.selected) : std::move(stopped.done);
    outcome_.dependants = std::move(stopped.dependants);
    outcome_.failures = std::move(stopped.failures);
    outcome_.moved.error = stopped.error;
    return {};
  }

  Result<void> noteStuck() {
    operation_.reached("note what is stopped");
    CCTL_CHECK(updateHostMark(operation_.registers, request_.host, [&](HostMark& mark) {
      for (const Stuck& one : outcome_.stuck)
        if (std::find(mark.stopped.begin(), mark.stopped.end(), one.id) == mark.stopped.end())
          mark.stopped.push_back(one.id);
    }));
    return {};
  }

  // A drain that moved nothing and put everything back has not happened.
  Result<void> unmarkWhenInVain() {
    const MigrateOutcome& moved = outcome_.moved;
    if (!moved.error || outcome_.was_drained || moved.services.empty()) return {};
    const ServiceMoves& first = moved.services.front();
    const bool in_vain =
        !first.outcome || (first.outcome->error && first.outcome->error->code == Code::kRolledBack);
    if (!in_vain) return {};
    operation_.reached("unmark host");
    CCTL_CHECK(updateHostMark(operation_.registers, request_.host,
                              [](HostMark& mark) { mark = HostMark{}; }));
    outcome_.marked = false;
    return {};
  }

  Operation& operation_;
  const DrainRequest& request_;
  HostMark mark_;  // as it was before
  std::vector<ServiceMoves> services_;
  DrainOutcome outcome_;
};

// Of what the drain stopped: what is still stopped, and still belongs there.
Result<std::vector<Target>> stillStopped(Operation& operation, const HostName& host,
                                         const HostMark& mark) {
  std::vector<Target> targets;
  for (const InstanceId& id : mark.stopped) {
    if (operation.inventory().findService(id.service) == nullptr) continue;
    CCTL_TRY(const Desired desired, readDesired(operation.registers, id.service));
    const auto placed = desired.placement.find(id.index);
    if (placed != desired.placement.end() && placed->second == host.str() &&
        desired.held.count(id.index) != 0)
      targets.push_back({id.service, id.index});
  }
  return targets;
}

// What was stopped is kept until it runs again: an undrain that is killed can be repeated.
Result<void> open(Operation& operation, const UndrainRequest& request, const HostMark& mark,
                  UndrainOutcome& outcome) {
  CCTL_TRY(const std::vector<Target> targets, stillStopped(operation, request.host, mark));
  if (!targets.empty()) {
    LifecycleRequest start;
    start.action = Action::kStart;
    start.targets = targets;
    start.lock_wait = request.lock_wait;
    start.dry_run = request.dry_run;
    CCTL_TRY(LifecycleOutcome started, lifecycle(operation, start));
    outcome.started = request.dry_run ? idsOf(started.selected) : std::move(started.done);
    outcome.dependants = std::move(started.dependants);
    outcome.failures = std::move(started.failures);
    outcome.error = started.error;
    outcome.missed = std::move(started.missed);
  }
  if (request.dry_run) return {};
  operation.reached("unmark host");
  CCTL_CHECK(
      updateHostMark(operation.registers, request.host, [](HostMark& gone) { gone = HostMark{}; }));
  if (targets.empty()) {
    endLeftBehind(operation, "undrain");
    outcome.missed = tellEveryHost(operation);
  }
  return {};
}

// Of each service that is spread over hosts by number. What a person stopped is left alone.
Result<std::vector<ServiceMoves>> couldComeBack(Operation& operation, const HostName& host) {
  const Inventory& inventory = operation.inventory();
  CCTL_TRY(std::set<HostName> closed, readDrained(operation.registers));
  closed.erase(host);
  CCTL_TRY(const AllDesired all, readAllDesired(operation.registers));
  std::vector<ServiceMoves> services;
  for (const ServiceName& service : startOrder(inventory.services)) {
    const auto found = all.find(service);
    if (found == all.end() || found->second.version.empty()) continue;
    const Desired& desired = found->second;
    std::set<int> held;
    for (const auto& [index, hold] : desired.held) held.insert(index);
    ServiceMoves moves{service, Version(desired.version), desired.spec_digest, {}, std::nullopt};
    moves.moves =
        movesTowards(moveInput(inventory, inventory.services.at(service), all, closed), host, held);
    if (!moves.moves.empty()) services.push_back(std::move(moves));
  }
  return services;
}

}  // namespace

Result<MigrateOutcome> migrate(Operation& operation, const MigrateRequest& request) {
  const Inventory& inventory = operation.inventory();
  CCTL_TRY(const Manifest* manifest, inventory.service(request.target.service.str()));
  if (!request.from && !request.target.index)
    return fail(Code::kUsage, "say which: {}/INDEX, or --from HOST for all of it there",
                request.target.service);
  operation.fleet.begin(inventory.registry_hosts, Need::kShim);
  CCTL_TRY(const AllDesired all, readAllDesired(operation.registers));
  CCTL_TRY(const std::set<HostName> closed, readDrained(operation.registers));
  CCTL_TRY(const Desired desired, readDesired(operation.registers, manifest->service));
  CCTL_TRY(const std::vector<Placed> chosen, chooseInstances(request, desired));
  MoveInput input = moveInput(inventory, *manifest, all, closed);
  ServiceMoves moves{
      manifest->service, Version(desired.version), desired.spec_digest, {}, std::nullopt};
  for (const Placed& placed : chosen) {
    CCTL_TRY(const Move move, planMove(input, placed, request.to));
    moves.moves.push_back(move);
  }
  const MoveSettings settings{"migrate", request.lock_wait, request.skip_unreachable,
                              request.dry_run};
  CCTL_TRY(MigrateOutcome outcome,
           carryOutAll(operation, settings, {moves}, [] { return Result<void>(); }));
  if (outcome.error && !outcome.services.front().outcome) return fail(*outcome.error);
  return outcome;
}

Result<DrainOutcome> drain(Operation& operation, const DrainRequest& request) {
  return Drain(operation, request).run();
}

Result<UndrainOutcome> undrain(Operation& operation, const UndrainRequest& request) {
  operation.fleet.begin(operation.inventory().registry_hosts, Need::kShim);
  CCTL_TRY(const HostMark mark, readHostMark(operation.registers, request.host));
  UndrainOutcome outcome;
  outcome.was_drained = mark.drained;
  if (mark.drained) CCTL_CHECK(open(operation, request, mark, outcome));
  if (outcome.error || !(mark.drained || request.back)) return outcome;
  CCTL_TRY(outcome.back.services, couldComeBack(operation, request.host));
  if (!request.back) return outcome;
  const MoveSettings settings{"undrain", request.lock_wait, false, request.dry_run};
  auto back =
      carryOutAll(operation, settings, outcome.back.services, [] { return Result<void>(); });
  if (!back && !mark.drained) return fail(back.error());
  if (back)
    outcome.back = std::move(*back);
  else
    outcome.back.error = back.error();
  return outcome;
}

}  // namespace cctl::ops
