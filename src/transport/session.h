// One libssh session from the first byte to the end of authentication. Never blocks past a
// deadline. Used by one thread at a time.
#pragma once

#include <libssh/libssh.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/fd.h"
#include "base/result.h"
#include "transport/known_hosts.h"
#include "transport/ssh_config.h"

namespace cctl::ssh {

struct SessionDeleter {
  void operator()(ssh_session session) const { ssh_free(session); }  // closes its socket
};
using SessionPtr = std::unique_ptr<ssh_session_struct, SessionDeleter>;

class Session {
 public:
  // Takes the connected socket over and exchanges keys. `host_key_types` are asked for first.
  // `*greeted` tells whether the server had sent its banner: a connection that fails before that
  // was turned away for load, and may be tried again.
  [[nodiscard]] static Result<Session> handshake(Fd socket, const ResolvedHost& host,
                                                 const std::vector<std::string>& host_key_types,
                                                 Deadline deadline, const CancelToken* cancel,
                                                 bool* greeted);

  // Repeats a non-blocking libssh call until it gives something other than `again`.
  [[nodiscard]] Result<int> drive(const std::function<int()>& call, int again, Deadline deadline,
                                  const CancelToken* cancel);

  [[nodiscard]] Result<HostKey> hostKey() const;
  ssh_session get() const { return session_.get(); }
  int fd() const { return ssh_get_fd(session_.get()); }
  std::string lastError() const { return ssh_get_error(session_.get()); }

 private:
  explicit Session(SessionPtr session) : session_(std::move(session)) {}
  SessionPtr session_;
};

// Once per process, before any thread uses libssh; thread-safe itself.
[[nodiscard]] Result<void> initLibssh();

}  // namespace cctl::ssh
