// Where services tell of themselves: NOTIFY_SOCKET of sd_notify(3), one for all of a shim. Who
// speaks is known from the kernel (SCM_CREDENTIALS, unix(7)), not from what is said.
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
  NotifySocket(EventLoop& loop, FdStore& fds) : loop_(loop), fds_(fds) {}
  // The socket that was kept, which still holds what was said in between, or a new one at `path`.
  [[nodiscard]] Result<void> listen(const std::string& path, OnMessage on_message);

 private:
  [[nodiscard]] Result<Fd> open(const std::string& path);
  void onReadable();
  bool receive();

  EventLoop& loop_;
  FdStore& fds_;
  OnMessage on_message_;
  Fd socket_;
  Watch watch_;
};

}  // namespace cctl::shim
