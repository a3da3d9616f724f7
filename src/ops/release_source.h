// A release, fit to be pushed: of the local store, or brought into it from a host.
#pragma once

#include <string>

#include "ops/push.h"
#include "release/release_store.h"
#include "release/sign_off.h"

namespace cctl::ops {

// What every operation that pushes asks for first, before any host is contacted: the release is
// there, is exactly what was added, and is signed off as `sign_off` of cluster.yaml wants at `now`.
// kNotFound; kRefused when it was changed or is not signed off, saying what to do.
[[nodiscard]] Result<ReleaseSource> loadRelease(const Inventory& inventory,
                                                const ServiceName& service, const Version& version,
                                                WallTime now);

// The same for what was deployed under this version at some time: what the store lacks is fetched
// into it from a host that has it, and checked by the digest in the registry. A dry run fetches it
// to where it is gone again when this returns: it has been judged as the real run would, and its
// files cannot be opened.
[[nodiscard]] Result<ReleaseSource> bringRelease(Operation& operation, const ServiceName& service,
                                                 const Version& version, bool dry_run);

// Every signature of the release, judged by the inventory's `sign_off`; nothing is refused.
// kBadInput when allowed_signers cannot be read.
[[nodiscard]] Result<release::SignOffVerdict> judgeSignOff(const Inventory& inventory,
                                                           const release::ReleaseStore& store,
                                                           const ReleaseInfo& info, WallTime now);

// ", signed off by alice@example.com, bob@example.com" for records; empty when nobody signed.
std::string signedOffText(const ReleaseSource& release);

}  // namespace cctl::ops
