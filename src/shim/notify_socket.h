// Where services tell of themselves: NOTIFY_SOCKET of sd_notify(3), one for all of a shim. Who
// speaks is known from the kernel (SCM_CREDENTIALS, unix(7)), not from what is said.
//
// Beside the one at its path there is a spare one in the abstract namespace, which needs no disk:
// it is what services get that begin while the first cannot be bound. It is there always, for those
// that got it from a shim before this one.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "shim/event_loop.h"
#include "shim/fd_store.h"

namespace cctl::shim {

// "READY=1\nSTATUS=…" as pairs; what has no '=' is passed over.
std::map<std::string, std::string> parseNotification(std::string_view text);

class NotifySocket {
 public:
  using OnMessage = std::function<void(int pid, const std::map<std::string, std::string>&)>;

  // Both must outlive it.
  NotifySocket(EventLoop& loop, FdStore& fds, std::string path, OnMessage on_message);
  // The sockets that were kept, which still hold what was said in between, or new ones. An error
  // when that at the path cannot be bound; it may be tried again.
  [[nodiscard]] Result<void> listen();
  // NOTIFY_SOCKET of a service that begins now.
  std::string address() const;

 private:
  struct Socket {
    Fd fd;
    Watch watch;
  };

  [[nodiscard]] Result<void> open(Socket& socket, const std::string& address, const char* parked);
  void onReadable(int fd);
  bool receive(int fd);

  EventLoop& loop_;
  FdStore& fds_;
  const std::string path_;
  OnMessage on_message_;
  Socket socket_;
  Socket spare_;
};

}  // namespace cctl::shim
