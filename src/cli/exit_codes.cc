#include "cli/exit_codes.h"

namespace cctl::cli {

int exitCodeOf(Code code) {
  switch (code) {
    case Code::kUsage:
      return kExitUsage;
    case Code::kBadInput:
      return kExitBadInput;
    case Code::kUnreachable:
      return kExitUnreachable;
    case Code::kLocked:
      return kExitLocked;
    case Code::kStalePlan:
      return kExitStalePlan;
    case Code::kNoQuorum:
      return kExitNoQuorum;
    case Code::kCancelled:
      return kExitInterrupted;
    case Code::kFailed:
      return kExitFailed;
    case Code::kRolledBack:
      return kExitRolledBack;
    case Code::kPartial:
      return kExitPartial;
    case Code::kRefused:
      return kExitRefused;
    case Code::kError:
    case Code::kTimeout:
    case Code::kConflict:
    case Code::kNotFound:
    case Code::kCorrupt:
    case Code::kUnknownOutcome:
    case Code::kNoSpace:
      break;
  }
  return kExitError;
}

}  // namespace cctl::cli
