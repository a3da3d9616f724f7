// One name as it changes, read from the naming socket of a host.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/json.h"
#include "model/names.h"
#include "ops/fleet.h"

namespace cctl::ops {

// Called on the calling thread with each object as the host sends it (PROTOCOL.md, "The naming
// socket"), at first and at every change. An error ends the watch.
using OnName = std::function<Result<void>(const HostName& host, const Json& object)>;

// Asks whichever of `hosts` can be reached first, and another one when its link is lost, those that
// were lost before too; a shim that restarts is asked again. Revisions only rise, and the same
// object does not come twice in a row. Returns when cancelled (kCancelled), when `on_name` fails,
// or when none of the hosts could ever be reached (kUnreachable). All hosts must have been begun.
[[nodiscard]] Result<void> watchName(Fleet& fleet, const std::vector<HostName>& hosts,
                                     const ServiceName& service, const OnName& on_name,
                                     const CancelToken* cancel);

}  // namespace cctl::ops
