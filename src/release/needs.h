// What a release as a whole asks of a host. Pure.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/release_info.h"

namespace cctl::release {

struct ReleaseNeeds {
  std::string machine;                 // as uname -m says it; empty: any
  std::string glibc;                   // the highest of all; empty: none
  std::set<std::string> libraries;     // that the release's own lib/ does not hold
  std::set<std::string> interpreters;  // absolute paths, of ELF files and of scripts
  bool musl = false;                   // built against musl libc
};

// The union over all its files. kBadInput when they are for different machines, or some for glibc
// and some for musl: naming one of each.
[[nodiscard]] Result<ReleaseNeeds> releaseNeeds(const ReleaseInfo& release);

// What a host must be asked about for checkFit(): the arguments of hostFactsScript().
std::vector<std::string> factsToProbe(const ReleaseNeeds& needs);

// What the operator had better know before it runs anywhere, one line each: not static, libraries
// of its own that nothing leads to, nothing executable, dangling links.
std::vector<std::string> releaseWarnings(const ReleaseInfo& release);

}  // namespace cctl::release
