// One process, begun exactly as asked: identity, limits, descriptors, then exec.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "shim/users.h"

namespace cctl::shim {

struct SpawnRequest {
  // What runs: this descriptor (execveat(2) with an empty path, so that what was checked is what
  // runs), or else `path`, which scripts need: their interpreter opens them by name.
  int exe_fd = -1;
  std::string path;
  std::vector<std::string> argv;
  std::vector<std::string> env;  // "NAME=value"; nothing is inherited
  std::string cwd;
  std::optional<User> user;  // none: as the shim
  std::optional<uint64_t> limit_nofile;
  std::optional<uint64_t> limit_core;
  int out_fd = -1;  // -1: /dev/null
  int err_fd = -1;
};

struct Spawned {
  int pid = 0;
  uint64_t start_ticks = 0;
  Fd pidfd;  // invalid below Linux 5.3
};

// Called while the child waits before its exec: once this has recorded the pid, a shim that dies
// at any later moment knows the child. The child ends by itself when the shim dies before.
using RecordChild = std::function<Result<void>(int pid, uint64_t start_ticks)>;

// Blocks until the child has exec'ed, some tenths of a millisecond. The child leads its own session
// and process group, has default signal handling, umask 022, and no descriptors but 0 to 2. What
// failed in it, exec's errno included, comes back as the error (kFailed).
[[nodiscard]] Result<Spawned> spawn(const SpawnRequest& request, const RecordChild& record);

// The descriptor of a process (pidfd_open(2)); invalid when the kernel has none or it is gone.
Fd openPidfd(int pid);
// To exactly this process. False when it is gone.
bool signalProcess(const Fd& pidfd, int pid, int signal);
// To the group that `pid` leads. The caller knows that the leader is not reaped, or by its
// descriptor that it lives.
bool signalGroup(const Fd& pidfd, int pid, int signal);

// Raises this process's own limit of open files to the most allowed; children get the old one back.
void raiseOwnFileLimit();

}  // namespace cctl::shim
