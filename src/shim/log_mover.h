// Moves whole lines from a service's pipe to its log so that a SIGKILL at any instant neither loses
// nor doubles one.
//
// Bytes are looked at without taking them (tee(2)); then the move is noted in Survivors, they are
// spliced into the staging memory, whose offset and content change together in the kernel, written
// to the log, and the note is wiped. Whoever finds a note does that move again: cuts the log to
// what it was before, splices what is still missing, and writes it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "shim/survivors.h"

namespace cctl::shim {

class LogMover {
 public:
  // The memory that the anchor holds for it.
  [[nodiscard]] static Result<Fd> makeStage();
  // `survivors` must outlive it.
  [[nodiscard]] static Result<LogMover> open(Fd stage, Survivors& survivors);

  int stage() const { return stage_.get(); }

  // The bytes under way as lines, stamped, and where each ends there and in the pipe. One for all
  // that use this mover: it is worked on in one go.
  struct LineEnd {
    size_t stamped = 0;
    size_t raw = 0;
  };
  struct Batch {
    std::string text;
    std::vector<LineEnd> ends;
  };
  Batch& batch() { return batch_; }

  // Where lines come from and where they are about to go.
  struct Move {
    std::string name;  // "service/index/generation"
    char stream = 'O';
    uint64_t log_inode = 0;
    uint64_t log_size = 0;
    size_t length = 0;  // bytes to take
  };

  // A copy of what the pipe holds, at most 64 KiB of it, valid until the next call; nothing is
  // taken. Empty: nothing there.
  std::string_view peek(int pipe);
  // Takes `move.length` bytes, which peek() has shown. Until finish() the move counts as under way.
  void take(int pipe, const Move& move);
  void finish();

  // What a supervisor before this one did not finish; recover() then gives the bytes, taking those
  // that are still missing out of `pipe` (-1: not to be had). finish() ends it too.
  std::optional<Move> unfinished() const;
  std::string recover(int pipe);

 private:
  LogMover(Fd stage, Fd scratch_read, Fd scratch_write, Survivors& survivors)
      : stage_(std::move(stage)),
        scratch_read_(std::move(scratch_read)),
        scratch_write_(std::move(scratch_write)),
        survivors_(&survivors) {}
  void spliceInto(int pipe, size_t length);

  Fd stage_;
  Fd scratch_read_;
  Fd scratch_write_;
  Survivors* survivors_;
  std::unique_ptr<char[]> peeked_;
  Batch batch_;
};

}  // namespace cctl::shim
