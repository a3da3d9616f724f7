#include "shim/log_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <deque>
#include <optional>

#include "base/file.h"

namespace cctl::shim {
namespace {

constexpr char kCurrent[] = "current";
constexpr uint64_t kLeastFree = 256u << 20;  // or a fiftieth of a small file system
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

constexpr size_t kStem = kTimeWidth + 1 + kSerialWidth;

// The directory is the service's too: its own files are none of ours.
bool isRotatedName(std::string_view name) {
  return name.size() >= kStem + kRotatedSuffix.size() && name[4] == '-' && name[10] == 'T' &&
         name[kTimeWidth - 1] == 'Z' && name[kTimeWidth] == '-' &&
         (name.substr(kStem) == kRotatedSuffix || archivedInode(name) != 0);
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

// An archive can only be read forwards: the beginnings of the last lines are remembered on the way.
TailStart tailOf(ArchiveReader& archive, int lines) {
  static constexpr size_t kStep = 1u << 20;
  std::deque<uint64_t> begins = {0};
  uint64_t offset = 0;
  for (std::string text = archive.read(0, kStep); !text.empty();
       text = archive.read(offset, kStep)) {
    for (size_t at = text.find('\n'); at != std::string::npos; at = text.find('\n', at + 1)) {
      begins.push_back(offset + at + 1);
      if (begins.size() > static_cast<size_t>(lines) + 1) begins.pop_front();
    }
    offset += text.size();
  }
  return {begins.front(), static_cast<int>(begins.size()) - 1};
}

}  // namespace

LogFile::LogFile(std::string dir, LogLimits limits, const Clock& clock, Background* archiver)
    : dir_(std::move(dir)), limits_(limits), clock_(clock), archiver_(archiver) {}

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
  files.erase(files.begin(), files.begin() + static_cast<std::ptrdiff_t>(
                                                 files.size() - std::min(keep, files.size())));
  archiveAllBut(files);
}

// The newest rotated file stays as it is a while: whoever follows the log is still in it.
void LogFile::archiveAllBut(std::vector<std::string> files) {
  if (!archiver_ || files.empty()) return;
  files.pop_back();
  for (const std::string& name : files)
    if (archivedInode(name) == 0)
      archiver_->begin([dir = dir_, name] {
        return archive(dir, name).has_value();  // if not, again at the next rotation
      });
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

// Logs must not fill the disk that the services need. Looked at once in a while.
bool LogFile::diskIsShort() {
  static constexpr uint64_t kLookEvery = 256u << 10;  // bytes
  if (since_look_ < kLookEvery && !disk_short_) return false;
  since_look_ = 0;
  struct statvfs disk {};
  if (::statvfs(dir_.c_str(), &disk) != 0) return disk_short_ = false;
  const uint64_t total = uint64_t{disk.f_blocks} * disk.f_frsize;
  const uint64_t free = uint64_t{disk.f_bavail} * disk.f_frsize;
  return disk_short_ = free < std::min(total / 50, kLeastFree);
}

void LogFile::append(std::string_view lines, size_t count) {
  since_look_ += lines.size();
  if (diskIsShort()) {
    dropped_ += count;
    return;
  }
  if (dropped_ > 0) {
    const std::string note = fmt::format("{} E [clusterctl] {} lines could not be written here\n",
                                         formatTimeFixed(clock_.wall()), dropped_);
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

ArchiveReader& LogFile::openArchive(const std::string& name) {
  if (archive_name_ == name) return archive_;
  archive_ = ArchiveReader();
  archive_name_.clear();
  if (Fd file = openForReading(name); file && archive_.open(std::move(file))) archive_name_ = name;
  return archive_;
}

// Oldest first, `current` last. Files are opened here: the archiver may remove them at any time,
// and what is open can still be read.
std::optional<std::vector<LogFile::Entry>> LogFile::entriesNow() const {
  auto names = filesOldestFirst();
  names.emplace_back(kCurrent);
  std::vector<Entry> entries;
  for (std::string& name : names) {
    const std::string stem = name == kCurrent ? "" : name.substr(0, kStem);
    // Archived already and not yet removed: the file counts, which sorts behind its archive.
    if (!stem.empty() && !entries.empty() && entries.back().stem == stem) entries.pop_back();
    if (const uint64_t inode = archivedInode(name)) {
      entries.push_back({std::move(name), stem, inode, true, Fd()});
      continue;
    }
    Fd file = openForReading(name);
    if (!file && !stem.empty() && !exists(dir_ + "/" + name)) return std::nullopt;
    const auto info = file ? statOf(file.get()) : std::nullopt;
    if (info) entries.push_back({std::move(name), stem, info->st_ino, false, std::move(file)});
  }
  return entries;
}

// Each failed look is one file that was archived meanwhile: there are few, but the directory is the
// service's too, which may make and remove files as fast as it likes.
std::vector<LogFile::Entry> LogFile::entries() const {
  static constexpr int kLooks = 100;
  for (int looks = 0; looks < kLooks; ++looks)
    if (auto all = entriesNow()) return std::move(*all);
  return {};
}

// A file keeps its stem once it is rotated. Until then it is the one behind the newest that was.
// Its inode tells whether it is still there; alone it would not do: once the file is archived, a
// later one may have the same.
std::optional<size_t> LogFile::indexOf(const Position& position,
                                       const std::vector<Entry>& entries) {
  const auto found = std::find_if(entries.begin(), entries.end(), [&](const Entry& entry) {
    if (!position.stem.empty()) return entry.stem == position.stem;
    return entry.stem.empty() || entry.stem > position.after;
  });
  if (found == entries.end()) return std::nullopt;
  if (position.stem.empty() && found->inode != position.inode) return std::nullopt;
  return static_cast<size_t>(found - entries.begin());
}

LogFile::Position LogFile::positionIn(const std::vector<Entry>& entries, size_t i,
                                      uint64_t offset) {
  Position position{entries[i].inode, offset, entries[i].stem, {}};
  if (position.stem.empty() && i > 0) position.after = entries[i - 1].stem;
  return position;
}

std::string LogFile::readFrom(const Entry& entry, uint64_t offset, size_t limit) {
  if (entry.archived) return openArchive(entry.name).read(offset, limit);
  return readAt(entry.file.get(), offset, limit);
}

LogFile::Position LogFile::tail(int lines) {
  const auto all = entries();
  Position position;
  for (size_t i = all.size(); i-- > 0;) {
    const TailStart start = all[i].archived ? tailOf(openArchive(all[i].name), lines)
                                            : tailOf(all[i].file.get(), lines);
    position = positionIn(all, i, start.offset);
    lines -= start.found;
    if (lines <= 0) break;
  }
  return position;
}

// A reader whose file is gone, or that began before there was one, goes on with what there is; one
// at the end of a file with the beginning of the next.
std::string LogFile::read(Position& position, size_t limit) {
  const auto all = entries();
  const auto at = indexOf(position, all);
  for (size_t i = at.value_or(0); i < all.size(); ++i) {
    const uint64_t offset = at && i == *at ? position.offset : 0;
    std::string text = readFrom(all[i], offset, limit);
    position = positionIn(all, i, offset + text.size());
    if (!text.empty()) return text;
  }
  return {};
}

}  // namespace cctl::shim
