#include "shim/log_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>

#include "base/file.h"

namespace cctl::shim {
namespace {

constexpr char kCurrent[] = "current";
constexpr std::string_view kRotatedSuffix = ".log";

std::optional<struct stat> statOf(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return std::nullopt;
  return info;
}

std::string readAt(int fd, uint64_t offset, size_t limit) {
  std::string text(limit, '\0');
  ssize_t got = 0;
  do got = ::pread(fd, text.data(), text.size(), static_cast<off_t>(offset));
  while (got < 0 && errno == EINTR);
  text.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)));
  return text;
}

// Of one width, so that names sort by age: "2026-11-23T10:00:00.123Z-000000.log".
constexpr size_t kTimeWidth = 24;
constexpr size_t kSerialWidth = 6;

std::string rotatedName(std::string_view time, unsigned serial) {
  return fmt::format("{}-{:06}{}", time, serial, kRotatedSuffix);
}

// The directory is the service's too: its own files are none of ours.
bool isRotatedName(std::string_view name) {
  return name.size() == kTimeWidth + 1 + kSerialWidth + kRotatedSuffix.size() && name[4] == '-' &&
         name[10] == 'T' && name[kTimeWidth - 1] == 'Z' && name[kTimeWidth] == '-' &&
         name.ends_with(kRotatedSuffix);
}

// Later than `last` in any case: clocks are set back, and stand still within a millisecond.
std::string nameAfter(const std::string& last, WallTime now) {
  std::string name = rotatedName(formatTimeFixed(now), 0);
  if (last < name) return name;
  unsigned serial = 0;
  const char* digits = last.data() + kTimeWidth + 1;
  std::from_chars(digits, digits + kSerialWidth, serial);
  return rotatedName(std::string_view(last).substr(0, kTimeWidth), serial + 1);
}

// Where the last `lines` lines of the file begin, and how many there were.
struct TailStart {
  uint64_t offset = 0;
  int found = 0;
};

TailStart tailOf(int fd, int lines) {
  static constexpr uint64_t kStep = 64u << 10;
  const auto info = statOf(fd);
  uint64_t end = info ? static_cast<uint64_t>(info->st_size) : 0;
  int newlines = 0;
  while (end > 0) {
    const uint64_t begin = end > kStep ? end - kStep : 0;
    const std::string text = readAt(fd, begin, static_cast<size_t>(end - begin));
    if (text.empty()) break;  // cut off meanwhile
    for (size_t i = text.size(); i-- > 0;)
      if (text[i] == '\n' && ++newlines > lines) return {begin + i + 1, lines};
    end = begin;
  }
  return {0, newlines};
}

}  // namespace

LogFile::LogFile(std::string dir, LogLimits limits, const Clock& clock)
    : dir_(std::move(dir)), limits_(limits), clock_(clock) {}

Result<void> LogFile::openCurrent() {
  if (!dir_fd_) {
    CCTL_TRY(dir_fd_, openFile(dir_, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  }
  Fd file(::openat(dir_fd_.get(), kCurrent,
                   O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0644));
  if (!file) return failErrno(errno, dir_ + "/current");
  const auto info = statOf(file.get());
  if (!info || !S_ISREG(info->st_mode) || info->st_nlink != 1 || info->st_uid != ::geteuid())
    return fail(Code::kRefused, "{}/current is not a file of the shim's", dir_);
  inode_ = info->st_ino;
  size_ = static_cast<uint64_t>(info->st_size);
  file_ = std::move(file);
  return {};
}

void LogFile::rotate() {
  auto files = filesOldestFirst();
  const std::string name = nameAfter(files.empty() ? std::string() : files.back(), clock_.wall());
  if (::renameat(dir_fd_.get(), kCurrent, dir_fd_.get(), name.c_str()) != 0) return;
  file_.reset();
  files.push_back(name);
  const auto keep = static_cast<size_t>(std::max(limits_.keep, 0));
  for (size_t i = 0; i + keep < files.size(); ++i) ::unlinkat(dir_fd_.get(), files[i].c_str(), 0);
}

// As many whole lines as fit the current file; one line always does in an empty one.
size_t LogFile::fitting(std::string_view lines) const {
  const uint64_t room = limits_.max_size > size_ ? limits_.max_size - size_ : 0;
  if (lines.size() <= room) return lines.size();
  const size_t cut = room == 0 ? std::string_view::npos : lines.rfind('\n', room - 1);
  if (cut != std::string_view::npos) return cut + 1;
  return size_ > 0 ? 0 : lines.find('\n') + 1;
}

Result<LogFile::Room> LogFile::roomFor(std::string_view lines) {
  for (;;) {
    if (!file_) CCTL_CHECK(openCurrent());
    if (const size_t part = fitting(lines); part > 0) return Room{inode_, size_, part};
    rotate();
    if (file_) return fail(Code::kError, "{}: cannot be rotated", dir_);
  }
}

void LogFile::cutTo(uint64_t inode, uint64_t size) {
  if (!file_ && !openCurrent()) return;
  if (inode_ != inode || size_ <= size) return;
  if (::ftruncate(file_.get(), static_cast<off_t>(size)) == 0) size_ = size;
}

Result<void> LogFile::write(std::string_view lines) {
  while (!lines.empty()) {
    CCTL_TRY(const Room room, roomFor(lines));
    const size_t part = room.bytes;
    if (auto written = writeAll(file_.get(), lines.substr(0, part)); !written) {
      // Take back half a line.
      [[maybe_unused]] const int cut = ::ftruncate(file_.get(), static_cast<off_t>(size_));
      return written;
    }
    size_ += part;
    lines.remove_prefix(part);
  }
  return {};
}

void LogFile::append(std::string_view lines, size_t count) {
  if (dropped_ > 0) {
    const std::string note = fmt::format("{} E [clusterctl] {} lines could not be written here\n",
                                         formatTime(clock_.wall()), dropped_);
    if (write(note)) dropped_ = 0;
  }
  if (dropped_ > 0 || !write(lines)) {
    dropped_ += count;
    return;
  }
  for (const auto& [id, on_append] : std::map(subscribers_)) on_append();
}

void LogFile::close() {
  closed_ = true;
  for (const auto& [id, on_append] : std::map(subscribers_)) on_append();
}

uint64_t LogFile::subscribe(std::function<void()> on_append) {
  subscribers_[next_subscriber_] = std::move(on_append);
  return next_subscriber_++;
}

std::vector<std::string> LogFile::filesOldestFirst() const {
  auto names = listDir(dir_);
  if (!names) return {};
  names->erase(std::remove_if(names->begin(), names->end(),
                              [](const std::string& n) { return !isRotatedName(n); }),
               names->end());
  return std::move(*names);
}

Fd LogFile::openForReading(const std::string& name) const {
  Fd file(::open((dir_ + "/" + name).c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  if (!file) return file;
  const auto info = statOf(file.get());
  if (!info || !S_ISREG(info->st_mode) || info->st_uid != ::geteuid()) file.reset();
  return file;
}

LogFile::Position LogFile::tail(int lines) {
  auto files = filesOldestFirst();
  files.emplace_back(kCurrent);
  Position position;
  for (size_t i = files.size(); i-- > 0;) {
    const Fd file = openForReading(files[i]);
    if (!file) continue;
    const TailStart start = tailOf(file.get(), lines);
    position = {statOf(file.get())->st_ino, start.offset};
    lines -= start.found;
    if (lines <= 0) break;
  }
  return position;
}

std::string LogFile::read(Position& position, size_t limit) {
  auto files = filesOldestFirst();
  files.emplace_back(kCurrent);
  bool found = false;
  for (const std::string& name : files) {
    const Fd file = openForReading(name);
    if (!file) continue;
    const uint64_t inode = statOf(file.get())->st_ino;
    // Past the reader's file: from the beginning of the next. A reader whose file is gone, or that
    // began before there was one, goes on with what there is.
    if (found) position = {inode, 0};
    if (inode != position.inode) continue;
    found = true;
    std::string text = readAt(file.get(), position.offset, limit);
    position.offset += text.size();
    if (!text.empty()) return text;
  }
  if (found) return {};
  for (const std::string& name : files) {
    const Fd file = openForReading(name);
    if (!file) continue;
    position = {statOf(file.get())->st_ino, 0};
    return read(position, limit);
  }
  return {};
}

}  // namespace cctl::shim
