// Whole files, read and replaced. Every function blocks on the disk; none follows a policy of its
// own about names. Paths are used as given.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace cctl {

// At most `limit` bytes; a longer file is an error, not a truncation.
[[nodiscard]] Result<std::string> readFile(const std::string& path, size_t limit = 64u << 20);

// Everything up to the end of `fd`, under the same rule.
[[nodiscard]] Result<std::string> readAll(int fd, size_t limit = 64u << 20);

// All of `data`, or an error; retries short writes and EINTR.
[[nodiscard]] Result<void> writeAll(int fd, std::string_view data);

enum class Sync { kNo, kYes };

// Replaces `path` so that a reader, or a crash at any moment, sees the old or the new content and
// nothing between: a temporary name in the same directory, fsync, rename, fsync of the directory
// (rename(2), fsync(2)). With Sync::kNo the fsyncs are left out.
[[nodiscard]] Result<void> replaceFile(const std::string& path, std::string_view data,
                                       mode_t mode = 0644, Sync sync = Sync::kYes);

// Like mkdir -p with `mode` for the directories it makes (not lowered by the umask).
[[nodiscard]] Result<void> makeDirs(const std::string& path, mode_t mode = 0755);

[[nodiscard]] Result<void> syncDir(const std::string& path);

// rm -rf, without following symbolic links; a missing path is fine. Read-only directories of ours
// are made writable on the way.
[[nodiscard]] Result<void> removeTree(const std::string& path);

// Names in a directory, sorted, without . and ..
[[nodiscard]] Result<std::vector<std::string>> listDir(const std::string& path);

bool exists(const std::string& path);       // follows symbolic links
bool isDirectory(const std::string& path);  // follows symbolic links

[[nodiscard]] Result<Fd> openFile(const std::string& path, int flags, mode_t mode = 0644);

}  // namespace cctl
