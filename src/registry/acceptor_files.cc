#include "registry/acceptor_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <set>

#include "base/file.h"

namespace cctl::registry {
namespace {

constexpr size_t kLargestFile = 1u << 30;

std::string logPath(const std::string& dir, uint64_t number) {
  return fmt::format("{}/{}.log", dir, number);
}
std::string snapshotPath(const std::string& dir, uint64_t number) {
  return fmt::format("{}/{}.snapshot", dir, number);
}

struct Found {
  std::set<uint64_t> logs;
  std::set<uint64_t> snapshots;
};

Result<Found> look(const std::string& dir) {
  CCTL_TRY(const std::vector<std::string> names, listDir(dir));
  Found found;
  for (const std::string& name : names) {
    uint64_t number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error != std::errc() || number == 0) continue;
    const std::string_view rest(end);
    if (rest == ".log") found.logs.insert(number);
    if (rest == ".snapshot") found.snapshots.insert(number);
  }
  return found;
}

Result<void> checkOrder(const std::string& dir, const Found& found, uint64_t first) {
  const uint64_t last = *found.logs.rbegin();
  for (uint64_t number = first; number <= last; ++number)
    if (found.logs.count(number) == 0)
      return fail(Code::kCorrupt,
                  "{} is missing; this host has lost what it promised: take it out of the "
                  "registry and admit it anew",
                  logPath(dir, number));
  return {};
}

Result<LogContent> readLog(const std::string& path, bool may_be_torn) {
  CCTL_TRY(const std::string bytes, readFile(path, kLargestFile));
  CCTL_TRY(LogContent content, parseLog(bytes, path));
  if (content.torn != 0 && !may_be_torn)
    return fail(Code::kCorrupt,
                "{}: its end is damaged, which no crash explains; take this host out of the "
                "registry and admit it anew",
                path);
  return content;
}

Result<void> feed(const std::vector<std::string>& records, const std::string& path,
                  const AcceptorFiles::Sink& sink) {
  for (const std::string& record : records)
    if (auto fed = sink(record); !fed) return fail(fed.error().context(path));
  return {};
}

Result<void> createLog(const std::string& path, const std::vector<std::string>& records) {
  std::string bytes(logMagic());
  for (const std::string& record : records) bytes += encodeRecord(record);
  return replaceFile(path, bytes, 0600);
}

}  // namespace

LogIo LogIo::blocking() {
  return {
      [](int fd, std::string_view bytes) { return writeAll(fd, bytes); },
      [](int fd, const std::function<void(int)>& done) { done(::fdatasync(fd) == 0 ? 0 : errno); }};
}

Result<AcceptorFiles> AcceptorFiles::open(
    const std::string& dir, const Sink& sink,
    const std::function<Result<std::vector<std::string>>()>& begin) {
  CCTL_TRY(Found found, look(dir));
  if (found.logs.empty() && found.snapshots.empty()) {
    CCTL_TRY(const std::vector<std::string> records, begin());
    CCTL_CHECK(createLog(logPath(dir, 1), records));
    found.logs.insert(1);
  }
  if (found.logs.empty())
    return fail(Code::kCorrupt, "{} has a snapshot and no log; admit this host anew", dir);
  const uint64_t first = found.snapshots.empty() ? 1 : *found.snapshots.rbegin();
  CCTL_CHECK(checkOrder(dir, found, first));
  if (!found.snapshots.empty()) {
    CCTL_TRY(const LogContent content, readLog(snapshotPath(dir, first), false));
    CCTL_CHECK(feed(content.records, snapshotPath(dir, first), sink));
  }
  const uint64_t last = *found.logs.rbegin();
  for (uint64_t number = first; number < last; ++number) {
    CCTL_TRY(const LogContent content, readLog(logPath(dir, number), false));
    CCTL_CHECK(feed(content.records, logPath(dir, number), sink));
  }
  CCTL_TRY(const LogContent content, readLog(logPath(dir, last), true));
  CCTL_CHECK(feed(content.records, logPath(dir, last), sink));
  AcceptorFiles files;
  files.dir_ = dir;
  files.size_ = content.valid_size;
  files.torn_ = content.torn;
  CCTL_CHECK(files.openLog(last));
  return files;
}

// What was read may never have reached the disk when a process was killed before its sync: it is
// shown to others from now on, so it is synced first.
Result<void> AcceptorFiles::openLog(uint64_t number) {
  const std::string path = logPath(dir_, number);
  if (size_ < logMagic().size()) {
    CCTL_CHECK(createLog(path, {}));
    size_ = logMagic().size();
  }
  CCTL_TRY(fd_, openFile(path, O_WRONLY | O_APPEND));
  number_ = number;
  CCTL_CHECK(cutBack());
  if (::fsync(fd_.get()) != 0) return failErrno(errno, path);
  return syncDir(dir_);
}

// Reserves the block that the next records go to, which stays behind the end of the file.
Result<void> AcceptorFiles::checkRoom() const {
  constexpr off_t kBlock = 4096;
  if (::fallocate(fd_.get(), FALLOC_FL_KEEP_SIZE, static_cast<off_t>(size_), kBlock) == 0 ||
      errno == EOPNOTSUPP || errno == ENOSYS || errno == EINTR)
    return {};
  return failErrno(errno, logPath(dir_, number_));
}

Result<void> AcceptorFiles::cutBack() {
  if (::ftruncate(fd_.get(), static_cast<off_t>(size_)) != 0)
    return failErrno(errno, logPath(dir_, number_));
  return {};
}

Result<uint64_t> AcceptorFiles::rotate() {
  const std::string path = logPath(dir_, number_ + 1);
  const auto created = createLog(path, {});
  auto opened = created ? openFile(path, O_WRONLY | O_APPEND) : fail(created.error());
  if (!opened) {
    // The log of before goes on: it must stay the last, since it may end torn.
    (void)::unlink(path.c_str());
    return fail(opened.error());
  }
  fd_ = std::move(*opened);
  size_ = logMagic().size();
  return ++number_;
}

Result<void> AcceptorFiles::writeSnapshot(const std::string& dir, uint64_t number,
                                          const std::function<void(const Sink&)>& records) {
  std::string bytes(logMagic());
  records([&](const std::string& record) -> Result<void> {
    bytes += encodeRecord(record);
    return {};
  });
  CCTL_CHECK(replaceFile(snapshotPath(dir, number), bytes, 0600));
  CCTL_TRY(const Found found, look(dir));
  for (const uint64_t old : found.logs)
    if (old < number) (void)::unlink(logPath(dir, old).c_str());
  for (const uint64_t old : found.snapshots)
    if (old < number) (void)::unlink(snapshotPath(dir, old).c_str());
  return {};
}

}  // namespace cctl::registry
