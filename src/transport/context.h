// What all connections of one run share: the resolved ssh_config, known hosts, keys, the agent's
// identities, the person who may be asked, and the sessions to jump hosts.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"

namespace cctl::ssh {

// Asks a person for the passphrase of a key file; nullopt when they decline. Called on a
// connecting thread, never twice at the same time.
using PassphrasePrompt = std::function<std::optional<std::string>(const std::string& key_file)>;

struct SshPolicy {
  bool accept_new = false;             // --accept-new: keys of unknown hosts are added
  bool dry_run = false;                // accepted keys hold for this run, and are written nowhere
  PassphrasePrompt passphrase_prompt;  // empty: there is no terminal
  std::function<void(const std::string&)> on_notice;  // e.g. a key that was added; thread-safe
  int max_per_jump_host = 8;  // connections being made at one time through one jump host
};

// Thread-safe. Keep it for a whole run: everything is read from disk at most once.
class SshContext {
 public:
  [[nodiscard]] static Result<std::shared_ptr<SshContext>> create(SshPolicy policy);
  ~SshContext();
  SshContext(const SshContext&) = delete;
  SshContext& operator=(const SshContext&) = delete;

  struct Shared;  // internal to transport/
  Shared& shared() { return *shared_; }

 private:
  explicit SshContext(std::unique_ptr<Shared> shared);
  std::unique_ptr<Shared> shared_;
};

}  // namespace cctl::ssh
