// A generation on the disk: ROOT/services/S/instances/I/generations/N/{spec.json,conf,run}, and
// what its instance shares between generations.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "protocol/messages.h"
#include "shim/users.h"

namespace cctl::shim {

// Everything about a spec that can be judged without looking at the host. kRefused or kBadInput.
[[nodiscard]] Result<void> checkSpec(const protocol::GenerationSpec& spec);
[[nodiscard]] Result<void> checkConfig(const std::vector<protocol::ConfigFile>& config);

// Nothing: runs as the shim. kRefused when the shim is not root and another user is asked for.
[[nodiscard]] Result<std::optional<User>> userOf(const protocol::GenerationSpec& spec);

// Not there, or there whole: written beside and renamed. The same spec again is fine; another one
// under the number of an existing generation is kRefused.
[[nodiscard]] Result<void> writeGeneration(const std::string& root,
                                           const protocol::GenerationSpec& spec);
[[nodiscard]] Result<protocol::GenerationSpec> readGeneration(const std::string& root,
                                                              const protocol::InstanceRef& ref,
                                                              int generation);
// Replaces spec.json and each file of conf/, and removes the files that `spec` does not name.
[[nodiscard]] Result<void> rewriteConfig(const std::string& root,
                                         const protocol::GenerationSpec& spec);

// Points `current` at the generation, atomically.
[[nodiscard]] Result<void> linkCurrent(const std::string& root, const protocol::InstanceRef& ref,
                                       int generation);

}  // namespace cctl::shim
