// What runs, as the shims of the hosts say now.
#pragma once

#include "model/plan.h"
#include "ops/operation.h"
#include "ops/render.h"

namespace cctl::ops {

struct HostReport {
  protocol::HostStatus status;
  std::vector<protocol::InstanceStatus> instances;
};

// Every instance that the shim knows; of one service, or of all when `service` is empty.
[[nodiscard]] Result<HostReport> probeHostStatus(HostConnection& host, const std::string& service,
                                                 const CancelToken* cancel);

// The same of many hosts at once.
std::map<HostName, Result<HostReport>> probeAll(Operation& operation,
                                                const std::vector<HostConnection*>& hosts,
                                                const std::string& service);

// One generation as a plan sees it; how it differs from today's rendering is not known here.
ObservedInstance observedFrom(const HostName& host, const protocol::InstanceStatus& status);

// The entry of an instance that is ready there.
Endpoint readyEndpoint(const InstanceId& id, const HostConnection& host, const Version& version,
                       const std::map<std::string, int>& ports);

// For planning: each generation, and whether it is what would be rendered from `inventory` today.
[[nodiscard]] Result<std::vector<ObservedInstance>> observe(
    Operation& operation, const std::vector<HostConnection*>& hosts, const Inventory& inventory,
    const Manifest& manifest, const Version& version, const std::string& release_digest);

}  // namespace cctl::ops
