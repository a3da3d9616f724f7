// Which instance runs on which host. Pure and deterministic.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "model/inventory.h"
#include "model/manifest.h"

namespace cctl {

struct Placed {
  InstanceId instance;
  HostName host;
  friend auto operator<=>(const Placed&, const Placed&) = default;
};

// Of one service, sorted by index.
using Placement = std::vector<Placed>;

// The hosts that a service may run on, in their order.
std::vector<HostName> eligibleHosts(const Inventory& inventory, const Manifest& manifest);

// How many instances the manifest asks for; they are numbered 0 to that less one.
int instanceCount(const Inventory& inventory, const Manifest& manifest);

// An instance stays where `previous` has it while that host is still eligible and has room; indices
// past the count are dropped (scale-down removes the highest). New ones go where the spread label
// (else the service) has the fewest instances, then to the host with the fewest of all of
// `load`, then by inventory order. Instances of `hosts:` follow the order of the list.
// Hosts that are `closed` (drained) keep what they have and get nothing new.
// kBadInput when the hosts cannot hold them.
[[nodiscard]] Result<Placement> placeInstances(const Inventory& inventory, const Manifest& manifest,
                                               const Placement& previous = {},
                                               const std::map<HostName, int>& load = {},
                                               const std::set<HostName>& closed = {});

// How full the host is for one more instance of the service, given where the others are: of the
// spread label's value, then on the host itself. Less is better.
std::pair<int, int> crowdedness(const Inventory& inventory, const Manifest& manifest,
                                const Placement& others, const HostName& host);

// Two instances on one host that ask for the same fixed port: one line each; empty when none do.
std::vector<std::string> checkFixedPorts(const Inventory& inventory,
                                         const std::vector<Placed>& placed);

}  // namespace cctl
