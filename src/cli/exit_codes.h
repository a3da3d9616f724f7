// The exit codes of clusterctl (clusterctl(1), EXIT STATUS): stable, for scripts.
#pragma once

#include "base/result.h"

namespace cctl::cli {

enum ExitCode : int {
  kExitOk = 0,
  kExitError = 1,
  kExitFailed = 2,         // a host or an instance failed
  kExitRolledBack = 3,     // failed and rolled back
  kExitUnreachable = 4,    // hosts unreachable, nothing else failed
  kExitPartial = 5,        // roll-back failed, or partly applied
  kExitLocked = 6,         // lock held by another
  kExitStalePlan = 7,      // plan out of date
  kExitNoQuorum = 8,       // the registry cannot decide
  kExitUsage = 64,         // EX_USAGE of sysexits.h
  kExitBadInput = 65,      // EX_DATAERR: inventory, manifest or template
  kExitRefused = 77,       // EX_NOPERM: refused by policy
  kExitInterrupted = 130,  // Ctrl-C
};

int exitCodeOf(Code code);

}  // namespace cctl::cli
