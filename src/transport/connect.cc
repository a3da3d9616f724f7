#include "transport/connect.h"

#include <sys/socket.h>

#include <algorithm>
#include <charconv>
#include <random>

#include "transport/authenticate.h"
#include "transport/tcp_connect.h"

namespace cctl::ssh {
namespace {

constexpr int kAttempts = 4;  // of a connection that is cut off before the server's banner

Deadline sooner(Deadline a, Deadline b) { return a.time() < b.time() ? a : b; }

// "[user@]host[:port]", also "[user@][v6]:port", and ssh://… around it.
Result<SshTarget> parseJump(std::string text) {
  const std::string whole = text;
  if (text.starts_with("ssh://")) text.erase(0, 6);
  SshTarget jump;
  if (const auto at = text.rfind('@'); at != std::string::npos) {
    jump.user = text.substr(0, at);
    text.erase(0, at + 1);
  }
  auto colon = text.rfind(':');
  if (text.starts_with('[')) {
    const auto bracket = text.find(']');
    if (bracket == std::string::npos) return fail(Code::kBadInput, "ProxyJump {}: no ]", whole);
    jump.address = text.substr(1, bracket - 1);
    if (colon != std::string::npos && colon < bracket) colon = std::string::npos;
  } else {
    if (colon != std::string::npos && text.find(':') != colon) colon = std::string::npos;  // IPv6
    jump.address = text.substr(0, colon);
  }
  if (colon != std::string::npos) {
    int port = 0;
    const char* const end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data() + colon + 1, end, port);
    if (parsed.ec != std::errc() || parsed.ptr != end || port < 1 || port > 65535) {
      return fail(Code::kBadInput, "ProxyJump {}: bad port", whole);
    }
    jump.port = port;
  }
  jump.name = "jump host " + jump.address;
  return jump;
}

// Gives the place in the turnstile back.
class Place {
 public:
  Place() = default;
  explicit Place(std::shared_ptr<JumpHost> jump) : jump_(std::move(jump)) {}
  Place(Place&&) = default;
  Place& operator=(Place&&) = default;
  ~Place() {
    if (jump_) jump_->leave();
  }

 private:
  std::shared_ptr<JumpHost> jump_;
};

class Connector {
 public:
  Connector(const SshTarget& target, const std::shared_ptr<SshContext>& context, Deadline deadline,
            const CancelToken* cancel, std::vector<std::string> chain)
      : target_(target),
        context_(context),
        shared_(context->shared()),
        outer_(deadline),
        deadline_(deadline),
        cancel_(cancel),
        chain_(std::move(chain)) {}

  Result<Connected> run() {
    auto connected = attempt();
    if (connected) return connected;
    Error error = connected.error();
    if (error.code == Code::kTimeout) {
      error.code = Code::kUnreachable;
      error.message = timeoutText();
    }
    if (!error.message.starts_with(target_.name + ":")) error = error.context(target_.name);
    return fail(error);
  }

 private:
  std::string timeoutText() const {
    const auto where = fmt::format("{} port {}", host_.host_name, host_.port);
    return fmt::format("{} in time{}", phase_,
                       phase_ == kGreeting ? fmt::format(": does sshd listen at {}?", where) : "");
  }

  Result<Connected> attempt() {
    CCTL_TRY(host_, shared_.config.resolve(target_, deadline_, cancel_));
    auto files = host_.user_known_hosts;
    files.insert(files.end(), host_.global_known_hosts.begin(), host_.global_known_hosts.end());
    CCTL_TRY(known_, shared_.knownHosts(files));
    CCTL_CHECK(enterJump());
    // Waiting for others was not this host's fault.
    deadline_ = sooner(outer_, Deadline::in(target_.connect_timeout));

    CCTL_TRY(Session session, greet(known_->typesFor(knownName(), knownPort(), false)));
    CCTL_TRY(HostKey key, session.hostKey());
    auto check = known_->check(knownName(), knownPort(), key);
    if (check.verdict == Verdict::kOtherType && !host_.host_key_algorithms) {
      // Only now is it worth looking through hashed names: ask for a key of a type we know.
      CCTL_TRY(session, greet(known_->typesFor(knownName(), knownPort(), true)));
      CCTL_TRY(key, session.hostKey());
      check = known_->check(knownName(), knownPort(), key);
    }
    CCTL_CHECK(judge(check, key));
    phase_ = "connected, but authentication did not end";
    CCTL_CHECK(authenticate(session, host_, shared_.keys, shared_.agents, &deadline_, cancel_));
    return finish(std::move(session), key);
  }

  std::string knownName() const {
    return host_.host_key_alias.empty() ? host_.host_name : host_.host_key_alias;
  }
  int knownPort() const { return host_.host_key_alias.empty() ? host_.port : 22; }

  // A connection that ends before the banner was turned away for load (MaxStartups of sshd,
  // dropbear's limit per source): worth another try in a moment.
  Result<Session> greet(const std::vector<std::string>& types) {
    for (int tries = 1;; ++tries) {
      CCTL_TRY(Fd socket, openSocket());
      phase_ = kGreeting;
      bool greeted = false;
      auto session =
          Session::handshake(std::move(socket), host_, types, deadline_, cancel_, &greeted);
      if (session || greeted || tries == kAttempts) return session;
      const auto code = session.error().code;
      if (code == Code::kTimeout || code == Code::kCancelled) return session;
      CCTL_CHECK(pause(tries));
    }
  }

  Result<void> pause(int tries) {
    static thread_local std::mt19937 random{std::random_device{}()};
    const Millis time(std::uniform_int_distribution<int>(50, 250)(random) * tries);
    const auto waited = waitFor(-1, 0, sooner(Deadline::in(time), deadline_), cancel_);
    if (!waited && waited.error().code == Code::kCancelled) return fail(waited.error());
    return {};
  }

  Result<Fd> openSocket() {
    phase_ = "no connection";
    if (jump_) return bridgeTo(*jump_, host_.host_name, host_.port, deadline_, cancel_);
    if (!host_.proxy_command.empty()) {
      Fd fd;
      CCTL_TRY(proxy_, ProxyProcess::start(proxyCommand(), &fd));
      return fd;
    }
    return connectTcp(host_.host_name, host_.port, host_.address_family, deadline_, cancel_);
  }

  // The tokens of ssh_config(5); host_name and user hold no shell metacharacters.
  std::string proxyCommand() const {
    std::string text;
    const std::string& from = host_.proxy_command;
    for (size_t i = 0; i < from.size(); ++i) {
      const char token = from[i] == '%' && i + 1 < from.size() ? from[++i] : '\0';
      switch (token) {
        case '\0':
          text += from[i];
          break;
        case '%':
          text += '%';
          break;
        case 'h':
          text += host_.host_name;
          break;
        case 'n':
          text += target_.address;
          break;
        case 'p':
          text += std::to_string(host_.port);
          break;
        case 'r':
          text += host_.user;
          break;
        default:
          text += {'%', token};
      }
    }
    return text;
  }

  Result<void> enterJump() {
    if (host_.proxy_jump.empty()) return {};
    const auto comma = host_.proxy_jump.rfind(',');
    CCTL_TRY(SshTarget jump,
             parseJump(host_.proxy_jump.substr(comma == std::string::npos ? 0 : comma + 1)));
    // `Host *` with a ProxyJump matches the jump host too: it is reached directly, as ssh does.
    if (jump.address == target_.address && jump.port == target_.port) return {};
    if (comma != std::string::npos) jump.proxy_jump = host_.proxy_jump.substr(0, comma);
    jump.identity_file = target_.identity_file;
    jump.known_hosts = target_.known_hosts;
    jump.config_file = target_.config_file;
    jump.connect_timeout = target_.connect_timeout;
    return passThrough(jump);
  }

  Result<void> passThrough(const SshTarget& jump) {
    auto chain = chain_;
    chain.push_back(
        fmt::format("{}@{}:{}", jump.user.value_or(""), jump.address, jump.port.value_or(0)));
    if (std::count(chain.begin(), chain.end(), chain.back()) > 1) {
      return fail(Code::kBadInput, "ProxyJump goes in a circle through {}", jump.address);
    }
    const auto host = shared_.jumpHost(chain.back() + " " + jump.proxy_jump.value_or(""));
    const auto connect = [&]() -> Result<std::unique_ptr<HostLink>> {
      CCTL_TRY(auto connected, Connector(jump, context_, outer_, cancel_, chain).run());
      return makeLink(std::move(connected));
    };
    CCTL_TRY(jump_, host->link(connect, outer_, cancel_));
    phase_ = "no turn at the jump host";
    CCTL_CHECK(host->enter(outer_, cancel_));
    place_ = Place(host);
    return {};
  }

  Result<void> judge(const HostKeyCheck& check, const HostKey& key) {
    const auto known_as = knownHostsName(knownName(), knownPort());
    const auto file = host_.user_known_hosts.empty() ? "" : host_.user_known_hosts[0];
    const auto refuse = [&](const HostKeyCheck& why) {
      return fail(hostKeyError(why, target_.name, knownName(), knownPort(), key, file));
    };
    if (check.verdict == Verdict::kOk) return {};
    if (check.verdict == Verdict::kRevoked) return refuse(check);
    if (check.verdict == Verdict::kNew) {
      const bool accept = shared_.policy.accept_new || host_.strict != StrictChecking::kRefuseNew;
      return accept ? acceptKey(known_as, key, file) : refuse(check);
    }
    if (host_.strict != StrictChecking::kOff) return refuse(check);
    shared_.notice(target_.name + ": the host key has changed, and StrictHostKeyChecking is off");
    return {};
  }

  Result<void> acceptKey(const std::string& known_as, const HostKey& key, const std::string& file) {
    const auto before = shared_.accepted(known_as, key.type);
    if (before && before->blob == key.blob) return {};
    if (before) {
      const HostKeyCheck changed{Verdict::kChanged,     file,         0,
                                 before->fingerprint(), before->type, false};
      return fail(hostKeyError(changed, target_.name, knownName(), knownPort(), key, file));
    }
    const bool dry_run = shared_.policy.dry_run;
    if (!dry_run)
      CCTL_CHECK(appendKnownHost(file, knownName(), knownPort(), key, host_.hash_known_hosts));
    shared_.accept(known_as, key);
    shared_.notice(fmt::format("{}: {} the host key of {} to {}: {} {}", target_.name,
                               dry_run ? "would add" : "added", known_as,
                               file.empty() ? "no file" : file, key.type, key.fingerprint()));
    return {};
  }

  Connected finish(Session session, const HostKey& key) {
    const auto text = [](const char* value) { return std::string(value == nullptr ? "" : value); };
    LinkInfo info;
    info.user = host_.user;
    info.address = host_.host_name;
    info.port = host_.port;
    info.host_key_fingerprint = key.fingerprint();
    info.kex = text(ssh_get_kex_algo(session.get()));
    info.cipher = text(ssh_get_cipher_out(session.get()));
    info.server_banner = text(ssh_get_serverbanner(session.get()));
    LoopOptions loop;
    loop.name = target_.name;
    if (host_.alive_interval > 0) {
      loop.alive_interval = std::chrono::seconds(host_.alive_interval);
      loop.dead_after = loop.alive_interval * host_.alive_count;
    }
    return {std::move(session), std::move(info), std::move(loop), jump_, proxy_};
  }

  static constexpr const char* kGreeting = "connected, but the key exchange did not end";

  const SshTarget& target_;
  const std::shared_ptr<SshContext>& context_;
  SshContext::Shared& shared_;
  const Deadline outer_;
  Deadline deadline_;
  const CancelToken* const cancel_;
  const std::vector<std::string> chain_;  // of jump hosts that are being connected for this one
  const char* phase_ = "the ssh configuration was not resolved";
  ResolvedHost host_;
  std::shared_ptr<const KnownHosts> known_;
  std::shared_ptr<HostLink> jump_;
  std::shared_ptr<ProxyProcess> proxy_;
  Place place_;
};

}  // namespace

Result<Connected> connectSession(const SshTarget& target,
                                 const std::shared_ptr<SshContext>& context, Deadline deadline,
                                 const CancelToken* cancel) {
  return Connector(target, context, deadline, cancel, {}).run();
}

}  // namespace cctl::ssh
