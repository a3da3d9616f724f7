// What a supervisor must not lose when it is killed in the middle of something, kept in memory that
// the anchor holds too (memfd_create(2)): which processes it has begun, and which lines it was
// moving from a pipe to a log. Gone with the power, or when both processes die.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace cctl::shim {

// Where the kernel itself writes the pid of a new process, before it runs (CLONE_PARENT_SETTID,
// clone(2)): there is no instant at which a process exists and nobody knows it.
struct PidSlot {
  int32_t pid = 0;
  int32_t used = 0;
  char name[120] = {};  // "service/index/generation"
};

// Lines on their way: whole in the staging file, and not yet known to be whole in the log. Done
// again from the start: the log is cut to `log_size` first.
struct LogMove {
  int32_t active = 0;
  uint32_t length = 0;  // bytes that are to be taken out of the pipe
  uint64_t log_inode = 0;
  uint64_t log_size = 0;
  char stream = 'O';
  char name[119] = {};  // of the pipe's owner, like PidSlot::name
};

class Survivors {
 public:
  static constexpr size_t kSlots = 4096;

  [[nodiscard]] static Result<Fd> makeMemory();
  // Maps the memory; one that is not valid is made anew and dies with this process.
  [[nodiscard]] static Result<Survivors> open(Fd memory);
  Survivors(Survivors&& other) noexcept;
  Survivors& operator=(Survivors&&) = delete;
  ~Survivors();

  int fd() const { return memory_.get(); }
  // Whether the memory has been through the hands of an earlier supervisor, as far as it knows.
  bool inherited() const { return memory().inherited != 0; }
  void markInherited() { memory().inherited = 1; }

  // The slot of that name, a new one when there is none; null when all are taken.
  PidSlot* slot(const std::string& name);
  // 0: none was begun, or its end has been dealt with.
  int pidOf(const std::string& name) const;
  void release(const std::string& name);
  // Whether any slot has this pid.
  bool holds(int pid) const;

  LogMove& move() { return memory().move; }

 private:
  struct Memory {
    LogMove move;
    int32_t inherited;
    int32_t high;  // slots behind this one were never used: their pages need not exist
    PidSlot slots[kSlots];
  };

  Survivors(Fd memory, void* address) : memory_(std::move(memory)), address_(address) {}
  Memory& memory() const { return *static_cast<Memory*>(address_); }
  PidSlot* find(std::string_view name) const;

  Fd memory_;
  void* address_ = nullptr;
};

}  // namespace cctl::shim
