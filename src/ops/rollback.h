// `rollback SERVICE [VERSION]`: back to what is known to have been good.
#pragma once

#include <optional>

#include "ops/deploy.h"

namespace cctl::ops {

// Pure. Without a version: the newest good spec that is not what is wanted now; while a roll-out
// has not come to its end, the newest good one. So rolling back twice comes back. With one: the
// newest good spec of that version. kNotFound, naming what there is.
[[nodiscard]] Result<GoodSpec> chooseGood(const ServiceName& service, const Desired& desired,
                                          const std::optional<Version>& version);

struct RollbackOutcome {
  DeployOutcome deploy;
  Version version;
  bool differs = false;  // from what the inventory says today: the next deploy undoes it
};

// As deploy(), of the spec that was recorded, rendered against today's endpoints. What the local
// store lacks is fetched from a host. `request.version` is not looked at.
[[nodiscard]] Result<RollbackOutcome> rollback(Operation& operation, const DeployRequest& request,
                                               const std::optional<Version>& version);

}  // namespace cctl::ops
