// What an instance wrote: ROOT/…/log/current, rotated by size.
//
// The directory belongs to the service's user, who may be hostile to the shim: files are opened
// relative to the directory, links are not followed, and only the shim's own files are written.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/result.h"
#include "protocol/messages.h"
#include "shim/background.h"
#include "shim/log_archive.h"

namespace cctl::shim {

struct LogLimits {
  uint64_t max_size = 64u << 20;  // bytes
  int keep = 5;                   // rotated files
};

// Not thread-safe. Never blocks but on the disk's cache.
class LogFile {
 public:
  // `clock` must outlive it. Opened at the first line.
  // `archiver`: compresses rotated files, all but the newest; null: nobody does.
  LogFile(std::string dir, LogLimits limits, const Clock& clock, Background* archiver = nullptr);

  void setLimits(LogLimits limits) { limits_ = limits; }

  // Whole lines, each ended by '\n'. What cannot be written is counted, and the count is told in
  // the log when writing works again.
  void append(std::string_view lines, size_t count);

  // Where the next of these lines go, and how many bytes of them: whole lines, at least one.
  // Rotates where nothing fits the file any more.
  struct Room {
    uint64_t inode = 0;
    uint64_t size = 0;  // of the file so far
    size_t bytes = 0;
  };
  [[nodiscard]] Result<Room> roomFor(std::string_view lines);
  // Takes back what was written behind `size`, if the current file is still that one.
  void cutTo(uint64_t inode, uint64_t size);

  // The instance is forgotten: followers see that there will be no more.
  void close();
  bool closed() const { return closed_; }

  uint64_t subscribe(std::function<void()> on_append);
  void unsubscribe(uint64_t id) { subscribers_.erase(id); }

  using Position = protocol::LogPosition;
  // The position from which `lines` lines follow, rotated files included.
  Position tail(int lines);
  // At most `limit` bytes from there on, in whole lines where they end in time; advances the
  // position, into the next file at the end of one. Empty: nothing more now.
  std::string read(Position& position, size_t limit);

 private:
  [[nodiscard]] Result<void> openCurrent();
  size_t fitting(std::string_view lines) const;
  [[nodiscard]] Result<void> write(std::string_view lines);
  void rotate();
  void archiveAllBut(std::vector<std::string> files);
  bool diskIsShort();
  ArchiveReader& openArchive(const std::string& name);
  struct Entry {
    std::string name;
    std::string stem;  // of a rotated file: "TIME-SERIAL"
    uint64_t inode = 0;
    bool archived = false;
    Fd file;  // unless archived
  };
  // nullopt: a file went into its archive while the directory was read.
  std::optional<std::vector<Entry>> entriesNow() const;
  std::vector<Entry> entries() const;
  static std::optional<size_t> indexOf(const Position& position, const std::vector<Entry>& entries);
  static Position positionIn(const std::vector<Entry>& entries, size_t i, uint64_t offset);
  std::string readFrom(const Entry& entry, uint64_t offset, size_t limit);
  std::vector<std::string> filesOldestFirst() const;
  Fd openForReading(const std::string& name) const;

  std::string dir_;
  LogLimits limits_;
  const Clock& clock_;
  Background* archiver_;
  ArchiveReader archive_;  // of archive_name_: readers go through a file in order
  std::string archive_name_;
  uint64_t since_look_ = UINT64_MAX / 2;  // bytes written since the disk was looked at
  bool disk_short_ = false;
  Fd dir_fd_;
  Fd file_;
  uint64_t inode_ = 0;
  uint64_t size_ = 0;
  uint64_t dropped_ = 0;
  bool closed_ = false;
  uint64_t next_subscriber_ = 1;
  std::map<uint64_t, std::function<void()>> subscribers_;
};

}  // namespace cctl::shim
