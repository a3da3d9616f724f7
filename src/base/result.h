// Errors as values: Result<T> is a value or an Error that says where, what, and what to do.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace cctl {

// What kind of failure it is. The command line maps these to its exit codes
// (exitCodeOf in cli/exit_codes.h); nothing else depends on their numbers.
enum class Code {
  kError,           // anything not named below
  kUsage,           // the arguments of a command
  kBadInput,        // inventory, manifest, template: the user's files
  kUnreachable,     // no session to the host, or it ended in the middle
  kTimeout,         // the deadline passed; whether the effect happened is unknown
  kCancelled,       // Ctrl-C
  kConflict,        // compare-and-set: the register moved meanwhile
  kLocked,          // another operation holds the lock
  kStalePlan,       // the fleet changed since the plan was made
  kNoQuorum,        // the registry cannot decide
  kRefused,         // policy: other content under a version, not signed, dependants alive
  kNotFound,        //
  kCorrupt,         // a checksum or format that does not hold
  kUnknownOutcome,  // sent, and no answer: it may or may not have happened
  kNoSpace,         // the disk is full
  kFailed,          // a host or an instance did what was asked and failed
  kRolledBack,      // failed and put back
  kPartial,         // failed and could not be put back
};

// The name of a code as it stands on the wire and in JSON, e.g. "no-quorum".
std::string_view codeName(Code code);
// The inverse; kError for a name this build does not know.
Code codeFromName(std::string_view name);

struct [[nodiscard]] Error {
  Code code = Code::kError;
  std::string message;

  // The same failure as the caller sees it: "WHERE: message".
  Error context(std::string_view where) const;
};

template <typename T>
using Result = tl::expected<T, Error>;

// return fail(Code::kNotFound, "{}: no such release; add it with …", name);
template <typename... Args>
tl::unexpected<Error> fail(Code code, fmt::format_string<Args...> format, Args&&... args) {
  return tl::unexpected<Error>(Error{code, fmt::format(format, std::forward<Args>(args)...)});
}

inline tl::unexpected<Error> fail(Error error) { return tl::unexpected<Error>(std::move(error)); }

// "WHAT: strerror(errno_value)", with kNoSpace for ENOSPC and EDQUOT, kNotFound for ENOENT.
tl::unexpected<Error> failErrno(int errno_value, std::string_view what);

}  // namespace cctl

// Assigns the value or returns the error from the enclosing function:
//   CCTL_TRY(auto text, readFile(path));
#define CCTL_CONCAT_(a, b) a##b
#define CCTL_CONCAT(a, b) CCTL_CONCAT_(a, b)
#define CCTL_TRY(target, expression) CCTL_TRY_(CCTL_CONCAT(result_, __LINE__), target, expression)
#define CCTL_TRY_(temporary, target, expression)                       \
  auto temporary = (expression);                                       \
  if (!temporary) return tl::unexpected(std::move(temporary).error()); \
  target = std::move(*temporary)
// The same for Result<void>.
#define CCTL_CHECK(expression)                                \
  do {                                                        \
    if (auto check_result = (expression); !check_result)      \
      return tl::unexpected(std::move(check_result).error()); \
  } while (false)
