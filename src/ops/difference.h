// What changes between two generations, for plans and `--diff`. Pure.
#pragma once

#include "model/plan.h"
#include "protocol/messages.h"

namespace cctl::ops {

// Everything that a service could notice; empty when nothing. The generation's number and the
// digest of its spec are not part of it: a manifest that changes only where instances are placed
// renews none of them.
Difference differenceOf(const protocol::GenerationSpec& running,
                        const protocol::GenerationSpec& fresh);

}  // namespace cctl::ops
