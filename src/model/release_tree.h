// The rules for what a release holds, and its digest. Pure, and the same wherever a release comes
// from: a directory of the user, the local store, or the wire.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/release_info.h"

namespace cctl {

// A list of this many fits in one message to a shim; trees of more files are better packed.
constexpr size_t kMaxReleaseFiles = 20'000;
constexpr size_t kMaxReleasePathBytes = 1'000'000;  // of all paths and link targets together
// ROOT and the path together must stay below PATH_MAX (4096).
constexpr size_t kMaxReleasePath = 1000;
constexpr size_t kMaxReleaseDepth = 64;  // names in a path

// The two permissions a file of a release may have, in the store and on the hosts.
constexpr uint32_t kReleaseFileMode = 0444;
constexpr uint32_t kReleaseProgramMode = 0555;

// UTF-8 without control characters (C0, DEL, C1): safe to print and to write as a line of a file.
bool isPlainText(std::string_view text);

// Relative, in its shortest form, plain text without '\\' (which SHA256SUMS would have to escape),
// and not a name taken by the layout: "SHA256SUMS" and "-" at the top. kBadInput otherwise.
[[nodiscard]] Result<void> checkReleasePath(std::string_view path);

// The whole list: sorted by path without doubles, no file that is also a directory, digests and
// modes as they should be, no link that leads out of the release (through other links neither), at
// least one regular file, within the limits above. kBadInput, naming the path.
[[nodiscard]] Result<void> checkReleaseTree(const std::vector<FileEntry>& files);

// Links whose target is missing, by path. `files` has passed checkReleaseTree().
std::vector<std::string> danglingLinks(const std::vector<FileEntry>& files);

// SHA256SUMS: what `sha256sum -c` accepts when it is run where the files are. A line for each
// regular file, in the list's order.
std::string releaseSums(const std::vector<FileEntry>& files);

// The digest of a whole release: SHA-256 over the line "clusterctl-release 1" and then a line for
// each entry in the list's order, fields parted by tabs (which no path holds):
//   f SHA256 PATH     a file without the executable bit
//   x SHA256 PATH     a file with it
//   l PATH TARGET     a symbolic link
// So equal digests mean equal names, contents, executable bits and links. Neither service nor
// version is part of it: the same content under two names has one digest.
std::string releaseDigest(const std::vector<FileEntry>& files);

}  // namespace cctl
