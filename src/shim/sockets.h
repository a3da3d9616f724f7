// Listening sockets that the shim binds and services are given (LISTEN_FDS, sd_listen_fds(3)): kept
// over restarts, generations, and supervisors, so that no connection is ever refused in between.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "protocol/messages.h"
#include "shim/fd_store.h"

namespace cctl::shim {

class Sockets {
 public:
  // `fds` must outlive it.
  explicit Sockets(FdStore& fds) : fds_(fds) {}

  using Key = std::pair<protocol::InstanceRef, std::string>;  // instance, name of the port

  std::vector<std::string> namesOf(const protocol::InstanceRef& ref) const;
  // The port that this one is bound to.
  std::optional<int> portOf(const Key& key) const;
  // Binds it, on all addresses of both families, without listening yet: clients are refused, and
  // nobody else gets the port. kFailed when somebody has it.
  [[nodiscard]] Result<void> bind(const Key& key, int port);
  // Bound, and listening from now on; the descriptor stays this object's.
  [[nodiscard]] Result<int> listen(const Key& key, int port);
  // No process of the instance runs any more: clients are refused again, the port stays taken.
  void quiet(const Key& key);
  void release(const Key& key);

  // For a supervisor that begins: as it was kept, or else from the process that has it as `fd`.
  void recover(const Key& key, int port);
  void recoverFrom(const Key& key, int port, int pidfd, int fd);

 private:
  struct Bound {
    int port = 0;
    Fd socket;
    bool listening = false;
  };
  void keep(const Key& key);

  FdStore& fds_;
  std::map<Key, Bound> bound_;
};

}  // namespace cctl::shim
