#include "transport/host_link.h"

#include <sys/socket.h>

#include <cerrno>

#include "transport/channel_users.h"
#include "transport/connect.h"

namespace cctl::ssh {
namespace {

class ChannelStream final : public Stream {
 public:
  explicit ChannelStream(std::shared_ptr<StreamUser> user) : user_(std::move(user)) {}
  ~ChannelStream() override { user_->close(); }
  ChannelStream(const ChannelStream&) = delete;
  ChannelStream& operator=(const ChannelStream&) = delete;

  Result<void> write(std::string_view bytes, Deadline deadline,
                     const CancelToken* cancel) override {
    return user_->write(bytes, deadline, cancel);
  }
  Result<size_t> read(char* buffer, size_t size, Deadline deadline,
                      const CancelToken* cancel) override {
    return user_->read(buffer, size, deadline, cancel);
  }
  void setOnData(std::function<void(std::string_view)> on_data) override {
    user_->setOnData(std::move(on_data));
  }
  void setOnClose(std::function<void(const Error&)> on_close) override {
    user_->setOnClose(std::move(on_close));
  }
  void closeWrite() override { user_->closeWrite(); }
  void close() override { user_->close(); }

 private:
  const std::shared_ptr<StreamUser> user_;
};

class SessionLink final : public HostLink {
 public:
  explicit SessionLink(Connected connected)
      : info_(std::move(connected.info)),
        name_(connected.loop.name),
        jump_(std::move(connected.jump)),
        proxy_(std::move(connected.proxy)),
        loop_(std::make_shared<LinkLoop>(std::move(connected.session), std::move(connected.loop))) {
    loop_->start();
  }
  ~SessionLink() override { loop_->stop(); }
  SessionLink(const SessionLink&) = delete;
  SessionLink& operator=(const SessionLink&) = delete;

  Result<ExecResult> exec(const ExecRequest& request, Deadline deadline,
                          const CancelToken* cancel) override {
    const auto user = std::make_shared<ExecUser>(request);
    loop_->open({ChannelSpec::Kind::kExec, request.command, 0}, user);
    const auto waited = user->wait(deadline, cancel);
    if (!waited) {
      user->abort();
      loop_->wake(user.get());
      // The loop answers at once: nothing of `request` is in use after that.
      CCTL_CHECK(user->wait(Deadline::never(), nullptr));
    }
    auto result = user->result();
    if (!result) return fail(named(result.error()));
    if (*result) return std::move(**result);
    if (waited) return fail(Code::kError, "{}: the command was dropped", name_);
    if (waited.error().code == Code::kCancelled) return fail(waited.error().context(name_));
    return fail(Code::kTimeout, "{}: the command did not end in time: {}", name_,
                request.command.substr(0, 80));
  }

  Result<std::unique_ptr<Stream>> openUnixSocket(const std::string& path, Deadline deadline,
                                                 const CancelToken* cancel) override {
    return openStream({ChannelSpec::Kind::kUnix, path, 0}, path, deadline, cancel);
  }

  Result<std::unique_ptr<Stream>> openTcp(const std::string& host, int port, Deadline deadline,
                                          const CancelToken* cancel) override {
    return openStream({ChannelSpec::Kind::kTcp, host, port}, fmt::format("{}:{}", host, port),
                      deadline, cancel);
  }

  Result<std::unique_ptr<Stream>> openExecStream(const std::string& command, Deadline deadline,
                                                 const CancelToken* cancel) override {
    return openStream({ChannelSpec::Kind::kExec, command, 0}, command.substr(0, 200), deadline,
                      cancel);
  }

  Result<Fd> bridge(const std::string& host, int port, Deadline deadline,
                    const CancelToken* cancel) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
      return failErrno(errno, "socketpair");
    }
    Fd ours(ends[0]);
    const auto user = std::make_shared<BridgeUser>(Fd(ends[1]));
    loop_->open({ChannelSpec::Kind::kTcp, host, port}, user);
    if (auto opened = user->waitOpen(deadline, cancel); !opened) {
      user->abort();
      loop_->wake(user.get());
      if (opened.error().code != Code::kFailed) return fail(opened.error());
      return fail(Code::kUnreachable, "{} cannot reach {} port {}: {}", name_, host, port,
                  opened.error().message);
    }
    return ours;
  }

  const LinkInfo& info() const override { return info_; }
  std::optional<Error> failure() const override { return loop_->failure(); }

 private:
  Error named(const Error& error) const {
    return error.message.starts_with(name_ + ":") ? error : error.context(name_);
  }

  Result<std::unique_ptr<Stream>> openStream(ChannelSpec spec, const std::string& what,
                                             Deadline deadline, const CancelToken* cancel) {
    const auto user = std::make_shared<StreamUser>(loop_, name_ + ": " + what);
    loop_->open(std::move(spec), user);
    auto stream = std::make_unique<ChannelStream>(user);  // closes the channel when we give up
    if (auto opened = user->waitOpen(deadline, cancel); !opened) {
      const auto& error = opened.error();
      if (error.code != Code::kFailed) return fail(named(error));
      return fail(Code::kFailed, "{}: {}: refused by the server: {}", name_, what, error.message);
    }
    return stream;
  }

  const LinkInfo info_;
  const std::string name_;
  const std::shared_ptr<HostLink> jump_;
  const std::shared_ptr<ProxyProcess> proxy_;
  const std::shared_ptr<LinkLoop> loop_;
};

}  // namespace

std::unique_ptr<HostLink> makeLink(Connected connected) {
  return std::make_unique<SessionLink>(std::move(connected));
}

Result<Fd> bridgeTo(HostLink& link, const std::string& host, int port, Deadline deadline,
                    const CancelToken* cancel) {
  // Links come from makeLink only, but for those of tests, which are no jump hosts.
  return static_cast<SessionLink&>(link).bridge(host, port, deadline, cancel);
}

Result<std::unique_ptr<HostLink>> HostLink::connect(const SshTarget& target,
                                                    std::shared_ptr<SshContext> context,
                                                    Deadline deadline, const CancelToken* cancel) {
  CCTL_TRY(auto connected, connectSession(target, context, deadline, cancel));
  return makeLink(std::move(connected));
}

Result<std::unique_ptr<Stream>> HostLink::openControl(const std::string& socket_path,
                                                      const std::string& relay_command,
                                                      Deadline deadline,
                                                      const CancelToken* cancel) {
  auto direct = openUnixSocket(socket_path, deadline, cancel);
  if (direct || direct.error().code != Code::kFailed) return direct;
  // A server says no more than "open failed", whether it forbids forwarding or nobody listens:
  // the relay works in the one case and says why not in the other.
  return openExecStream(relay_command, deadline, cancel);
}

}  // namespace cctl::ssh
