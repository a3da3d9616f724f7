#include "ops/leftovers.h"

#include <algorithm>

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
  const protocol::StopRequest request{operation.ref(leftover.id), leftover.generation, false,
                                      operation.caller(lease.token())};
  CCTL_TRY(const auto reply,
           host->shim->call<protocol::StopReply>(request, Deadline::in(kLongestStop)));
  (void)reply;
  return {};
}

// Whether every placed instance runs `version` and nothing else is current; false where a host
// cannot be asked.
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

}  // namespace

std::vector<Leftover> leftoversIn(const HostName& host,
                                  const std::vector<protocol::InstanceStatus>& instances,
                                  const std::vector<Endpoint>& published) {
  std::vector<Leftover> leftovers;
  for (const protocol::InstanceStatus& status : instances) {
    const bool runs = status.pid != 0 || status.wanted;
    if (runs && !status.current && !isPublished(host, status, published))
      leftovers.push_back({InstanceId{ServiceName(status.service), status.index}, host,
                           status.generation, status.version});
  }
  return leftovers;
}

Result<void> stopLeftovers(Operation& operation, const Lease& lease, const ServiceName& service,
                           const std::vector<HostName>& hosts, Keep keep) {
  ServiceEndpoints kept;
  if (keep == Keep::kPublished) {
    CCTL_TRY(kept, readEndpoints(operation.registers, service));
  }
  HostErrors unreachable;  // left out, as whoever calls has told
  const auto connected = connectedOf(operation.fleet, hosts, unreachable);
  for (const auto& [host, report] : probeAll(operation, connected, service.str())) {
    if (!report) return fail(report.error());
    for (const Leftover& leftover : leftoversIn(host, report->instances, kept.endpoints))
      CCTL_CHECK(stopOne(operation, lease, leftover));
  }
  return {};
}

Result<void> settleUnfinished(Operation& operation, const ServiceName& service) {
  CCTL_TRY(const Desired desired, readDesired(operation.registers, service));
  if (desired.rolling_to.empty()) return {};
  CCTL_TRY(const bool undone, allRun(operation, service, desired));
  if (!undone || desired.version.empty()) {
    operation.events.warning(
        service.str(),
        fmt::format("a roll-out of {0} by {1} did not end; finish it with 'clusterctl deploy {2} "
                    "{0}', or deploy another version",
                    desired.rolling_to, desired.rolling_by, service));
    return {};
  }
  operation.events.warning(service.str(),
                           fmt::format("the roll-out of {} by {} that did not end is undone: {} "
                                       "runs everywhere",
                                       desired.rolling_to, desired.rolling_by, desired.version));
  CCTL_CHECK(updateDesired(operation.registers, service, [](Desired& now) {
    now.rolling_to.clear();
    now.rolling_by.clear();
  }));
  return {};
}

}  // namespace cctl::ops
