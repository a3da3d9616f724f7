// The words of the registry's state, for `registry status` and `doctor`.
#pragma once

#include <string>

#include "base/json.h"
#include "ops/registry_care.h"

namespace cctl::cli {

// One line: how many members take part, whether they are a quorum, the epoch.
std::string quorumText(const ops::RegistryReport& report);
Json registryJson(const ops::RegistryReport& report);

}  // namespace cctl::cli
