// The shim's event journal: append-only text, one event a line behind its CRC-32C, in segments
// named for their first event (PROTOCOL.md, "Files"). Bounded: the oldest segment is dropped.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "protocol/messages.h"
#include "shim/disk_sync.h"
#include "shim/event_loop.h"

namespace cctl::shim {

struct JournalLimits {
  uint64_t segment_size = 1u << 20;  // bytes
  size_t segments = 16;
};

class Journal {
 public:
  // `loop` must outlive it.
  Journal(std::string dir, EventLoop& loop, JournalLimits limits = {});
  ~Journal() { flush(); }

  // Finds the end of what is there. A torn tail is cut, and both that and damage elsewhere is in
  // problems(); only a directory that cannot be read is an error. What cannot be written, on a disk
  // that is full or has become read-only, is tried again with each event.
  [[nodiscard]] Result<void> open();
  const std::vector<std::string>& problems() const { return problems_; }
  // open() found none.
  bool isNew() const { return new_; }
  // Where somebody has removed its files while it was in use, new ones are begun, and that is said.
  void noticeRemoved();
  // Says that what was there before is gone.
  void noteRemoved();
  // Events that could not be written, and of which the journal does not tell yet.
  uint64_t dropped() const { return dropped_; }

  // Gives the event its time. It is numbered and written at the end of this turn of the loop, so
  // that what it is about, a restart above all, goes first; from then on it survives a SIGKILL, and
  // a power loss within a fifth of a second. On a full disk events are counted, and the count is
  // told later.
  void append(protocol::Event event);
  // Writes what was appended.
  void flush();
  // And waits for the disk.
  void sync();

  uint64_t lastSeq() const { return next_seq_ - 1; }

  // At most `limit` events numbered above `after` and not before `since`, oldest first. Lines that
  // do not hold are passed over.
  std::vector<protocol::Event> read(uint64_t after, std::optional<WallTime> since, size_t limit);
  // Whether the newest events tell how this process ended.
  bool tellsExitOf(int pid, uint64_t start_ticks);

  // Called after each append, until the returned number is given to unsubscribe().
  uint64_t subscribe(std::function<void()> on_append);
  void unsubscribe(uint64_t id) { subscribers_.erase(id); }
  // The same with each event, also one that the disk did not take, until unobserve().
  uint64_t observe(std::function<void(const protocol::Event&)> on_event);
  void unobserve(uint64_t id) { observers_.erase(id); }

 private:
  struct Segment {
    uint64_t first_seq = 0;
    uint64_t size = 0;
  };

  std::string pathOf(const Segment& segment) const;
  [[nodiscard]] Result<void> openSegment(Segment& segment, bool last);
  [[nodiscard]] Result<void> openLast();
  [[nodiscard]] Result<void> rotate();
  [[nodiscard]] Result<void> writeLine(const std::string& line);
  void write(protocol::Event& event);
  void tellDropped();

  std::string dir_;
  EventLoop& loop_;
  JournalLimits limits_;
  std::vector<Segment> segments_;
  std::vector<std::string> problems_;
  bool new_ = false;
  Fd file_;
  uint64_t next_seq_ = 1;
  uint64_t dropped_ = 0;
  std::vector<protocol::Event> waiting_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for what is posted to the loop
  Timer sync_timer_;
  DiskSync disk_;
  uint64_t next_subscriber_ = 1;
  std::map<uint64_t, std::function<void()>> subscribers_;
  std::map<uint64_t, std::function<void(const protocol::Event&)>> observers_;
};

// One line of the file, without the newline, and back; nothing for a line that does not hold.
std::string encodeJournalLine(const protocol::Event& event);
std::optional<protocol::Event> decodeJournalLine(std::string_view line);

}  // namespace cctl::shim
