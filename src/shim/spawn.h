// One process, begun exactly as asked: identity, limits, descriptors, then exec.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "shim/users.h"

namespace cctl::shim {

constexpr int kLowestFd = 32;  // of this process's own descriptors, see reserveLowNumbers()

// Limits of setrlimit(2), UINT64_MAX for unlimited.
enum Limit : size_t { kNofile, kNproc, kCore, kMemlock, kStack, kLimitCount };
using Limits = std::array<std::optional<uint64_t>, kLimitCount>;
// "nofile"…
const char* limitName(Limit limit);

struct SpawnRequest {
  // What runs: this descriptor (execveat(2) with an empty path, so that what was checked is what
  // runs), or else `path`, which scripts need: their interpreter opens them by name.
  int exe_fd = -1;
  std::string path;
  std::vector<std::string> argv;
  std::vector<std::string> env;  // "NAME=value"; nothing is inherited
  std::string cwd;
  std::optional<User> user;  // none: as the shim
  Limits limits;             // hard and soft; those that have none stay as the shim's
  unsigned umask = 022;
  int out_fd = -1;  // -1: /dev/null
  int err_fd = -1;
  static constexpr size_t kMaxSockets = 16;
  std::vector<int> socket_fds;  // become 3, 4, …
  // Adds "NAME=…" to `env`, with the pid of the child, known to it alone. Not to be copied after.
  void addOwnPid(std::string_view name);
  std::vector<char*> own_pid;   // where it goes: room for 12 characters each
  std::vector<int> cgroup_fds;  // open cgroup.procs or tasks files of the groups that it joins
  // It need not queue for a processor until endHurry(), which must follow soon.
  bool hurry = false;
};

struct Spawned {
  int pid = 0;
  uint64_t start_ticks = 0;
  Fd pidfd;        // invalid below Linux 5.3
  Limits lowered;  // what a limit became where the hard one is lower and may not be raised
};

// Blocks until the child has exec'ed, some tenths of a millisecond. The child leads its own session
// and process group, has default signal handling, and no descriptors but 0 to 2 and the
// sockets. What failed in it, exec's errno included, comes back as the error (kFailed). The kernel
// writes the pid to `pid_slot`, when there is one, before the child runs.
[[nodiscard]] Result<Spawned> spawn(const SpawnRequest& request, int32_t* pid_slot);

// The descriptor of a process (pidfd_open(2)); invalid when the kernel has none or it is gone.
Fd openPidfd(int pid);
// To exactly this process. False when it is gone.
bool signalProcess(const Fd& pidfd, int pid, int signal);
// To the group that this child leads: until it is reaped, its number is nobody else's.
bool signalOwnGroup(int child, int signal);
// To the group of any leader, reaped or not, by its descriptor: never to one that has its number
// by now. False below Linux 6.9, which cannot do that.
bool signalGroup(const Fd& pidfd, int signal);

// Default handling for all signals but those that a shim ignores; children get the default for all.
void setUpSignals();
// What this process was begun with, 0 to 2 excepted, reaches no child of its own.
void keepInheritedFiles();
// Takes all descriptors below kLowestFd but 0 to 2, closing what is open there, to hand children
// theirs without copying all that this process has. For a process that has none there itself.
void reserveLowNumbers();
// Back to ordinary scheduling; nothing when it was not begun in a hurry.
void endHurry(int pid);

// Best effort: needs root. Children get back what this process began with.
void raiseOwnPriority();
// Raises this process's own limit of open files to the most allowed; children get the old one back.
void raiseOwnFileLimit();

}  // namespace cctl::shim
