// release.json: what the store knows of a release, beside its files (format 1).
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "model/release_info.h"

namespace cctl::release {

constexpr int kReleaseFormat = 1;

std::string releaseToJson(const ReleaseInfo& release);

// Checks the form of every field, the rules of the tree (model/release_tree.h) and that the digest
// is that of the list. kCorrupt for anything else than releaseToJson() writes; a newer format is
// refused, naming it. Keys it does not know are ignored.
[[nodiscard]] Result<ReleaseInfo> parseReleaseJson(std::string_view text);

}  // namespace cctl::release
