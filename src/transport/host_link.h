// One SSH session to a host: commands and streams on it, any number at a time.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/cancel.h"
#include "base/result.h"
#include "transport/context.h"
#include "transport/stream.h"
#include "transport/target.h"

namespace cctl::ssh {

// Called on the link's thread for the next piece of input; an empty view ends it. What the view
// names must stay valid until the next call. It may read files, but must not wait for others.
using ByteSource = std::function<Result<std::string_view>()>;
// Called on the link's thread; must not block. Never called after exec() has returned.
using ByteSink = std::function<void(std::string_view)>;

struct ExecRequest {
  std::string command;              // for the login shell of the user there; see shell_quote.h
  std::string input;                // to its standard input, which then ends
  ByteSource next_input;            // instead of `input`, for what is large
  size_t output_limit = 16u << 20;  // bytes kept of out and of err, each; the rest is dropped
  ByteSink on_out, on_err;          // called with all output, also that beyond the limit
};

struct ExecResult {
  int exit_status = 0;                // 128 + its number when a signal ended it; 255 is its own
  std::optional<std::string> signal;  // "TERM"
  std::string out, err;
  bool truncated = false;  // output_limit was reached
};

struct LinkInfo {
  std::string user, address;  // as connected to, after ssh_config
  int port = 22;
  std::string host_key_fingerprint;
  std::string kex, cipher, server_banner;
};

// Thread-safe. The session belongs to a thread of its own; calls block the caller only.
class HostLink {
 public:
  // Blocks at most until the deadline or target.connect_timeout, whichever is first, in every
  // phase: name lookup, TCP, key exchange, host key, authentication, and the same for each jump
  // host. Time that a person takes to type a passphrase does not count. Errors: kUnreachable
  // (whatever kept the session from being: network, time, host key, authentication), kBadInput
  // (ssh_config, key files), kCancelled; each names the host and says the way out.
  [[nodiscard]] static Result<std::unique_ptr<HostLink>> connect(
      const SshTarget& target, std::shared_ptr<SshContext> context, Deadline deadline,
      const CancelToken* cancel = nullptr);

  // Ends the session and its thread. Streams on it are closed.
  virtual ~HostLink() = default;

  // Runs a command to its end. kUnreachable: the link was lost in the middle, whether the command
  // had its effect is unknown. On timeout or cancel the command is sent SIGTERM (which sshd does
  // not pass on for root), its input ends and its channel is closed.
  [[nodiscard]] virtual Result<ExecResult> exec(const ExecRequest& request, Deadline deadline,
                                                const CancelToken* cancel = nullptr) = 0;

  // To a listening unix socket (direct-streamlocal@openssh.com). kFailed when the server refuses;
  // it does not say whether forwarding is forbidden or the socket is missing.
  [[nodiscard]] virtual Result<std::unique_ptr<Stream>> openUnixSocket(
      const std::string& path, Deadline deadline, const CancelToken* cancel = nullptr) = 0;

  // To a TCP port as seen from the host (direct-tcpip).
  [[nodiscard]] virtual Result<std::unique_ptr<Stream>> openTcp(
      const std::string& host, int port, Deadline deadline,
      const CancelToken* cancel = nullptr) = 0;

  // To standard input and output of a command. Its standard error is kept (the last 4 KiB) for the
  // error that setOnClose is given.
  [[nodiscard]] virtual Result<std::unique_ptr<Stream>> openExecStream(
      const std::string& command, Deadline deadline, const CancelToken* cancel = nullptr) = 0;

  // To the shim: openUnixSocket, and where that is refused, openExecStream(relay_command).
  [[nodiscard]] Result<std::unique_ptr<Stream>> openControl(const std::string& socket_path,
                                                            const std::string& relay_command,
                                                            Deadline deadline,
                                                            const CancelToken* cancel = nullptr);

  virtual const LinkInfo& info() const = 0;
  // Why the session ended; nullopt while it is up.
  virtual std::optional<Error> failure() const = 0;
};

}  // namespace cctl::ssh
