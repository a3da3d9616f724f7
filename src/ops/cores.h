// Core files of hosts: which there are, and bringing one here with the program that made it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "ops/operation.h"
#include "release/release_store.h"

namespace cctl::ops {

// Of one service, or of all when empty; newest first.
[[nodiscard]] Result<std::vector<protocol::Core>> listCores(HostConnection& host,
                                                            const std::string& service,
                                                            const CancelToken* cancel);

// A way to look at the core: what gdb(1) is given.
struct FetchedCore {
  std::string core;     // where it is by now
  std::string program;  // the exact file that ran, or a path of the host's own; may be empty
  std::string lib_dir;  // the release's libraries; empty when it has none
  std::string trouble;  // why `program` is not the exact file; empty when it is
};

// Brings the core into `directory` (made when missing) under its own name, and beside it, in
// SERVICE-VERSION/, its program and the libraries of its release from the local store, after
// checking that this is the release that ran. Files appear under their names when they are whole.
// That the program cannot be had is `trouble`, not an error: the core is worth having without.
[[nodiscard]] Result<FetchedCore> fetchCore(HostConnection& host, const protocol::Core& core,
                                            const release::ReleaseStore& store,
                                            const std::string& directory,
                                            const CancelToken* cancel);

}  // namespace cctl::ops
