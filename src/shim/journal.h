// The shim's event journal: append-only text, one event a line behind its CRC-32C, in segments
// named for their first event (PROTOCOL.md, "Files"). Bounded: the oldest segment is dropped.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "protocol/messages.h"
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

  // Finds the end of what is there. A torn tail is cut, and both that and damage elsewhere is in
  // problems(); only a directory that cannot be used is an error.
  [[nodiscard]] Result<void> open();
  const std::vector<std::string>& problems() const { return problems_; }

  // Gives the event its number and time and writes it; survives a SIGKILL at once, a power loss
  // within a fifth of a second. On a full disk events are counted, and the count is told later.
  void append(protocol::Event event);
  // Waits for the disk.
  void sync();

  uint64_t lastSeq() const { return next_seq_ - 1; }

  // At most `limit` events numbered above `after` and not before `since`, oldest first. Lines that
  // do not hold are passed over.
  std::vector<protocol::Event> read(uint64_t after, std::optional<WallTime> since, size_t limit);

  // Called after each append, also of an event that the disk did not take, until the returned
  // number is given to unsubscribe().
  using OnAppend = std::function<void(const protocol::Event&)>;
  uint64_t subscribe(OnAppend on_append);
  void unsubscribe(uint64_t id) { subscribers_.erase(id); }

 private:
  struct Segment {
    uint64_t first_seq = 0;
    uint64_t size = 0;
  };

  std::string pathOf(const Segment& segment) const;
  [[nodiscard]] Result<void> openSegment(Segment& segment, bool last);
  [[nodiscard]] Result<void> rotate();
  [[nodiscard]] Result<void> writeLine(const std::string& line);
  void tellDropped();

  std::string dir_;
  EventLoop& loop_;
  JournalLimits limits_;
  std::vector<Segment> segments_;
  std::vector<std::string> problems_;
  Fd file_;
  uint64_t next_seq_ = 1;
  uint64_t dropped_ = 0;
  Timer sync_timer_;
  uint64_t next_subscriber_ = 1;
  std::map<uint64_t, OnAppend> subscribers_;
};

// One line of the file, without the newline, and back; nothing for a line that does not hold.
std::string encodeJournalLine(const protocol::Event& event);
std::optional<protocol::Event> decodeJournalLine(std::string_view line);

}  // namespace cctl::shim
