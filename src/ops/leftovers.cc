#include "ops/leftovers.h"

#include <algorithm>

#include "ops/drain_connections.h"
#include "ops/probe.h"

namespace cctl::ops {
namespace {

constexpr Millis kLongestStop{3'600'000};  // the shim knows the grace

bool isPublished(const HostName& host, const protocol::InstanceStatus& status,
                 const std::vector<Endpoint>& published) {
  return std::any_of(published.begin(), published.end(), [&](const Endpoint& endpoint) {
    const std::map<std::string, int> ports(endpoint.ports.begin(), endpoint.ports.end());
    return endpoint.instance.index == status.index && endpoint.host == host &&
           ports == status.ports;
  });
}

Result<void> stopOne(Operation& operation, const Lease& lease, const Leftover& leftover) {
  operation.events.warning(
      leftover.id.text(),
      fmt::format("stopping generation {} ({}) on {}, left over from a roll-out that did not end",
                  leftover.generation, leftover.version, leftover.host));
  CCTL_TRY(HostConnection * host, operation.fleet.await(leftover.host));
  const protocol::InstanceRef ref = operation.ref(leftover.id);
  const protocol::Caller caller = operation.caller(lease.token());
  const Deadline deadline = Deadline::in(kLongestStop);
  const auto done =
      leftover.elsewhere
          ? host->shim->call<protocol::StopReply>(protocol::ForgetRequest{ref, caller}, deadline)
          : host->shim->call<protocol::StopReply>(
                protocol::StopRequest{ref, leftover.generation, false, caller}, deadline);
  if (!done) return fail(done.error());
  return {};
}

}  // namespace

std::vector<Leftover> leftoversIn(const HostName& host,
                                  const std::vector<protocol::InstanceStatus>& instances,
                                  const std::vector<Endpoint>& published,
                                  const std::map<int, std::string>& placement) {
  std::vector<Leftover> leftovers;
  for (const protocol::InstanceStatus& status : instances) {
    const bool runs = status.pid != 0 || status.wanted;
    const auto placed = placement.find(status.index);
    const bool elsewhere = placed == placement.end() || placed->second != host.str();
    if (runs && (elsewhere || !status.current) && !isPublished(host, status, published))
      leftovers.push_back({InstanceId{ServiceName(status.service), status.index}, host,
                           status.generation, status.version, elsewhere});
  }
  return leftovers;
}

Result<void> stopLeftovers(Operation& operation, const Lease& lease, const ServiceName& service,
                           const std::vector<HostName>& hosts, Keep keep) {
  ServiceEndpoints kept;
  if (keep == Keep::kPublished) {
    CCTL_TRY(kept, readEndpoints(operation.registers, service));
  }
  CCTL_TRY(const Desired desired, readDesired(operation.registers, service));
  HostErrors unreachable;  // left out, as whoever calls has told
  const auto connected = connectedOf(operation.fleet, hosts, unreachable);
  std::vector<Leftover> leftovers;
  for (const auto& [host, report] : probeAll(operation, connected, service.str())) {
    if (!report) return fail(report.error());
    const auto here = leftoversIn(host, report->instances, kept.endpoints, desired.placement);
    leftovers.insert(leftovers.end(), here.begin(), here.end());
  }
  if (leftovers.empty()) return {};
  std::vector<OldGeneration> items;
  for (const Leftover& one : leftovers) items.push_back({one.id, one.host, one.generation, true});
  const Manifest* manifest = operation.inventory().findService(service);
  CCTL_CHECK(
      drainLeftBehind(operation, service, items, manifest ? manifest->upgrade.drain : kLeastDrain));
  for (const Leftover& leftover : leftovers) CCTL_CHECK(stopOne(operation, lease, leftover));
  return {};
}

Result<std::vector<LockState>> findLeftBehind(Operation& operation) {
  auto locks = readAllLocks(operation.registers);
  if (!locks && locks.error().code == Code::kCorrupt) {
    operation.events.warning("", locks.error().message);
    return std::vector<LockState>();
  }
  if (!locks) return locks;
  std::erase_if(*locks, [&](const LockState& lock) {
    return !isLeftBehind(lock, operation.identity) || !parseServiceName(lock.service);
  });
  return locks;
}

Result<std::vector<ServiceName>> settleLeftBehind(Operation& operation, const std::string& action) {
  CCTL_TRY(const std::vector<LockState> locks, findLeftBehind(operation));
  const std::vector<HostName> hosts = allHosts(operation.inventory());
  if (!locks.empty()) operation.fleet.begin(hosts, Need::kShim);
  std::vector<ServiceName> settled;
  for (const LockState& lock : locks) {
    const ServiceName service(lock.service);
    ChangeRequest change{action, {service}, Millis(0), "", false, true};
    const auto done = runChange(operation, change, [&](Change& begun) -> Result<ChangeEnd> {
      CCTL_CHECK(stopLeftovers(operation, begun.lease(service), service, hosts, Keep::kPublished));
      CCTL_CHECK(settleUnfinished(operation, service));
      return ChangeEnd();
    });
    if (done) settled.push_back(service);
    if (!done && done.error().code != Code::kLocked) return fail(done.error());
  }
  return settled;
}

Result<bool> allRun(Operation& operation, const ServiceName& service, const Desired& desired) {
  for (const Placed& placed : placementOf(service, desired)) {
    if (!operation.inventory().findHost(placed.host)) return false;
    auto host = operation.fleet.await(placed.host);
    if (!host) return false;
    CCTL_TRY(const HostReport report, probeHostStatus(**host, service.str(), operation.cancel));
    for (const protocol::InstanceStatus& status : report.instances)
      if (status.index == placed.instance.index && status.current &&
          status.version != desired.version)
        return false;
  }
  return true;
}

Result<void> settleUnfinished(Operation& operation, const ServiceName& service) {
  CCTL_TRY(const Desired desired, readDesired(operation.registers, service));
  if (desired.rolling_to.empty()) return {};
  CCTL_TRY(const bool settled, allRun(operation, service, desired));
  const std::string what = fmt::format("the roll-out of {} that did not end", desired.unfinished());
  if (!settled) {
    operation.events.warning(service.str(),
                             fmt::format("{0} is still there in part; finish it with 'clusterctl "
                                         "deploy {1} {2}', or deploy another version",
                                         what, service, desired.rolling_to));
    return {};
  }
  operation.events.warning(
      service.str(), desired.version.empty() ? what + " is undone: nothing of it runs"
                     : desired.version == desired.rolling_to
                         ? what + " is done: it runs everywhere"
                         : fmt::format("{} is undone: {} runs everywhere", what, desired.version));
  CCTL_CHECK(updateDesired(operation.registers, service, [](Desired& now) {
    now.rolling_to.clear();
    now.rolling_by.clear();
    if (now.version.empty()) now.placement.clear();
  }));
  return {};
}

Result<HostErrors> settleUnder(Operation& operation, const ChangeRequest& change) {
  return runChange(operation, change, [&](Change&) -> Result<ChangeEnd> {
    for (const ServiceName& service : change.services)
      CCTL_CHECK(settleUnfinished(operation, service));
    return ChangeEnd();
  });
}

}  // namespace cctl::ops
