// A release's files on disk against its list.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "model/release_info.h"

namespace cctl::release {

// What of the tree at `directory` is not as listed, one line each, naming the path; empty: exact.
// Reads every byte.
[[nodiscard]] Result<std::vector<std::string>> checkTree(const std::string& directory,
                                                         const std::vector<FileEntry>& files);

// What `ours` has otherwise than `theirs`, one line each: "bin/x differs", "lib/y is new",
// "conf is missing". Pure; both sorted by path.
std::vector<std::string> compareLists(const std::vector<FileEntry>& theirs,
                                      const std::vector<FileEntry>& ours);

// "a, b, c and 4 more".
std::string firstFew(const std::vector<std::string>& items, size_t few = 5);

}  // namespace cctl::release
