// A plan in a file: what it says, and all that it rests on, so that it is carried out as it is or
// refused. Pure.
#pragma once

#include "base/json.h"
#include "ops/apply.h"

namespace cctl::ops {

struct PlanOrigin {
  std::string cluster;
  std::string inventory_digest;
  std::string scope;  // the service that was named; empty: all
  std::string by;
  WallTime at{};
};

// One JSON object, {"format":1,"kind":"clusterctl-plan",…}.
std::string encodePlan(const ClusterPlan& plan, const PlanOrigin& origin);

// What `scope` was when the plan was made. kBadInput for a file that is no saved plan.
[[nodiscard]] Result<std::string> scopeOfSaved(const std::string& saved);

// What is no longer as it was when `saved` was made, one line each; empty: the plan holds. Who made
// it and when does not count.
[[nodiscard]] Result<std::vector<std::string>> changedSince(const std::string& saved,
                                                            const ClusterPlan& now,
                                                            const PlanOrigin& origin);

}  // namespace cctl::ops
