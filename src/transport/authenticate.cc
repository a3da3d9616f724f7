#include "transport/authenticate.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <set>
#include <vector>

#include "base/base64.h"
#include "base/ssh_wire.h"

namespace cctl::ssh {
namespace {

using KeyFilePtr = std::shared_ptr<const KeyFile>;

std::string joinLines(const std::vector<std::string>& items, const char* separator) {
  std::string text;
  for (const auto& item : items) text += (text.empty() ? "" : separator) + item;
  return text;
}

KeyPtr publicKey(const std::string& blob) {
  ssh_key key = nullptr;
  const std::string type(WireReader(blob).string());
  ssh_pki_import_pubkey_base64(base64Encode(blob).c_str(), ssh_key_type_from_name(type.c_str()),
                               &key);
  return KeyPtr(key);
}

class Authentication {
 public:
  Authentication(Session& session, const ResolvedHost& host, KeyStore& keys, AgentDirectory& agents,
                 Deadline* deadline, const CancelToken* cancel)
      : session_(session),
        host_(host),
        keys_(keys),
        agents_(agents),
        deadline_(deadline),
        cancel_(cancel) {}

  Result<void> run() {
    findKeys();
    CCTL_TRY(const bool authenticated, tryAll());
    if (authenticated) return {};
    if (ssh_userauth_list(session_.get(), nullptr) == 0) {
      // Nothing was sent yet: ask what the server would take (it may even want nothing).
      CCTL_TRY(const bool open,
               settle(session_.drive([&] { return ssh_userauth_none(session_.get(), nullptr); },
                                     SSH_AUTH_AGAIN, *deadline_, cancel_)));
      if (open) return {};
    }
    return fail(Code::kUnreachable, "{}", refusal());
  }

 private:
  // Any of the steps: true when we are in, false to go on with the next.
  using Step = Result<bool>;

  void findKeys() {
    for (const auto& path : host_.identity_files) {
      auto file = keys_.find(path);
      if (file->state == KeyFile::State::kMissing) {
        if (host_.identities_explicit) tried_.push_back(path + " (no such file)");
      } else if (file->state == KeyFile::State::kUnusable) {
        tried_.push_back(fmt::format("{} ({})", path, file->problem));
      } else {
        files_.push_back(std::move(file));
      }
    }
  }

  std::string agentSocket() const {
    const char* usual = std::getenv("SSH_AUTH_SOCK");
    if (host_.identity_agent.empty() || host_.identity_agent == "SSH_AUTH_SOCK") {
      return usual == nullptr ? "" : usual;
    }
    if (!host_.identity_agent.starts_with('$')) return host_.identity_agent;
    const char* other = std::getenv(host_.identity_agent.c_str() + 1);
    return other == nullptr ? "" : other;
  }

  Step tryAll() {
    const auto isPlain = [](const KeyFilePtr& f) { return f->state == KeyFile::State::kPlain; };
    if (host_.identities_explicit) {
      for (const auto& file : files_) {
        if (!isPlain(file)) continue;
        CCTL_TRY(const bool in, tryFile(*file, file->key.get()));
        if (in) return true;
      }
    }
    CCTL_TRY(const bool by_agent, tryAgent());
    if (by_agent) return true;
    for (const auto& file : files_) {
      if (!isPlain(file) || host_.identities_explicit || done_.contains(file->public_blob))
        continue;
      CCTL_TRY(const bool in, tryFile(*file, file->key.get()));
      if (in) return true;
    }
    for (const auto& file : files_) {
      if (isPlain(file) || done_.contains(file->public_blob)) continue;
      CCTL_TRY(const bool in, tryLocked(*file));
      if (in) return true;
    }
    return false;
  }

  Result<bool> settle(Result<int> rc) {
    if (!rc) return fail(rc.error());
    if (*rc == SSH_AUTH_SUCCESS) return true;
    if (*rc == SSH_AUTH_PARTIAL) {
      return fail(Code::kUnreachable,
                  "the server wants more than a key ({}): not supported; let it accept publickey "
                  "alone for this user",
                  acceptedMethods());
    }
    if (*rc == SSH_AUTH_ERROR) {
      return fail(Code::kUnreachable, "{}; tried: {}", session_.lastError(),
                  joinLines(tried_, ", "));
    }
    return false;
  }

  Step tryKey(ssh_key key) {
    return settle(
        session_.drive([&] { return ssh_userauth_publickey(session_.get(), nullptr, key); },
                       SSH_AUTH_AGAIN, *deadline_, cancel_));
  }

  Step tryFile(const KeyFile& file, ssh_key key) {
    done_.insert(file.public_blob);
    tried_.push_back(file.path);
    auto certificates = host_.certificate_files;
    certificates.push_back(file.path + "-cert.pub");
    for (const auto& certificate : certificates) {
      ssh_key certified = keys_.withCertificate(key, certificate);
      if (certified == nullptr) continue;
      CCTL_TRY(const bool in, tryKey(certified));
      if (in) return true;
    }
    return tryKey(key);
  }

  // The agent's keys in the order they are to be offered.
  std::vector<AgentIdentity> offers() const {
    std::vector<AgentIdentity> first, rest;
    for (const auto& identity : identities_) {
      if (done_.contains(identity.blob)) continue;
      const bool named = std::any_of(files_.begin(), files_.end(), [&](const KeyFilePtr& file) {
        return file->public_blob == identity.blob;
      });
      if (named) {
        first.push_back(identity);
      } else if (!host_.identities_only) {
        rest.push_back(identity);
      }
    }
    first.insert(first.end(), rest.begin(), rest.end());
    return first;
  }

  // The agent is not asked before it is needed: it may be slow, or ask a person.
  Step tryAgent() {
    socket_ = agentSocket();
    identities_ = agents_.identities(socket_, *deadline_, cancel_);
    const auto offered = offers();
    if (offered.empty()) return false;
    for (const auto& identity : offered) done_.insert(identity.blob);
    tried_.push_back(
        fmt::format("agent ({} key{})", offered.size(), offered.size() == 1 ? "" : "s"));
    AgentRelay relay(socket_, offered, *deadline_, cancel_);
    // libssh closes the descriptor with the session.
    ssh_set_agent_socket(session_.get(), relay.takeClientEnd());
    return settle(session_.drive([&] { return ssh_userauth_agent(session_.get(), nullptr); },
                                 SSH_AUTH_AGAIN, *deadline_, cancel_));
  }

  // Only when the server would take the key is a person asked for the passphrase.
  Step tryLocked(const KeyFile& file) {
    if (!file.public_blob.empty()) {
      const auto key = publicKey(file.public_blob);
      if (key) {
        CCTL_TRY(const bool wanted,
                 settle(session_.drive(
                     [&] { return ssh_userauth_try_publickey(session_.get(), nullptr, key.get()); },
                     SSH_AUTH_AGAIN, *deadline_, cancel_)));
        if (!wanted) {
          tried_.push_back(file.path);
          return false;
        }
      }
    }
    const auto asked = std::chrono::steady_clock::now();
    const auto key = keys_.unlock(file);
    extendDeadline(std::chrono::steady_clock::now() - asked);
    if (key) return tryFile(file, *key);
    tried_.push_back(fmt::format("{} ({})", file.path, key.error().message));
    return false;
  }

  void extendDeadline(std::chrono::steady_clock::duration by) {
    if (deadline_->time() == SteadyTime::max()) return;
    const auto left = deadline_->time() - std::chrono::steady_clock::now() + by;
    *deadline_ = Deadline::in(std::chrono::ceil<Millis>(left));
  }

  std::string acceptedMethods() const {
    const auto methods = static_cast<unsigned>(ssh_userauth_list(session_.get(), nullptr));
    std::vector<std::string> names;
    if ((methods & SSH_AUTH_METHOD_PUBLICKEY) != 0) names.emplace_back("publickey");
    if ((methods & SSH_AUTH_METHOD_PASSWORD) != 0) names.emplace_back("password");
    if ((methods & SSH_AUTH_METHOD_INTERACTIVE) != 0) names.emplace_back("keyboard-interactive");
    if ((methods & SSH_AUTH_METHOD_GSSAPI_MIC) != 0) names.emplace_back("gssapi-with-mic");
    if ((methods & SSH_AUTH_METHOD_HOSTBASED) != 0) names.emplace_back("hostbased");
    return joinLines(names, ",");
  }

  std::string refusal() const {
    const auto methods = acceptedMethods();
    const auto tried =
        tried_.empty() ? "nothing: no agent and no key file" : joinLines(tried_, ", ");
    return fmt::format(
        "permission denied for user {} (the server accepts: {}); tried: {}. Put a public key into "
        "~{}/.ssh/authorized_keys there, or name the right `user` or `identity_file` under `ssh:` "
        "in the inventory",
        host_.user, methods.empty() ? "unknown" : methods, tried, host_.user);
  }

  Session& session_;
  const ResolvedHost& host_;
  KeyStore& keys_;
  AgentDirectory& agents_;
  Deadline* const deadline_;
  const CancelToken* const cancel_;
  std::vector<KeyFilePtr> files_;
  std::string socket_;
  std::vector<AgentIdentity> identities_;
  std::set<std::string> done_;  // public keys that were offered already
  std::vector<std::string> tried_;
};

}  // namespace

Result<void> authenticate(Session& session, const ResolvedHost& host, KeyStore& keys,
                          AgentDirectory& agents, Deadline* deadline, const CancelToken* cancel) {
  return Authentication(session, host, keys, agents, deadline, cancel).run();
}

}  // namespace cctl::ssh
