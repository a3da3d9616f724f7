#include "transport/context.h"

#include "transport/context_shared.h"
#include "transport/session.h"

namespace cctl::ssh {

SshContext::SshContext(std::unique_ptr<Shared> shared) : shared_(std::move(shared)) {}
SshContext::~SshContext() = default;

Result<std::shared_ptr<SshContext>> SshContext::create(SshPolicy policy) {
  CCTL_CHECK(initLibssh());
  return std::shared_ptr<SshContext>(new SshContext(std::make_unique<Shared>(std::move(policy))));
}

Result<std::shared_ptr<const KnownHosts>> SshContext::Shared::knownHosts(
    const std::vector<std::string>& files) {
  const std::lock_guard lock(mutex_);
  auto& slot = known_hosts_[files];
  if (slot) return slot;
  CCTL_TRY(auto known, KnownHosts::load(files));
  slot = std::make_shared<const KnownHosts>(std::move(known));
  return slot;
}

std::optional<HostKey> SshContext::Shared::accepted(const std::string& known_as,
                                                    const std::string& type) {
  const std::lock_guard lock(mutex_);
  const auto found = accepted_.find({known_as, type});
  return found == accepted_.end() ? std::nullopt : std::optional(found->second);
}

void SshContext::Shared::accept(const std::string& known_as, const HostKey& key) {
  const std::lock_guard lock(mutex_);
  accepted_[{known_as, key.type}] = key;
}

std::shared_ptr<JumpHost> SshContext::Shared::jumpHost(const std::string& id) {
  const std::lock_guard lock(mutex_);
  auto& slot = jumps_[id];
  if (!slot) slot = std::make_shared<JumpHost>(policy.max_per_jump_host);
  return slot;
}

}  // namespace cctl::ssh
