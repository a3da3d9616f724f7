// Services whose generated configs carry the endpoints of another: brought up to date when those
// change, and told as their manifests say (on_change).
#pragma once

#include "ops/operation.h"

namespace cctl::ops {

// Renders every placed instance of every direct dependant of `service` again; where something
// differs, replaces its files and reloads or restarts it, in batches of the dependant's
// `upgrade.batch`, but never all of several at once. Each batch is ready again before the next
// begins. What a person stopped gets its files and stays stopped. A restart takes the dependant's
// own lock, and its instances leave the registry while they are down; so what depends on the
// dependant follows in turn. A dependant that cannot be refreshed is a warning: it goes on with
// what it has, until refreshStale() reaches it.
void refreshDependants(Operation& operation, const ServiceName& service);

// The same for every service that has dependencies, whatever changed: what an earlier command could
// not reach, or did not come to before it was killed. At the end of every changing command, and in
// `sync`. Hosts that are not connected are passed over in silence: they were told of before. So are
// instances whose manifest or templates were edited since they were deployed. Returns the instances
// that were brought up to date; a dry run only looks for them.
std::vector<InstanceId> refreshStale(Operation& operation, bool dry_run);

// What a change of a service's endpoints comes to for one that depends on it.
struct DependantChange {
  ServiceName service;
  OnChange action = OnChange::kNone;
  size_t batch = 0;  // instances at once
  // Each, and how often: a roll-out in batches changes the endpoints with every batch.
  std::map<InstanceId, size_t> instances;
};

// For dry runs: what refreshDependants() would do if the endpoints of `service` became `stages`,
// one after the other, and what would follow from that in turn. Ports that are not chosen yet are
// 0. Hosts that cannot be reached are passed over. Dependencies first.
[[nodiscard]] Result<std::vector<DependantChange>> foreseeDependants(
    Operation& operation, const ServiceName& service,
    const std::vector<std::vector<Endpoint>>& stages);

}  // namespace cctl::ops
