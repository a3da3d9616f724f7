#include "ops/apply.h"

#include <algorithm>

#include "base/text.h"
#include "model/dependency_graph.h"
#include "ops/change.h"
#include "ops/leftovers.h"
#include "ops/probe.h"
#include "ops/release_source.h"

namespace cctl::ops {
namespace {

// A service without a manifest is stopped by the limits that its hosts were given.
constexpr Millis kLongestStop{600'000};

Manifest standIn(const ServiceName& service) {
  Manifest manifest;
  manifest.service = service;
  manifest.stop.grace = kLongestStop;
  return manifest;
}

// For planning alone, the digest is all that matters of a release.
ReleaseSource onlyDigest(const ServicePlan& plan) {
  ReleaseSource release;
  release.info.service = plan.service;
  release.info.version = plan.version;
  release.info.digest = plan.release_digest;
  return release;
}

DeployRequest deployRequest(const ServicePlan& plan, const ApplyRequest& request) {
  DeployRequest deploy;
  deploy.service = plan.service;
  deploy.version = plan.version;
  deploy.action = "apply";
  deploy.lock_wait = request.lock_wait;
  deploy.skip_unreachable = request.skip_unreachable;
  return deploy;
}

Result<void> approveWithin(const ServicePlan& approved, const PlanInput& input, const Plan& plan) {
  const std::vector<std::string> more = beyond(input, plan, approved.planned, approved.plan);
  if (more.empty()) return {};
  return fail(Code::kStalePlan,
              "{}: things changed since the plan was made, and it would now also {}; make the plan "
              "again",
              approved.service, fmt::join(more, ", "));
}

// ---- services that left the inventory ----------------------------------------------------------

std::vector<HostName> hostsOf(const Inventory& inventory, const Desired& desired,
                              const ServiceEndpoints& endpoints) {
  std::set<HostName> hosts;
  for (const auto& [index, host] : desired.placement) hosts.insert(HostName(host));
  for (const Endpoint& endpoint : endpoints.endpoints) hosts.insert(endpoint.host);
  std::vector<HostName> known;
  for (const HostName& host : hosts)
    if (inventory.findHost(host) != nullptr) known.push_back(host);
  return known;
}

// Withdraw, let clients move on, take off: everything that is known of it.
Plan planRemoval(const std::vector<ObservedInstance>& observed, const ServiceEndpoints& published) {
  WithdrawStep withdraw;
  ForgetStep forget;
  std::set<Placed> seen;
  for (const Endpoint& endpoint : published.endpoints) withdraw.items.push_back(endpoint.instance);
  for (const ObservedInstance& one : observed)
    if (seen.insert({one.id, one.host}).second)
      forget.items.push_back({one.id, one.host, one.generation, one.running});
  Plan plan;
  if (withdraw.items.empty() && forget.items.empty()) return plan;
  Wave wave;
  wave.title = "remove all of it";
  if (!withdraw.items.empty()) wave.steps = {withdraw, DrainStep{forget.items, kLeastDrain}};
  if (!forget.items.empty()) wave.steps.emplace_back(forget);
  plan.waves.push_back(std::move(wave));
  return plan;
}

Result<std::vector<ObservedInstance>> observeGone(Operation& operation,
                                                  const std::vector<HostConnection*>& hosts,
                                                  const ServiceName& service) {
  std::vector<ObservedInstance> all;
  for (const auto& [host, report] : probeAll(operation, hosts, service.str())) {
    if (!report) return fail(report.error());
    for (const protocol::InstanceStatus& status : report->instances)
      all.push_back(observedFrom(host, status));
  }
  return all;
}

Result<void> planGone(Operation& operation, const ApplyRequest& request, ServicePlan& plan) {
  CCTL_TRY(const Desired desired, readDesired(operation.registers, plan.service));
  CCTL_TRY(const ServiceEndpoints endpoints, readEndpoints(operation.registers, plan.service));
  plan.version = Version(desired.version);
  plan.desired_revision = desired.revision;
  plan.endpoints_revision = endpoints.revision;
  const std::vector<HostName> hosts = hostsOf(operation.inventory(), desired, endpoints);
  operation.fleet.begin(hosts, Need::kShim);
  CCTL_TRY(ConcernedHosts usable,
           awaitConcerned(operation, hosts, request.skip_unreachable ? kAnyNumber : 0));
  plan.skipped = std::move(usable.skipped);
  plan.planned.version = plan.version;
  CCTL_TRY(plan.planned.observed, observeGone(operation, usable.connected, plan.service));
  plan.plan = planRemoval(plan.planned.observed, endpoints);
  return {};
}

Result<void> removeUnderLock(Operation& operation, const ApplyRequest& request,
                             const ServicePlan& approved, Change& change, DeployOutcome& outcome) {
  ServicePlan now;
  now.service = approved.service;
  now.gone = true;
  CCTL_CHECK(planGone(operation, request, now));
  CCTL_CHECK(approveWithin(approved, now.planned, now.plan));
  change.note(now.service, {now.version.str(), "", {}});
  const Manifest manifest = standIn(now.service);
  RolloutInput input;
  input.inventory = &operation.inventory();
  input.manifest = &manifest;
  input.version = now.version;
  input.most_unreachable = input.unreachable_before = now.skipped.size();
  Rollout rollout(operation, std::move(input), change.lease(now.service));
  auto done = rollout.run(now.plan);
  outcome.plan = now.plan;
  outcome.skipped = now.skipped;
  if (!done) outcome.error = done.error();
  if (!done || !now.skipped.empty()) return {};
  operation.reached("forget");
  auto forgotten = updateDesired(operation.registers, now.service,
                                 [](Desired& desired) { desired = Desired{}; });
  if (!forgotten) outcome.error = forgotten.error();
  return {};
}

Result<DeployOutcome> removeGone(Operation& operation, const ApplyRequest& request,
                                 const ServicePlan& approved) {
  DeployOutcome outcome;
  const auto work = [&](Change& change) -> Result<ChangeEnd> {
    CCTL_CHECK(removeUnderLock(operation, request, approved, change, outcome));
    return ChangeEnd::of(outcome.error);
  };
  CCTL_TRY(outcome.missed,
           runChange(operation, {"apply", {approved.service}, request.lock_wait, ""}, work));
  return outcome;
}

// ---- services of the inventory -----------------------------------------------------------------

Result<void> planPresent(Operation& operation, const ApplyRequest& request, ServicePlan& plan) {
  CCTL_TRY(const Desired desired, readDesired(operation.registers, plan.service));
  plan.version = Version(desired.version);
  plan.desired_revision = desired.revision;
  plan.unfinished = desired.rolling_to;
  CCTL_TRY(const auto lock, readLock(operation.registers, plan.service.str()));
  if (lock)
    (isLeftBehind(*lock, operation.identity) ? plan.left_behind : plan.under_way) =
        describeLock(*lock);
  if (desired.version.empty()) return {};
  CCTL_TRY(const auto digest, readReleaseDigest(operation.registers, plan.service, plan.version));
  plan.release_digest = digest.value_or("");
  CCTL_TRY(const ServiceEndpoints endpoints, readEndpoints(operation.registers, plan.service));
  plan.endpoints_revision = endpoints.revision;
  DeployRequest dry = deployRequest(plan, request);
  dry.dry_run = true;
  CCTL_TRY(DeployOutcome outcome, deploy(operation, dry, onlyDigest(plan)));
  plan.planned = std::move(outcome.planned);
  plan.plan = std::move(outcome.plan);
  plan.dependants = std::move(outcome.dependants);
  plan.skipped = std::move(outcome.skipped);
  return {};
}

Result<std::vector<ServicePlan>> servicesToPlan(Operation& operation, const ApplyRequest& request) {
  const Inventory& inventory = operation.inventory();
  CCTL_TRY(const std::vector<ServiceName> deployed, deployedServices(operation.registers));
  std::vector<ServicePlan> plans;
  const auto add = [&](const ServiceName& service, bool gone) {
    if (request.service && *request.service != service) return;
    ServicePlan& plan = plans.emplace_back();
    plan.service = service;
    plan.gone = gone;
  };
  for (const ServiceName& service : startOrder(inventory.services)) add(service, false);
  for (const ServiceName& service : deployed)
    if (inventory.findService(service) == nullptr) add(service, true);
  if (plans.empty() && request.service) CCTL_CHECK(inventory.service(request.service->str()));
  return plans;
}

bool isEmptyService(const ServicePlan& plan) { return plan.plan.empty() && !plan.gone; }

bool isPassedOver(const ServicePlan& plan) { return isEmptyService(plan) && !plan.hasLeftover(); }

using Releases = std::map<ServiceName, ReleaseSource>;

// Every release that something will be started from, before anything is changed.
Result<Releases> bringReleases(Operation& operation, const ClusterPlan& approved, bool dry_run) {
  Releases releases;
  for (const ServicePlan& plan : approved.services) {
    if (plan.gone || plan.version.empty() || isPassedOver(plan)) continue;
    CCTL_TRY(releases[plan.service], bringRelease(operation, plan.service, plan.version, dry_run));
  }
  return releases;
}

// A first deploy that was killed: there is no version to bring about. Its lock is freed, and what
// can be done is said.
Result<DeployOutcome> settleFirst(Operation& operation, const ApplyRequest& request,
                                  const ServicePlan& plan) {
  DeployOutcome outcome;
  CCTL_TRY(outcome.missed,
           settleUnder(operation, {"apply", {plan.service}, request.lock_wait, ""}));
  return outcome;
}

Result<DeployOutcome> applyOne(Operation& operation, const ApplyRequest& request,
                               const ServicePlan& plan, const Releases& releases) {
  if (plan.gone) return removeGone(operation, request, plan);
  if (plan.version.empty()) return settleFirst(operation, request, plan);
  DeployRequest deploy_request = deployRequest(plan, request);
  deploy_request.approve = [&plan](const PlanInput& input, const Plan& now) {
    return approveWithin(plan, input, now);
  };
  return deploy(operation, deploy_request, releases.at(plan.service));
}

}  // namespace

bool ServicePlan::hasRemovals() const {
  if (gone) return true;
  const std::vector<PlannedChange> all = changes();
  return std::any_of(all.begin(), all.end(), [](const PlannedChange& change) {
    return change.kind == ChangeKind::kRemove;
  });
}

// A first deploy that did not end leaves nothing to go on with but its lock.
bool ServicePlan::hasLeftover() const {
  return !left_behind.empty() || (!unfinished.empty() && !version.empty());
}

bool ClusterPlan::empty() const {
  return std::all_of(services.begin(), services.end(), isEmptyService);
}

bool ClusterPlan::hasRemovals() const {
  return std::any_of(services.begin(), services.end(),
                     [](const ServicePlan& plan) { return plan.hasRemovals(); });
}

bool ClusterPlan::hasLeftovers() const {
  return std::any_of(services.begin(), services.end(),
                     [](const ServicePlan& plan) { return plan.hasLeftover(); });
}

Result<ClusterPlan> planCluster(Operation& operation, const ApplyRequest& request) {
  operation.fleet.begin(operation.inventory().registry_hosts, Need::kPlaced);
  ClusterPlan cluster;
  CCTL_TRY(cluster.drained, readDrained(operation.registers));
  CCTL_TRY(cluster.services, servicesToPlan(operation, request));
  for (ServicePlan& plan : cluster.services)
    CCTL_CHECK(plan.gone ? planGone(operation, request, plan)
                         : planPresent(operation, request, plan));
  return cluster;
}

Result<void> checkApply(Operation& operation, const ApplyRequest& request,
                        const ClusterPlan& approved) {
  CCTL_TRY(const Releases releases, bringReleases(operation, approved, true));
  for (const ServicePlan& plan : approved.services) {
    if (isPassedOver(plan)) continue;
    CCTL_CHECK(checkUnlocked(operation, {plan.service}, request.lock_wait));
    if (plan.gone || plan.version.empty()) continue;
    DeployRequest dry = deployRequest(plan, request);
    dry.dry_run = true;
    CCTL_CHECK(deploy(operation, dry, releases.at(plan.service)));
  }
  return {};
}

Result<ApplyOutcome> applyPlan(Operation& operation, const ApplyRequest& request,
                               const ClusterPlan& approved) {
  const auto before = std::chrono::steady_clock::now();
  CCTL_TRY(const Releases releases, bringReleases(operation, approved, false));
  ApplyOutcome outcome;
  for (const ServicePlan& plan : approved.services) {
    if (isPassedOver(plan)) continue;
    auto applied = applyOne(operation, request, plan, releases);
    if (!applied && outcome.services.empty()) return fail(applied.error());
    if (!applied) {
      outcome.error = applied.error();
      break;
    }
    outcome.missed = applied->missed;
    outcome.error = applied->error;
    outcome.services.push_back({plan.service, plan.version, plan.gone, std::move(*applied)});
    if (outcome.error) break;
  }
  outcome.took = std::chrono::duration_cast<Millis>(std::chrono::steady_clock::now() - before);
  return outcome;
}

}  // namespace cctl::ops
