// Where an acceptor's records are kept: a snapshot and the logs that follow it, in one directory
// (PROTOCOL.md, "Files").
//   N.snapshot   the whole state when log N was begun; written beside the log, renamed into place
//   N.log        every record since then
// State is the newest snapshot and every log from its number on; a log without a snapshot before it
// must be number 1. Each file is a record log (record_log.h). Only the last log may end in a torn
// record. What is older than the newest snapshot is removed.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "registry/record_log.h"

namespace cctl::registry {

// What touches the disk while it serves; tests let it fail.
struct LogIo {
  std::function<Result<void>(int fd, std::string_view bytes)> append;
  // fdatasync(2), here or elsewhere; `done` gets 0 or an errno, now or later, on this thread.
  std::function<void(int fd, std::function<void(int)> done)> sync;
  static LogIo blocking();
};

class AcceptorFiles {
 public:
  // `begin` is the content of a new disk. Cuts a torn tail and makes what is left durable. `sink`
  // gets every record in order, or says why it cannot be used.
  using Sink = std::function<Result<void>(const std::string& record)>;
  [[nodiscard]] static Result<AcceptorFiles> open(
      const std::string& dir, const Sink& sink,
      const std::function<Result<std::vector<std::string>>()>& begin);

  int fd() const { return fd_.get(); }
  size_t size() const { return size_; }  // of the log that is written to
  size_t tornBytes() const { return torn_; }
  void grew(size_t bytes) { size_ += bytes; }
  // Whether the log can grow; else why not. Changes nothing that can be seen.
  [[nodiscard]] Result<void> checkRoom() const;
  // Cuts off what a failed append may have left.
  [[nodiscard]] Result<void> cutBack();

  // Begins the next log. The records so far must be durable. Returns its number.
  [[nodiscard]] Result<uint64_t> rotate();
  // The snapshot that goes before log `number`; then removes what it makes needless. May run in
  // another process.
  [[nodiscard]] static Result<void> writeSnapshot(const std::string& dir, uint64_t number,
                                                  const std::function<void(const Sink&)>& records);

 private:
  [[nodiscard]] Result<void> openLog(uint64_t number);

  std::string dir_;
  Fd fd_;
  uint64_t number_ = 0;
  size_t size_ = 0;
  size_t torn_ = 0;
};

}  // namespace cctl::registry
