// The parent of the supervisor: a process that does next to nothing, and so has little to die of.
//
// It is a subreaper (prctl(2)): when the supervisor dies, the services become its children, so that
// how they end stays known, and it starts the next supervisor at once. When it dies itself, the
// supervisor becomes the anchor, by exec, and starts a supervisor of its own.
#pragma once

#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "shim/exit_log.h"

namespace cctl::shim {

// What anchor and supervisor hand to each other, as numbers on the command line.
struct SharedFds {
  Fd lock;   // of ROOT: held as long as one of the two lives
  Fd exits;  // an ExitLog
};

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
