#include "release/tree_check.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "base/digest.h"
#include "base/file.h"
#include "model/host_paths.h"
#include "model/release_tree.h"
#include "model/utf8.h"

namespace cctl::release {
namespace {

std::string readLink(const std::string& path) {
  std::string target(kMaxReleasePath + 1, '\0');
  const ssize_t length = ::readlink(path.c_str(), target.data(), target.size());
  target.resize(length < 0 ? 0 : static_cast<size_t>(length));
  return target;
}

// Empty when the entry is as listed.
Result<std::string> problemOf(const std::string& path, const FileEntry& entry) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return "missing";
    return failErrno(errno, path);
  }
  if (entry.isLink()) return readLink(path) == entry.link_target ? "" : "link differs";
  if (!S_ISREG(info.st_mode)) return "not a regular file";
  if (static_cast<uint64_t>(info.st_size) != entry.size)
    return fmt::format("{} bytes, not {}", info.st_size, entry.size);
  CCTL_TRY(const std::string digest, sha256HexOfFile(path));
  if (digest != entry.sha256) return "content differs";
  if ((info.st_mode & 07777) != entry.mode)
    return fmt::format("mode {:04o}, not {:04o}", info.st_mode & 07777, entry.mode);
  return "";
}

Result<void> findStrangers(const std::string& directory, const std::string& inside,
                           const std::set<std::string_view>& known,
                           std::vector<std::string>& problems) {
  CCTL_TRY(const std::vector<std::string> names, listDir(directory));
  for (const std::string& name : names) {
    const std::string path = inside.empty() ? name : paths::join(inside, name);
    const std::string full = paths::join(directory, name);
    struct stat info {};
    if (::lstat(full.c_str(), &info) != 0) return failErrno(errno, full);
    if (S_ISDIR(info.st_mode)) {
      CCTL_CHECK(findStrangers(full, path, known, problems));
    } else if (!known.contains(path)) {
      problems.push_back(printable(path) + ": not of this release");
    }
  }
  return {};
}

}  // namespace

Result<std::vector<std::string>> checkTree(const std::string& directory,
                                           const std::vector<FileEntry>& files) {
  std::vector<std::string> problems;
  std::set<std::string_view> known;
  for (const FileEntry& entry : files) {
    CCTL_TRY(const std::string problem, problemOf(paths::join(directory, entry.path), entry));
    if (!problem.empty()) problems.push_back(fmt::format("{}: {}", entry.path, problem));
    known.insert(entry.path);
  }
  if (isDirectory(directory)) CCTL_CHECK(findStrangers(directory, "", known, problems));
  return problems;
}

std::vector<std::string> compareLists(const std::vector<FileEntry>& theirs,
                                      const std::vector<FileEntry>& ours) {
  std::vector<std::string> lines;
  auto a = theirs.begin();
  auto b = ours.begin();
  while (a != theirs.end() || b != ours.end()) {
    if (b == ours.end() || (a != theirs.end() && a->path < b->path)) {
      lines.push_back((a++)->path + " is missing");
    } else if (a == theirs.end() || b->path < a->path) {
      lines.push_back((b++)->path + " is new");
    } else {
      if (a->isLink() != b->isLink() || a->sha256 != b->sha256 || a->link_target != b->link_target)
        lines.push_back(a->path + " differs");
      else if (a->isExecutable() != b->isExecutable())
        lines.push_back(a->path +
                        (b->isExecutable() ? " is now executable" : " is no longer executable"));
      ++a, ++b;
    }
  }
  return lines;
}

std::string firstFew(const std::vector<std::string>& items, size_t few) {
  if (items.size() <= few) return fmt::format("{}", fmt::join(items, ", "));
  return fmt::format("{} and {} more",
                     fmt::join(items.begin(), items.begin() + static_cast<ptrdiff_t>(few), ", "),
                     items.size() - few);
}

}  // namespace cctl::release
