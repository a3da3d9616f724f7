// What a playbook waits for or checks, looked at once.
#pragma once

#include <string>

#include "model/playbook.h"
#include "ops/operation.h"

namespace cctl::ops {

// Empty when it holds, else why not yet ("web/0 on host1 is starting"). An error when it could not
// be looked at: hosts or registry unreachable; a later look may do better, with connections of its
// own.
[[nodiscard]] Result<std::string> conditionProblem(Operation& operation,
                                                   const PlayCondition& condition);

}  // namespace cctl::ops
