// From a generation's spec to what exec needs.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "shim/host.h"
#include "shim/spawn.h"

namespace cctl::shim {

struct LaunchPlan {
  SpawnRequest request;    // without log pipes
  Fd exe;                  // what request.exe_fd names
  std::string unverified;  // the absolute path that runs, when it is not part of the release
};

// The environment of a service: a clean base, the spec's own, and what interface.md §4 promises.
std::map<std::string, std::string> serviceEnvironment(const Host& host,
                                                      const protocol::GenerationSpec& spec,
                                                      const std::string& release_dir, bool has_lib,
                                                      const User& user);

// Resolves `argv` (the service's own, or that of an exec probe): inside the release when relative,
// checked once more through the descriptor that will be executed. The release as a whole was
// checked before.
[[nodiscard]] Result<LaunchPlan> planLaunch(const Host& host, const protocol::GenerationSpec& spec,
                                            const std::vector<std::string>& argv);

// Says so when whoever listens on the port is not `pid` nor a member of its session: a probe would
// have asked a stranger. Empty when it is, or when it cannot be told.
std::string foreignListener(int pid, uint64_t start_ticks, int port);

}  // namespace cctl::shim
