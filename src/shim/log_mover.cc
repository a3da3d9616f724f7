#include "shim/log_mover.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

namespace cctl::shim {
namespace {

constexpr size_t kPeek = 64u << 10;

// The supervisor may be killed between any two instructions: the order of stores is all there is.
void inThisOrder() { std::atomic_signal_fence(std::memory_order_seq_cst); }

}  // namespace

Result<Fd> LogMover::makeStage() {
  Fd stage(::memfd_create("clusterctl-stage", MFD_CLOEXEC));
  if (!stage) return failErrno(errno, "memfd_create");
  return stage;
}

Result<LogMover> LogMover::open(Fd stage, Survivors& survivors) {
  if (!stage) {
    CCTL_TRY(stage, makeStage());
  }
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return failErrno(errno, "pipe");
  // tee() copies buffers, of which each may hold little: as many as a service's pipe can have.
  ::fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);  // best effort: fewer bytes are seen at a time
  LogMover mover(std::move(stage), Fd(ends[0]), Fd(ends[1]), survivors);
  mover.peeked_ = std::make_unique_for_overwrite<char[]>(kPeek);
  return mover;
}

std::string_view LogMover::peek(int pipe) {
  ssize_t copied = 0;
  do copied = ::tee(pipe, scratch_write_.get(), kPeek, SPLICE_F_NONBLOCK);
  while (copied < 0 && errno == EINTR);
  if (copied <= 0) return {};
  size_t have = 0;
  while (have < static_cast<size_t>(copied)) {
    const ssize_t got =
        ::read(scratch_read_.get(), peeked_.get() + have, static_cast<size_t>(copied) - have);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    have += static_cast<size_t>(got);
  }
  return {peeked_.get(), have};
}

void LogMover::spliceInto(int pipe, size_t length) {
  while (length > 0) {
    const ssize_t moved = ::splice(pipe, nullptr, stage_.get(), nullptr, length, SPLICE_F_NONBLOCK);
    if (moved < 0 && errno == EINTR) continue;
    if (moved <= 0) return;
    length -= static_cast<size_t>(moved);
  }
}

void LogMover::take(int pipe, const Move& move) {
  ::lseek(stage_.get(), 0, SEEK_SET);
  LogMove& note = survivors_->move();
  note.length = static_cast<uint32_t>(move.length);
  note.log_inode = move.log_inode;
  note.log_size = move.log_size;
  note.stream = move.stream;
  const size_t size = std::min(move.name.size(), sizeof note.name - 1);
  std::memcpy(note.name, move.name.data(), size);
  note.name[size] = '\0';
  inThisOrder();
  note.active = 1;
  inThisOrder();
  spliceInto(pipe, move.length);
}

void LogMover::finish() {
  inThisOrder();
  survivors_->move().active = 0;
  inThisOrder();
}

std::optional<LogMover::Move> LogMover::unfinished() const {
  const LogMove& note = survivors_->move();
  if (note.active == 0) return std::nullopt;
  return Move{std::string(note.name, ::strnlen(note.name, sizeof note.name)), note.stream,
              note.log_inode, note.log_size, note.length};
}

std::string LogMover::recover(int pipe) {
  const size_t length = survivors_->move().length;
  const off_t staged = ::lseek(stage_.get(), 0, SEEK_CUR);
  if (pipe >= 0 && staged >= 0 && static_cast<size_t>(staged) < length)
    spliceInto(pipe, length - static_cast<size_t>(staged));
  const off_t end = ::lseek(stage_.get(), 0, SEEK_CUR);
  std::string bytes(static_cast<size_t>(std::max<off_t>(end, 0)), '\0');
  const ssize_t got = ::pread(stage_.get(), bytes.data(), bytes.size(), 0);
  bytes.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)));
  return bytes;
}

}  // namespace cctl::shim
