#include "base/result.h"

#include <array>
#include <cerrno>
#include <system_error>

namespace cctl {
namespace {

struct CodeName {
  Code code;
  std::string_view name;
};

constexpr std::array kCodeNames = {
    CodeName{Code::kError, "error"},
    CodeName{Code::kUsage, "usage"},
    CodeName{Code::kBadInput, "bad-input"},
    CodeName{Code::kUnreachable, "unreachable"},
    CodeName{Code::kTimeout, "timeout"},
    CodeName{Code::kCancelled, "cancelled"},
    CodeName{Code::kConflict, "conflict"},
    CodeName{Code::kLocked, "locked"},
    CodeName{Code::kStalePlan, "stale-plan"},
    CodeName{Code::kNoQuorum, "no-quorum"},
    CodeName{Code::kRefused, "refused"},
    CodeName{Code::kNotFound, "not-found"},
    CodeName{Code::kCorrupt, "corrupt"},
    CodeName{Code::kUnknownOutcome, "unknown-outcome"},
    CodeName{Code::kNoSpace, "no-space"},
    CodeName{Code::kFailed, "failed"},
    CodeName{Code::kRolledBack, "rolled-back"},
    CodeName{Code::kPartial, "partial"},
};

Code codeOfErrno(int errno_value) {
  if (errno_value == ENOSPC || errno_value == EDQUOT) return Code::kNoSpace;
  if (errno_value == ENOENT) return Code::kNotFound;
  return Code::kError;
}

}  // namespace

std::string_view codeName(Code code) {
  for (const CodeName& entry : kCodeNames)
    if (entry.code == code) return entry.name;
  return "error";
}

Code codeFromName(std::string_view name) {
  for (const CodeName& entry : kCodeNames)
    if (entry.name == name) return entry.code;
  return Code::kError;
}

Error Error::context(std::string_view where) const {
  return Error{code, fmt::format("{}: {}", where, message)};
}

tl::unexpected<Error> failErrno(int errno_value, std::string_view what) {
  return fail(codeOfErrno(errno_value), "{}: {}", what,
              std::generic_category().message(errno_value));
}

}  // namespace cctl
