// Finding out what a host offers, with nothing on it but a POSIX shell: a script, and the reading
// of what it prints. Running it (`sh -s -- NAME…` over ssh, the script on standard input) is the
// caller's matter.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/release_info.h"

namespace cctl::release {

// For any POSIX sh, by `sh -c SCRIPT sh NAME…` or on the standard input of `sh -s -- NAME…`. Uses
// uname, and getconf, ldd and ldconfig where they are; changes nothing. Arguments: names of
// libraries, absolute paths of interpreters, and "machine:M" for libraries of programs for M.
// Prints, between the lines "clusterctl-facts 1" and "clusterctl-facts end", lines KEY=VALUE:
//   machine=x86_64   kernel=6.1.0   libc=glibc 2.36 | musl 1.2.4 | unknown
//   library=NAME     a library that the loader finds, of those asked for
//   exists=PATH      an interpreter that is there and executable, of those asked for
// Whatever a login shell says before or after is not part of it.
const char* hostFactsScript();

// The arguments that may be given to the script: what is not of [A-Za-z0-9._+/:@,=~-] is left out,
// so that it needs no quoting by any shell, and counts as not found on the host.
std::vector<std::string> safeFactNames(const std::vector<std::string>& names);

struct ProbedHost {
  HostFacts facts;
  std::string kernel;        // uname -r
  std::string libc;          // "glibc", "musl" or "unknown"
  std::string libc_version;  // "2.36"; empty: unknown
};

// kCorrupt, quoting the beginning, for output without the whole block.
[[nodiscard]] Result<ProbedHost> parseProbedHost(std::string_view output);
[[nodiscard]] Result<HostFacts> parseHostFacts(std::string_view output);

}  // namespace cctl::release
