#include "shim/release_check.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/file.h"

namespace cctl::shim {
namespace {

constexpr int64_t kTickNanos = 100'000'000;  // well above any kernel tick
constexpr size_t kMaxProblems = 50;

int64_t nanos(const timespec& time) { return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; }

// A read lease is granted only while nobody has the file open for writing (fcntl(2)).
bool openForWriting(int fd) {
  if (::fcntl(fd, F_SETLEASE, F_RDLCK) != 0) return errno == EAGAIN;
  ::fcntl(fd, F_SETLEASE, F_UNLCK);
  return false;
}

}  // namespace

InodeCache::Seen InodeCache::seenAs(const struct stat& info, const std::string& sha256) {
  return {info.st_size, nanos(info.st_mtim), nanos(info.st_ctim), sha256};
}

bool InodeCache::holds(const struct stat& info, const std::string& sha256) const {
  const auto found = entries_.find({info.st_dev, info.st_ino});
  return found != entries_.end() && found->second == seenAs(info, sha256);
}

void InodeCache::add(const struct stat& info, const std::string& sha256) {
  const int64_t now = clock_.wall().time_since_epoch().count();  // milliseconds, of any century
  if ((nanos(info.st_ctim) + kTickNanos) / 1'000'000 >= now) return;
  entries_[{info.st_dev, info.st_ino}] = seenAs(info, sha256);
}

FileCheck::FileCheck(std::string path, const protocol::ReleaseFile& file, InodeCache* cache)
    : path_(std::move(path)), file_(file), cache_(cache) {
  open();
}

void FileCheck::open() {
  fd_.reset(::open(path_.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  done_ = true;
  if (!fd_) {
    problem_ = errno == ENOENT ? "missing" : failErrno(errno, "cannot be read").value().message;
  } else if (::fstat(fd_.get(), &info_) != 0 || !S_ISREG(info_.st_mode)) {
    problem_ = "not a regular file";
  } else if (static_cast<uint64_t>(info_.st_size) != file_.size) {
    problem_ = fmt::format("content differs ({} bytes, {} installed)", info_.st_size, file_.size);
  } else if (openForWriting(fd_.get())) {
    problem_ = "a process has it open for writing";
  } else {
    done_ = cache_ && cache_->holds(info_, file_.sha256);
  }
}

bool FileCheck::step(size_t& budget) {
  if (done_) return true;
  static constexpr uint64_t kChunk = 256u << 10;
  const auto size = static_cast<size_t>(std::min(file_.size + 1, kChunk));
  const std::unique_ptr<char[]> buffer(new char[size]);  // not zeroed
  while (!done_ && budget > 0) {
    const ssize_t got = ::read(fd_.get(), buffer.get(), size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      problem_ = failErrno(errno, "cannot be read").value().message;
      done_ = true;
    } else if (got == 0) {
      finish();
    } else {
      sha_.update({buffer.get(), static_cast<size_t>(got)});
      budget -= std::min(budget, static_cast<size_t>(got));
    }
  }
  return done_;
}

void FileCheck::finish() {
  done_ = true;
  struct stat after {};
  if (sha_.hex() != file_.sha256) {
    problem_ = "content differs";
  } else if (::fstat(fd_.get(), &after) != 0 || nanos(after.st_mtim) != nanos(info_.st_mtim) ||
             nanos(after.st_ctim) != nanos(info_.st_ctim)) {
    problem_ = "changed while it was checked";
  } else if (cache_) {
    cache_->add(info_, file_.sha256);
  }
}

ReleaseCheck::ReleaseCheck(std::string dir, std::shared_ptr<const ReleaseManifest> manifest,
                           InodeCache* cache)
    : dir_(std::move(dir)), manifest_(std::move(manifest)), cache_(cache) {}

void ReleaseCheck::checkLink(const protocol::ReleaseFile& file) {
  std::string target(1001, '\0');
  const ssize_t length = ::readlink((dir_ + "/" + file.path).c_str(), target.data(), target.size());
  if (length < 0 || target.substr(0, static_cast<size_t>(length)) != file.link)
    problems_.push_back(file.path + ": not the link that was installed");
}

bool ReleaseCheck::step(size_t budget) {
  while (next_ < manifest_->files.size()) {
    const protocol::ReleaseFile& file = manifest_->files[next_];
    if (!file.link.empty()) {
      checkLink(file);
    } else {
      if (!current_) current_.emplace(dir_ + "/" + file.path, file, cache_);
      if (!current_->step(budget)) return false;
      if (!current_->problem().empty()) problems_.push_back(file.path + ": " + current_->problem());
      current_.reset();
    }
    ++next_;
  }
  if (!std::exchange(extras_done_, true)) findExtras("");
  return true;
}

// Those in which there should be something, directly below `relative`. The files are sorted.
std::vector<std::string> ReleaseCheck::subdirectories(const std::string& relative) const {
  const std::string prefix = relative.empty() ? "" : relative + "/";
  std::vector<std::string> found;
  for (const protocol::ReleaseFile& file : manifest_->files) {
    if (!file.path.starts_with(prefix)) continue;
    const size_t slash = file.path.find('/', prefix.size());
    if (slash == std::string::npos) continue;
    if (found.empty() || file.path.compare(0, slash, found.back()) != 0)
      found.push_back(file.path.substr(0, slash));
  }
  return found;
}

// A library that was not installed could be loaded in place of the system's. True: nothing was
// found. A directory whose names were all known, and to which none was added since, is not read
// again: that would show in its times.
bool ReleaseCheck::findExtras(const std::string& relative) {
  struct stat info {};
  const std::string path = relative.empty() ? dir_ : dir_ + "/" + relative;
  const bool known = cache_ && ::lstat(path.c_str(), &info) == 0;
  if (known && S_ISDIR(info.st_mode) && cache_->holds(info, manifest_->digest)) {
    bool clean = true;
    for (const std::string& sub : subdirectories(relative)) clean &= findExtras(sub);
    return clean;
  }
  const bool clean = listExtras(relative);
  if (known && clean) cache_->add(info, manifest_->digest);
  return clean;
}

// False also for a directory that should not be there, empty as it may be: what comes into it does
// not show in the times of the one above.
bool ReleaseCheck::listExtras(const std::string& relative) {
  const auto names = listDir(relative.empty() ? dir_ : dir_ + "/" + relative);
  if (!names) return false;  // missing files were reported one by one
  const std::vector<std::string> expected = subdirectories(relative);
  bool clean = true;
  for (const std::string& name : *names) {
    const std::string path = relative.empty() ? name : relative + "/" + name;
    if (manifest_->find(path)) continue;
    struct stat info {};
    const bool directory =
        ::lstat((dir_ + "/" + path).c_str(), &info) == 0 && S_ISDIR(info.st_mode);
    if (problems_.size() > kMaxProblems) return false;
    if (!directory) problems_.push_back(path + ": not part of the release");
    clean &= directory && std::find(expected.begin(), expected.end(), path) != expected.end();
    if (directory) findExtras(path);
  }
  return clean;
}

Result<Fd> openChecked(const std::string& path, const protocol::ReleaseFile& file,
                       InodeCache* cache) {
  FileCheck check(path, file, cache);
  size_t unlimited = SIZE_MAX;
  check.step(unlimited);
  if (!check.problem().empty()) return fail(Code::kCorrupt, "{}: {}", path, check.problem());
  Fd fd = check.takeFd();
  if (::lseek(fd.get(), 0, SEEK_SET) < 0) return failErrno(errno, path);
  return fd;
}

}  // namespace cctl::shim
