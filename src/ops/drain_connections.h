// What comes between "no client is told of it any more" and "it is stopped".
#pragma once

#include <vector>

#include "model/plan.h"
#include "ops/operation.h"

namespace cctl::ops {

// Waits until nobody has been connected to these for half a second, as their hosts see it in
// /proc/net/tcp: at least a second, at most `most`; a generation 0 is any. Says how many are left.
// Blocks; kCancelled when `cancel` (null: never) is set. A host that cannot tell counts as busy.
[[nodiscard]] Result<void> drainConnections(Operation& operation,
                                            const std::vector<OldGeneration>& items, Millis most,
                                            const CancelToken* cancel);

// The same of what an operation left of the service that did not end: it may not have come to
// telling the hosts of what is published instead, so they are told first.
[[nodiscard]] Result<void> drainLeftBehind(Operation& operation, const ServiceName& service,
                                           const std::vector<OldGeneration>& items, Millis most);

}  // namespace cctl::ops
