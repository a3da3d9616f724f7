// Who depends on whom, and so who starts first.
#pragma once

#include <map>
#include <set>
#include <vector>

#include "model/manifest.h"

namespace cctl {

using ServiceMap = std::map<ServiceName, Manifest>;

// Every service after all that it depends on; by name where that leaves a choice. Services in a
// cycle (refused when loading) come last.
std::vector<ServiceName> startOrder(const ServiceMap& services);
// Those of `among`, in that order: what starts first. What stops first is the reverse. Names that
// are not in `services` (a manifest taken out of the inventory) come last.
std::vector<ServiceName> startOrder(const ServiceMap& services, const std::set<ServiceName>& among);
std::vector<ServiceName> stopOrder(const ServiceMap& services, const std::set<ServiceName>& among);

// Services that name `service` in depends_on.
std::vector<ServiceName> directDependants(const ServiceMap& services, const ServiceName& service);
// The same, and theirs, and so on; in start order.
std::vector<ServiceName> allDependants(const ServiceMap& services, const ServiceName& service);
std::vector<ServiceName> allDependencies(const ServiceMap& services, const ServiceName& service);

// Cycles that have no service in common, each as a path that ends where it began: a b c a. Empty
// when there is none at all.
std::vector<std::vector<ServiceName>> findCycles(const ServiceMap& services);

}  // namespace cctl
