// Whether what lies on the disk is what was installed.
#pragma once

#include <sys/stat.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/digest.h"
#include "base/fd.h"
#include "shim/release_manifest.h"

namespace cctl::shim {

// Files once hashed, and directories once looked through, that are unchanged since, by (device,
// inode, size, mtime, ctime). In memory only.
class InodeCache {
 public:
  explicit InodeCache(const Clock& clock) : clock_(clock) {}
  bool holds(const struct stat& info, const std::string& sha256) const;
  // Kept only when the last change is old enough that a later one must show in ctime, whose
  // resolution is that of the kernel's tick.
  void add(const struct stat& info, const std::string& sha256);

 private:
  struct Seen {
    int64_t size = 0;
    int64_t mtime = 0;  // nanoseconds
    int64_t ctime = 0;
    std::string sha256;
    bool operator==(const Seen&) const = default;
  };
  static Seen seenAs(const struct stat& info, const std::string& sha256);

  const Clock& clock_;
  std::map<std::pair<uint64_t, uint64_t>, Seen> entries_;
};

// Opens without following links and says kCorrupt unless it is a regular file with this content
// that nobody has open for writing.
class FileCheck {
 public:
  FileCheck(std::string path, const protocol::ReleaseFile& file, InodeCache* cache);
  // Hashes at most `budget` bytes and takes them off it; true when done.
  bool step(size_t& budget);
  const std::string& problem() const { return problem_; }
  Fd takeFd() { return std::move(fd_); }

 private:
  void open();
  void finish();

  std::string path_;
  const protocol::ReleaseFile& file_;
  InodeCache* cache_;
  Fd fd_;
  struct stat info_ {};
  Sha256 sha_;
  std::string problem_;
  bool done_ = false;
};

// All files of a release, and nothing beside them. Cut into slices so that an event loop can go on
// in between.
class ReleaseCheck {
 public:
  // Without a cache everything is hashed anew. `cache` must outlive it.
  ReleaseCheck(std::string dir, std::shared_ptr<const ReleaseManifest> manifest, InodeCache* cache);
  // Hashes at most about `budget` bytes; true when all is checked.
  bool step(size_t budget);
  // "bin/x: content differs"; empty: exact. Complete once step() has returned true.
  const std::vector<std::string>& problems() const { return problems_; }

 private:
  void checkLink(const protocol::ReleaseFile& file);
  bool findExtras(const std::string& relative);
  bool listExtras(const std::string& relative);
  std::vector<std::string> subdirectories(const std::string& relative) const;

  std::string dir_;
  std::shared_ptr<const ReleaseManifest> manifest_;
  InodeCache* cache_;
  size_t next_ = 0;
  std::optional<FileCheck> current_;
  bool extras_done_ = false;
  std::vector<std::string> problems_;
};

// The checked file, open: what this descriptor leads to is what was checked.
[[nodiscard]] Result<Fd> openChecked(const std::string& path, const protocol::ReleaseFile& file,
                                     InodeCache* cache);

}  // namespace cctl::shim
