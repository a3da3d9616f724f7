// The version of this build: of clusterctl and of the shim inside it.
#pragma once

namespace cctl {

inline constexpr char kVersion[] = CLUSTERCTL_VERSION;  // e.g. "0.1.0", set by CMake

}  // namespace cctl
