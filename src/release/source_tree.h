// What the user hands over to become a release: found, then read file by file.
#pragma once

#include <sys/stat.h>

#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/result.h"
#include "model/release_info.h"
#include "release/inspect.h"

namespace cctl::release {

// Tells whether a file is the same and unchanged, as far as stat(2) can tell.
struct FileIdentity {
  dev_t device = 0;
  ino_t inode = 0;
  off_t size = 0;
  timespec modified{};
  timespec changed{};

  static FileIdentity of(const struct stat& info);
  friend bool operator==(const FileIdentity& a, const FileIdentity& b);
};

struct SourceFile {
  FileEntry entry;     // without the digest
  std::string source;  // the path to read from
  FileIdentity identity;

  friend bool operator==(const SourceFile&, const SourceFile&) = default;
};

struct SourceTree {
  std::vector<SourceFile> files;      // sorted by path in the release
  std::vector<std::string> warnings;  // one line each, for people
};

// `path` a directory: its content. A regular file: bin/NAME when executable, else NAME (a jar).
// Permissions become 0555 where any executable bit is set, else 0444. Refused (kBadInput), all
// reasons in one message: sockets, devices, fifos, set-id bits, names that checkReleasePath()
// refuses, links out of the tree, nothing at all. Empty directories are left out with a warning.
[[nodiscard]] Result<SourceTree> scanSource(const std::string& path);

struct ReadFile {
  std::string sha256;
  Inspection inspection;
};

// Hashes and inspects a regular file, copying it to `destination` unless that is empty. The digest
// is that of the bytes copied. An error when the file is not what the scan saw, before or after
// reading it. The copy shares no blocks that a later write to the source could change (a reflink is
// copy-on-write; hard links are never made).
[[nodiscard]] Result<ReadFile> readSource(const SourceFile& file, const std::string& destination,
                                          const CancelToken* cancel);

// An error when what is at `path` now is not what `tree` says.
[[nodiscard]] Result<void> checkUnchanged(const std::string& path, const SourceTree& tree);

}  // namespace cctl::release
