// A child process run to its end, with captured output.
#pragma once

#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/result.h"

namespace cctl {

struct SubprocessRequest {
  std::vector<std::string> argv;  // argv[0] is looked up in PATH
  std::string input;              // to its standard input
  size_t output_limit = 16u << 20;
};

struct SubprocessResult {
  int exit_status = 0;  // 128 + signal when a signal ended it, as sh says
  std::string out;
  std::string err;
};

// Blocks until the child has ended, or kills it when the deadline passes or the token is set.
// Thread-safe.
[[nodiscard]] Result<SubprocessResult> runSubprocess(const SubprocessRequest& request,
                                                     Deadline deadline,
                                                     const CancelToken* cancel = nullptr);

}  // namespace cctl
