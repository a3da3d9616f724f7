// The parent of the supervisor: a process that does next to nothing, and so has little to die of.
//
// It is a subreaper (prctl(2)): when the supervisor dies, the services become its children, so that
// how they end stays known, and it starts the next supervisor at once. When it dies itself, the
// supervisor becomes the anchor, by exec, and starts a supervisor of its own.
#pragma once

#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "shim/exit_log.h"

namespace cctl::shim {

// What anchor and supervisor hand to each other, as numbers on the command line.
struct SharedFds {
  Fd lock;       // of ROOT: held as long as one of the two lives
  Fd exits;      // an ExitLog
  Fd survivors;  // Survivors
  Fd state;      // a StateMemory
  Fd stage;      // memory that lines pass on their way to a log
  Fd store_in;   // an FdStore
  Fd store_out;

  // Everything but the lock, new; for `run`, and for what an older shim did not hand over.
  [[nodiscard]] Result<void> makeMissing();
  // "--lock-fd", "5", …, and the descriptors, which are to stay open over the exec.
  std::vector<std::string> words() const;
  std::vector<int> numbers() const;
};

// The option that names each of them, in the order of `numbers`.
struct SharedFdOption {
  const char* option;
  Fd SharedFds::*member;
};
inline constexpr SharedFdOption kSharedFds[] = {
    {"--lock-fd", &SharedFds::lock},           {"--exits-fd", &SharedFds::exits},
    {"--survivors-fd", &SharedFds::survivors}, {"--state-fd", &SharedFds::state},
    {"--stage-fd", &SharedFds::stage},         {"--store-in-fd", &SharedFds::store_in},
    {"--store-out-fd", &SharedFds::store_out}};

// Exit statuses of a supervisor that leaves of its own will, and of the anchor after it.
constexpr int kLeftForSignal = 0;
constexpr int kLeftByOrder = 75;  // in the systemd unit: not to be restarted
constexpr int kReplace = 76;      // supervisor only: the anchor goes on as ROOT/shim/current

// Returns the exit status for the process. `ready`: handed to the first supervisor, which tells
// there how its start went.
int runAnchor(const std::string& root, SharedFds fds, Fd ready);

// Turns this process into the anchor of `executable`; returns only when that fails.
Error becomeAnchor(const std::string& executable, const std::string& root, const SharedFds& fds);

}  // namespace cctl::shim
