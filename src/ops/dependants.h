// Services whose generated configs carry the endpoints of another: brought up to date when those
// change, and told as their manifests say (on_change).
#pragma once

#include "ops/operation.h"

namespace cctl::ops {

// Renders every placed instance of every direct dependant of `service` again, on the hosts that are
// connected; where something differs, replaces its files and reloads or restarts it, instance by
// instance. A dependant that cannot be refreshed is a warning: it goes on with what it has.
[[nodiscard]] Result<void> refreshDependants(Operation& operation, const ServiceName& service);

}  // namespace cctl::ops
