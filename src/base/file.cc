#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <memory>

namespace cctl {
namespace {

std::string directoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Unique among the threads of this process; the pid tells processes apart.
std::string temporaryName(const std::string& path) {
  static std::atomic<unsigned> counter{0};
  return fmt::format("{}.tmp.{}.{}", path, ::getpid(), counter++);
}

Result<void> writeTemporary(const std::string& path, std::string_view data, mode_t mode,
                            Sync sync) {
  CCTL_TRY(Fd fd, openFile(path, O_WRONLY | O_CREAT | O_EXCL, mode));
  if (::fchmod(fd.get(), mode) != 0) return failErrno(errno, path);
  if (auto written = writeAll(fd.get(), data); !written) return fail(written.error().context(path));
  if (sync == Sync::kYes && ::fsync(fd.get()) != 0) return failErrno(errno, path);
  return {};
}

Result<void> makeOneDir(const std::string& path, mode_t mode) {
  if (::mkdir(path.c_str(), mode) == 0) {
    if (::chmod(path.c_str(), mode) != 0) return failErrno(errno, path);
    return {};
  }
  if (errno == EEXIST && isDirectory(path)) return {};
  return failErrno(errno, path);
}

struct DirCloser {
  void operator()(DIR* dir) const { ::closedir(dir); }
};
using Dir = std::unique_ptr<DIR, DirCloser>;

std::vector<std::string> namesIn(DIR* dir) {
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(dir)) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

// By descriptor, so that a directory swapped for a link meanwhile is never entered.
Result<void> removeAt(int parent, const std::string& name, const std::string& shown) {
  if (::unlinkat(parent, name.c_str(), 0) == 0 || errno == ENOENT) return {};
  if (errno != EISDIR && errno != EPERM && errno != EACCES) return failErrno(errno, shown);
  Fd fd(::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return failErrno(errno, shown);
  if (::fchmod(fd.get(), 0700) != 0) return failErrno(errno, shown);
  Dir dir(::fdopendir(::dup(fd.get())));
  if (!dir) return failErrno(errno, shown);
  for (const std::string& child : namesIn(dir.get()))
    CCTL_CHECK(removeAt(fd.get(), child, shown + "/" + child));
  if (::unlinkat(parent, name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT)
    return failErrno(errno, shown);
  return {};
}

}  // namespace

Result<Fd> openFile(const std::string& path, int flags, mode_t mode) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  if (fd < 0) return failErrno(errno, path);
  return Fd(fd);
}

Result<std::string> readAll(int fd, size_t limit) {
  std::string data;
  char buffer[64 * 1024];
  for (;;) {
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failErrno(errno, "read");
    if (got == 0) return data;
    if (data.size() + static_cast<size_t>(got) > limit)
      return fail(Code::kError, "larger than the {} bytes allowed", limit);
    data.append(buffer, static_cast<size_t>(got));
  }
}

Result<std::string> readFile(const std::string& path, size_t limit) {
  CCTL_TRY(Fd fd, openFile(path, O_RDONLY));
  auto data = readAll(fd.get(), limit);
  if (!data) return fail(data.error().context(path));
  return data;
}

Result<void> writeAll(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t put = ::write(fd, data.data(), data.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return failErrno(errno, "write");
    data.remove_prefix(static_cast<size_t>(put));
  }
  return {};
}

Result<void> replaceFile(const std::string& path, std::string_view data, mode_t mode, Sync sync) {
  const std::string temporary = temporaryName(path);
  if (auto written = writeTemporary(temporary, data, mode, sync); !written) {
    ::unlink(temporary.c_str());  // best effort: the write's own error is what matters
    // The name that a person knows, and the same one each time.
    Error error = written.error();
    if (const size_t at = error.message.find(temporary); at != std::string::npos)
      error.message.replace(at, temporary.size(), path);
    return fail(std::move(error));
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary.c_str());
    return failErrno(error, path);
  }
  if (sync == Sync::kYes) return syncDir(directoryOf(path));
  return {};
}

Result<void> makeDirs(const std::string& path, mode_t mode) {
  if (path.empty() || isDirectory(path)) return {};
  const size_t slash = path.find_last_not_of('/');
  const std::string trimmed = path.substr(0, slash + 1);
  const std::string parent = directoryOf(trimmed);
  if (parent != trimmed) CCTL_CHECK(makeDirs(parent, mode));
  return makeOneDir(trimmed, mode);
}

Result<void> syncDir(const std::string& path) {
  CCTL_TRY(Fd fd, openFile(path, O_RDONLY | O_DIRECTORY));
  if (::fsync(fd.get()) != 0) return failErrno(errno, path);
  return {};
}

Result<void> removeTree(const std::string& path) { return removeAt(AT_FDCWD, path, path); }

Result<std::vector<std::string>> listDir(const std::string& path) {
  Dir dir(::opendir(path.c_str()));
  if (!dir) return failErrno(errno, path);
  return namesIn(dir.get());
}

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

bool isDirectory(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

}  // namespace cctl
