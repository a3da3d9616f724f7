// What ssh(1) would do for a target: ~/.ssh/config and /etc/ssh/ssh_config (ssh_config(5)) under
// the inventory's own settings.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/result.h"
#include "transport/target.h"

namespace cctl::ssh {

// $HOME, else the home directory of the user; empty when neither is known.
std::string homeDirectory();
// "~/x" and "~" under `home`; anything else as it is.
std::string expandTilde(const std::string& path, const std::string& home);

enum class StrictChecking { kRefuseNew, kAcceptNew, kOff };

struct ResolvedHost {
  std::string host_name;
  std::string user;
  int port = 22;
  std::vector<std::string> identity_files;  // expanded; some may not exist
  bool identities_explicit = false;         // named by inventory or ssh_config, not the defaults
  bool identities_only = false;
  std::vector<std::string> certificate_files;
  std::string identity_agent;  // socket path; empty: $SSH_AUTH_SOCK; "none"
  std::string proxy_jump;      // empty: none
  std::string proxy_command;   // empty: none
  std::vector<std::string> user_known_hosts, global_known_hosts;
  StrictChecking strict = StrictChecking::kRefuseNew;
  bool hash_known_hosts = false;
  std::string host_key_alias;
  // Only when ssh_config names others than OpenSSH's defaults.
  std::optional<std::string> host_key_algorithms, kex, ciphers, macs;
  int address_family = 0;  // AF_UNSPEC, AF_INET, AF_INET6
  int alive_interval = 0;  // seconds; 0: ours
  int alive_count = 3;
};

// Key (lower case) to values in order, as `ssh -G` prints them.
using SshSettings = std::map<std::string, std::vector<std::string>>;
SshSettings parseSshSettings(const std::string& output);

// Thread-safe. `ssh -G` costs 5 ms and more a call, so it is run once for all hosts that the same
// Host blocks match, and not at all where there is no configuration.
class SshConfig {
 public:
  explicit SshConfig(std::string home);

  // kBadInput when the configuration has an error. Blocks: files, a child process.
  [[nodiscard]] Result<ResolvedHost> resolve(const SshTarget& target, Deadline deadline,
                                             const CancelToken* cancel);

 private:
  struct Sources;
  struct Entry;
  Result<std::shared_ptr<const Sources>> sourcesFor(const SshTarget& target);
  Result<SshSettings> settingsFor(const SshTarget& target, const Sources& sources,
                                  Deadline deadline, const CancelToken* cancel);
  Result<SshSettings> runSsh(const SshTarget& target, const Sources& sources, Deadline deadline,
                             const CancelToken* cancel) const;
  const SshSettings& defaults(Deadline deadline, const CancelToken* cancel);

  const std::string home_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<const Sources>> sources_;  // by -F file
  std::map<std::string, std::shared_ptr<Entry>> entries_;          // by what selects the answer
  std::once_flag defaults_once_;
  SshSettings defaults_;
};

}  // namespace cctl::ssh
