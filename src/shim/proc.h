// What /proc says (proc(5)).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace cctl::shim {

struct ProcStat {
  char state = '?';  // 'Z': a zombie
  int parent = 0;
  int group = 0;
  int session = 0;
  uint64_t user_ticks = 0;
  uint64_t system_ticks = 0;
  int threads = 0;
  uint64_t start_ticks = 0;  // since boot: with the pid, the identity of a process
  uint64_t rss_pages = 0;
  int exit_code = 0;  // wait status of a zombie; 0 unless we may ptrace it

  bool dead() const { return state == 'Z' || state == 'X'; }
};

// The command name may hold spaces and parentheses: fields are counted from the last ')'.
std::optional<ProcStat> parseProcStat(std::string_view text);
std::optional<ProcStat> readProcStat(int pid);

// The process with this pid and this start time, if it is alive (not a zombie).
std::optional<ProcStat> aliveProcess(int pid, uint64_t start_ticks);

// Living members of the session `sid`; empty when that number names a newer session than the one
// that began at `start_ticks`.
std::vector<int> sessionMembers(int sid, uint64_t start_ticks);

std::string bootId();
Millis ticksToMillis(uint64_t ticks);
int countFds(int pid);

struct HostFigures {
  Millis uptime{0};
  double load1 = 0;
  int cpus = 0;
  uint64_t memory_total = 0;
  uint64_t memory_available = 0;
  uint64_t disk_total = 0;
  uint64_t disk_free = 0;
};
// `root`: whose file system is meant. What cannot be read stays 0.
HostFigures hostFigures(const std::string& root);

}  // namespace cctl::shim
