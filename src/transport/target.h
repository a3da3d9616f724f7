// How to reach one host over SSH, as the inventory says it. ~/.ssh/config is resolved underneath:
// what is set here wins over what stands there (see ssh_config.h).
#pragma once

#include <optional>
#include <string>

#include "base/clock.h"

namespace cctl::ssh {

enum class Become { kNone, kSudo };

struct SshTarget {
  std::string name;     // the inventory's name of the host: for messages only
  std::string address;  // what a person would type after `ssh`: alias, DNS name or IP
  std::optional<std::string> user;
  std::optional<std::string> identity_file;  // `~` follows $HOME
  std::optional<std::string> known_hosts;    // instead of the user's known_hosts files
  // [user@]host[:port][,…], or "none". The jump hosts have their own part of ssh_config; where
  // identity_file or known_hosts is set here, it holds for them too.
  std::optional<std::string> proxy_jump;
  std::optional<std::string> config_file;  // instead of ~/.ssh/config and /etc/ssh/ssh_config
  std::optional<int> port;
  Millis connect_timeout{5000};  // TCP, key exchange and authentication together
  Become become = Become::kNone;
};

}  // namespace cctl::ssh
