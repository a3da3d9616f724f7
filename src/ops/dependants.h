// Services whose generated configs carry the endpoints of another: brought up to date when those
// change, and told as their manifests say (on_change).
#pragma once

#include "ops/operation.h"

namespace cctl::ops {

// Renders every placed instance of every direct dependant of `service` again; where something
// differs, replaces its files and reloads or restarts it, in batches of the dependant's
// `upgrade.batch`, but never all of several at once. Each batch is ready again before the next
// begins. A restart takes the dependant's own lock, and its instances leave the registry while they
// are down; so what depends on the dependant follows in turn. A dependant that cannot be refreshed
// is a warning: it goes on with what it has, until refreshStale() reaches it.
void refreshDependants(Operation& operation, const ServiceName& service);

// The same for every service that has dependencies, whatever changed: what an earlier command could
// not reach, or did not come to before it was killed. At the end of every changing command, and in
// `sync`. Hosts that are not connected are passed over in silence: they were told of before. So are
// instances whose manifest or templates were edited since they were deployed. Returns the instances
// that were brought up to date; a dry run only looks for them.
std::vector<InstanceId> refreshStale(Operation& operation, bool dry_run);

}  // namespace cctl::ops
