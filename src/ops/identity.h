// Who runs this command: for locks, journals and history.
#pragma once

#include <functional>
#include <optional>
#include <string>

namespace cctl::ops {

struct Identity {
  std::string login;    // of the person, or of the CI runner
  std::string machine;  // its host name
  std::string boot_id;  // tells a process of this machine and boot from others
  int pid = 0;
  std::string ci_job;  // address or name of the CI job; empty outside CI

  // "alice@ws1", or with the job behind it.
  std::string text() const;
  bool operator==(const Identity&) const = default;
};

// `env` answers like getenv(3), nullopt when unset. Knows the variables of GitHub, GitLab, Jenkins,
// Buildkite, CircleCI, Drone/Woodpecker and TeamCity.
Identity currentIdentity(const std::function<std::optional<std::string>(const char*)>& env);
Identity currentIdentity();

}  // namespace cctl::ops
