// From a target to an authenticated session: internal to transport/.
#pragma once

#include <memory>
#include <string>

#include "transport/context_shared.h"
#include "transport/host_link.h"
#include "transport/link_loop.h"
#include "transport/session.h"

namespace cctl::ssh {

// The child of a ProxyCommand; its destructor ends it.
class ProxyProcess {
 public:
  // Runs `sh -c "exec COMMAND"`; `*fd` becomes our end of its standard input and output.
  [[nodiscard]] static Result<std::shared_ptr<ProxyProcess>> start(const std::string& command,
                                                                   Fd* fd);
  explicit ProxyProcess(pid_t pid) : pid_(pid) {}
  ~ProxyProcess();
  ProxyProcess(const ProxyProcess&) = delete;
  ProxyProcess& operator=(const ProxyProcess&) = delete;

 private:
  const pid_t pid_;
};

struct Connected {
  Session session;
  LinkInfo info;
  LoopOptions loop;
  std::shared_ptr<HostLink> jump;       // kept for as long as the session
  std::shared_ptr<ProxyProcess> proxy;  // the same
};

[[nodiscard]] Result<Connected> connectSession(const SshTarget& target,
                                               const std::shared_ptr<SshContext>& context,
                                               Deadline deadline, const CancelToken* cancel);

std::unique_ptr<HostLink> makeLink(Connected connected);

// One end of a socket pair that carries what `link` connects to host:port.
[[nodiscard]] Result<Fd> bridgeTo(HostLink& link, const std::string& host, int port,
                                  Deadline deadline, const CancelToken* cancel);

}  // namespace cctl::ssh
