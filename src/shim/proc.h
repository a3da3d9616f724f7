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

// Whether the process still runs this very executable: it has not got to its exec yet.
bool runsOwnExecutable(int pid);

// Its children now (/proc/PID/task/PID/children); nothing where the kernel does not list them.
std::optional<std::vector<int>> childrenOf(int pid);
// In the ticks of ProcStat::start_ticks.
uint64_t ticksNow();
// The wall clock's time at which a process with this start time began.
WallTime wallTimeOf(uint64_t start_ticks, WallTime now);
// Its environment as it was at its exec, each "NAME=value"; empty when it cannot be read. Waits for
// one in the midst of an exec, 100 ms at most.
std::vector<std::string> environmentOf(int pid);
// Its arguments, each ended by a NUL; empty when they cannot be read or it is in the midst of an
// exec.
std::string commandLineOf(int pid);
// All processes there are.
std::vector<int> allPids();
// The pid of an instance's main process, in the environment of all of its processes.
inline constexpr std::string_view kMainPid = "CLUSTERCTL_PID";
// Whether it belongs to this host's `dir`, and not to a directory of the same name in a container:
// it is in the PID namespace of this process, or sees the very same directory there.
bool isOfThisHost(int pid, const std::string& dir);

// Living processes of this host's `dir` that have this "NAME=value": the main ones, and those whose
// main process, or the leader of their session, has ended.
struct Marked {
  std::vector<int> mains;
  std::vector<int> orphans;
};
Marked processesWith(const std::string& variable, const std::string& dir);

std::string bootId();
Millis ticksToMillis(uint64_t ticks);
int countFds(int pid);
struct IoFigures {
  uint64_t read = 0;  // bytes from and to disks
  uint64_t written = 0;
};
// 0 where it may not be read.
IoFigures ioFigures(int pid);

struct HostFigures {
  Millis uptime{0};
  double load1 = 0;
  int cpus = 0;
  uint64_t memory_total = 0;
  uint64_t memory_available = 0;
  uint64_t disk_total = 0;
  uint64_t disk_free = 0;
  uint64_t net_received = 0;  // bytes since boot, without lo
  uint64_t net_sent = 0;
};
// `root`: whose file system is meant. What cannot be read stays 0.
HostFigures hostFigures(const std::string& root);

}  // namespace cctl::shim
