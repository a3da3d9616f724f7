// What SshContext holds; internal to transport/.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "transport/agent.h"
#include "transport/context.h"
#include "transport/keys.h"
#include "transport/known_hosts.h"
#include "transport/ssh_config.h"
#include "transport/wait.h"

namespace cctl::ssh {

class HostLink;

// One session to a jump host, shared by all connections through it, and the turnstile before it.
class JumpHost {
 public:
  using Connect = std::function<Result<std::unique_ptr<HostLink>>()>;

  explicit JumpHost(int connections) : free_(connections) {}

  // The session, made by `connect` when there is none; those who come meanwhile wait for it and
  // share its outcome, also its failure.
  [[nodiscard]] Result<std::shared_ptr<HostLink>> link(const Connect& connect, Deadline deadline,
                                                       const CancelToken* cancel);
  // Waits until one more connection may be begun; leave() for each enter() that succeeded.
  [[nodiscard]] Result<void> enter(Deadline deadline, const CancelToken* cancel);
  void leave();

 private:
  struct Attempt {
    Signal done;
    std::optional<Error> error;
  };
  [[nodiscard]] Result<std::shared_ptr<HostLink>> make(const Connect& connect,
                                                       const std::shared_ptr<Attempt>& attempt);

  std::mutex mutex_;
  std::shared_ptr<HostLink> link_;
  std::shared_ptr<Attempt> attempt_;  // under way
  int free_;
  std::vector<Signal*> queue_;
};

struct SshContext::Shared {
  explicit Shared(SshPolicy given)
      : policy(std::move(given)),
        home(homeDirectory()),
        config(home),
        keys(policy.passphrase_prompt) {}

  // The index over these files, read on first use.
  Result<std::shared_ptr<const KnownHosts>> knownHosts(const std::vector<std::string>& files);
  // The key that this run accepted for the host, if any; then no other is.
  std::optional<HostKey> accepted(const std::string& known_as, const std::string& type);
  void accept(const std::string& known_as, const HostKey& key);
  std::shared_ptr<JumpHost> jumpHost(const std::string& id);
  void notice(const std::string& text) const {
    if (policy.on_notice) policy.on_notice(text);
  }

  const SshPolicy policy;
  const std::string home;
  SshConfig config;
  KeyStore keys;
  AgentDirectory agents;

 private:
  std::mutex mutex_;
  std::map<std::vector<std::string>, std::shared_ptr<const KnownHosts>> known_hosts_;
  std::map<std::pair<std::string, std::string>, HostKey> accepted_;
  std::map<std::string, std::shared_ptr<JumpHost>> jumps_;
};

}  // namespace cctl::ssh
