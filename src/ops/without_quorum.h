// `stop`, `start` and `restart` when the registry cannot decide: the hosts are ordered about as
// they are, nobody is locked out, no name is changed. Each order is journalled on its host; what it
// changed of what was wanted is written into the registry by the next command that can (sync.h).
#pragma once

#include "ops/lifecycle.h"

namespace cctl::ops {

// What the shims that answer know of the targets, one instance after the other. Hosts that cannot
// be reached are left out and named. kUsage: nothing of the targets is on any of them.
[[nodiscard]] Result<LifecycleOutcome> lifecycleWithoutQuorum(Operation& operation,
                                                              const LifecycleRequest& request);

}  // namespace cctl::ops
