#include "release/source_tree.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/digest.h"
#include "base/file.h"
#include "model/host_paths.h"
#include "model/release_tree.h"
#include "model/utf8.h"

namespace cctl::release {
namespace {

constexpr size_t kMaxProblems = 10;
constexpr size_t kChunk = 256 * 1024;

class Scanner {
 public:
  Result<SourceTree> scan(const std::string& path) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) return failErrno(errno, path);
    if (S_ISDIR(info.st_mode)) {
      CCTL_TRY(const size_t count, scanDirectory(path, "", 0));
      if (count == 0 && problems_.empty()) return fail(Code::kBadInput, "{}: no file in it", path);
    } else {
      CCTL_CHECK(scanSingle(path, info));
    }
    if (!problems_.empty()) return refuse(path);
    return finish(path);
  }

 private:
  Result<void> scanSingle(const std::string& path, const struct stat& info) {
    const size_t slash = path.rfind('/');
    const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
    const bool program = (info.st_mode & 0111) != 0;
    addNode(path, program ? "bin/" + name : name, info);
    return {};
  }

  // How many files and links are in it, at any depth.
  Result<size_t> scanDirectory(const std::string& source, const std::string& inside, size_t depth) {
    if (depth >= kMaxReleaseDepth)
      return fail(Code::kBadInput, "{}: more than {} directories deep", printable(source),
                  kMaxReleaseDepth);
    CCTL_TRY(const std::vector<std::string> names, listDir(source));
    size_t count = 0;
    for (const std::string& name : names) {
      const std::string path = inside.empty() ? name : paths::join(inside, name);
      CCTL_TRY(const size_t more, scanEntry(paths::join(source, name), path, depth));
      count += more;
    }
    if (count == 0 && !inside.empty() && problems_.empty()) noteEmpty(inside);
    return count;
  }

  Result<size_t> scanEntry(const std::string& source, const std::string& path, size_t depth) {
    struct stat info {};
    if (::lstat(source.c_str(), &info) != 0) return failErrno(errno, printable(source));
    if (S_ISDIR(info.st_mode)) return scanDirectory(source, path, depth + 1);
    addNode(source, path, info);
    if (tree_.files.size() > kMaxReleaseFiles)
      return fail(Code::kBadInput, "more than {} files: pack what belongs together into archives",
                  kMaxReleaseFiles);
    return 1;
  }

  void addNode(const std::string& source, const std::string& path, const struct stat& info) {
    if (auto named = checkReleasePath(path); !named) return addProblem(named.error().message);
    if (S_ISLNK(info.st_mode)) return addLink(source, path, info);
    if (!S_ISREG(info.st_mode))
      return addProblem(
          fmt::format("{} is {}: only files, directories and symbolic links can be "
                      "in a release",
                      path, kindOf(info.st_mode)));
    if ((info.st_mode & (S_ISUID | S_ISGID)) != 0)
      return addProblem(
          fmt::format("{} is set-user-id or set-group-id, which a release never is: chmod ug-s it "
                      "and set `user` in the manifest",
                      path));
    addFile(source, path, info);
  }

  void addFile(const std::string& source, const std::string& path, const struct stat& info) {
    SourceFile file;
    file.entry.path = path;
    file.entry.mode = (info.st_mode & 0111) != 0 ? kReleaseProgramMode : kReleaseFileMode;
    file.entry.size = static_cast<uint64_t>(info.st_size);
    file.source = source;
    file.identity = FileIdentity::of(info);
    tree_.files.push_back(std::move(file));
    if (::getxattr(source.c_str(), "security.capability", nullptr, 0) > 0)
      tree_.warnings.push_back(
          fmt::format("{} has file capabilities, which a release does not keep", path));
  }

  void addLink(const std::string& source, const std::string& path, const struct stat& info) {
    std::string target(kMaxReleasePath + 1, '\0');
    const ssize_t length = ::readlink(source.c_str(), target.data(), target.size());
    if (length <= 0 || static_cast<size_t>(length) == target.size())
      return addProblem(fmt::format("{}: a symbolic link that cannot be read", path));
    target.resize(static_cast<size_t>(length));
    SourceFile file;
    file.entry.path = path;
    file.entry.link_target = std::move(target);
    file.source = source;
    file.identity = FileIdentity::of(info);
    tree_.files.push_back(std::move(file));
  }

  static std::string_view kindOf(mode_t mode) {
    if (S_ISFIFO(mode)) return "a fifo";
    if (S_ISSOCK(mode)) return "a socket";
    if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
    return "something else";
  }

  void noteEmpty(const std::string& path) {
    tree_.warnings.push_back(
        fmt::format("{} is an empty directory and left out: a service writes to its data directory",
                    printable(path)));
  }

  void addProblem(std::string text) { problems_.push_back(std::move(text)); }

  tl::unexpected<Error> refuse(const std::string& path) const {
    const size_t shown = std::min(problems_.size(), kMaxProblems);
    std::string text;
    for (size_t i = 0; i < shown; ++i) text += fmt::format("\n  {}", problems_[i]);
    if (shown < problems_.size()) text += fmt::format("\n  and {} more", problems_.size() - shown);
    if (shown == 1) return fail(Code::kBadInput, "{}: {}", path, problems_.front());
    return fail(Code::kBadInput, "{}:{}", path, text);
  }

  // The rules of the whole tree hold before a byte is copied; only the digests are not known yet.
  Result<SourceTree> finish(const std::string& path) {
    std::sort(tree_.files.begin(), tree_.files.end(),
              [](const auto& a, const auto& b) { return a.entry.path < b.entry.path; });
    std::vector<FileEntry> entries;
    for (const SourceFile& file : tree_.files) {
      entries.push_back(file.entry);
      if (!file.entry.isLink()) entries.back().sha256 = std::string(64, '0');
    }
    if (auto checked = checkReleaseTree(entries); !checked)
      return fail(checked.error().context(path));
    return std::move(tree_);
  }

  SourceTree tree_;
  std::vector<std::string> problems_;
};

tl::unexpected<Error> failChanged(const std::string& path) {
  return fail(Code::kError,
              "{} changed while it was read: wait until what writes it is done, and add it again",
              path);
}

Result<void> checkIdentity(int fd, const SourceFile& file) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return failErrno(errno, file.source);
  if (!S_ISREG(info.st_mode) || !(FileIdentity::of(info) == file.identity))
    return failChanged(file.source);
  return {};
}

// Bytes from one descriptor into a digest and, unless `out` is negative, into another.
Result<std::string> pump(int in, int out, const SourceFile& file, const CancelToken* cancel) {
  Sha256 sha;
  std::vector<char> buffer(kChunk);
  uint64_t total = 0;
  for (;;) {
    if (cancel != nullptr && cancel->cancelled()) return fail(Code::kCancelled, "cancelled");
    const ssize_t got = ::read(in, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failErrno(errno, file.source);
    if (got == 0) break;
    const std::string_view bytes(buffer.data(), static_cast<size_t>(got));
    sha.update(bytes);
    if (auto put = out < 0 ? Result<void>() : writeAll(out, bytes); !put)
      return fail(put.error().context("copying " + file.source));
    total += bytes.size();
    if (total > file.entry.size) break;  // a file that grows for ever
  }
  if (total != file.entry.size) return failChanged(file.source);
  return sha.hex();
}

Result<std::string> copyInto(int in, const std::string& destination, const SourceFile& file,
                             const CancelToken* cancel) {
  CCTL_TRY(Fd out, openFile(destination, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  // Where the file system can share blocks copy-on-write, the clone is hashed instead of written.
  const bool cloned = ::ioctl(out.get(), FICLONE, in) == 0;
  auto digest = cloned ? pump(out.get(), -1, file, cancel) : pump(in, out.get(), file, cancel);
  if (!digest) return fail(digest.error());
  if (::fchmod(out.get(), file.entry.mode) != 0) return failErrno(errno, destination);
  return digest;
}

}  // namespace

FileIdentity FileIdentity::of(const struct stat& info) {
  return {info.st_dev, info.st_ino, info.st_size, info.st_mtim, info.st_ctim};
}

bool operator==(const FileIdentity& a, const FileIdentity& b) {
  const auto same = [](const timespec& x, const timespec& y) {
    return x.tv_sec == y.tv_sec && x.tv_nsec == y.tv_nsec;
  };
  return a.device == b.device && a.inode == b.inode && a.size == b.size &&
         same(a.modified, b.modified) && same(a.changed, b.changed);
}

Result<SourceTree> scanSource(const std::string& path) { return Scanner().scan(path); }

Result<ReadFile> readSource(const SourceFile& file, const std::string& destination,
                            const CancelToken* cancel) {
  // O_NONBLOCK: a fifo put there meanwhile must not hang us; checkIdentity() then refuses it.
  CCTL_TRY(const Fd in, openFile(file.source, O_RDONLY | O_NONBLOCK));
  CCTL_CHECK(checkIdentity(in.get(), file));
  ReadFile result;
  CCTL_TRY(result.sha256, destination.empty() ? pump(in.get(), -1, file, cancel)
                                              : copyInto(in.get(), destination, file, cancel));
  CCTL_TRY(result.inspection, inspectFile(file.entry.path, file.entry.isExecutable(),
                                          FdSource(in.get(), file.entry.size)));
  CCTL_CHECK(checkIdentity(in.get(), file));
  return result;
}

Result<void> checkUnchanged(const std::string& path, const SourceTree& tree) {
  CCTL_TRY(const SourceTree now, scanSource(path));
  if (now.files == tree.files) return {};
  const auto differs =
      std::mismatch(tree.files.begin(), tree.files.end(), now.files.begin(), now.files.end());
  const SourceFile& first = differs.first != tree.files.end() ? *differs.first : *differs.second;
  return failChanged(first.source);
}

}  // namespace cctl::release
