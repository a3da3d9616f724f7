// What stands in for the shim of a host that has none, or none that runs, so that a dry run can say
// what would be done there: nothing runs, nothing is known, and nothing can be ordered.
#pragma once

#include <memory>
#include <string>

#include "ops/shim_client.h"

namespace cctl::ops {

// Answers at once, from memory. Questions have empty answers; orders fail with kNotFound, saying
// `why` there is none.
std::unique_ptr<ShimClient> absentShim(const std::string& host, const std::string& why);

}  // namespace cctl::ops
