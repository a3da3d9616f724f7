// A release of the local store, fit to be pushed.
#pragma once

#include <string>

#include "ops/push.h"

namespace cctl::ops {

// What every operation that pushes asks for first, before any host is contacted: the release is
// there, is exactly what was added, and is signed off as `sign_off` of cluster.yaml wants at `now`.
// kNotFound; kRefused when it was changed or is not signed off, saying what to do.
[[nodiscard]] Result<ReleaseSource> loadRelease(const Inventory& inventory,
                                                const ServiceName& service, const Version& version,
                                                WallTime now);

// ", signed off by alice@example.com, bob@example.com" for records; empty when nobody signed.
std::string signedOffText(const ReleaseSource& release);

}  // namespace cctl::ops
