// Accepts connections on one listening socket. For the loop's thread only.
#pragma once

#include <functional>

#include "net/event_loop.h"
#include "net/fd.h"
#include "net/log.h"
#include "net/socket.h"

namespace sudoku {

class Acceptor {
 public:
  using OnAccept = std::function<void(Fd)>;

  // `shared`: a supervisor holds the socket too and hands it to our successor.
  Acceptor(EventLoop& loop, const Log& log, Fd socket, bool shared, OnAccept on_accept);
  ~Acceptor();

  // For a graceful stop. What has been accepted by the kernel is taken first, since
  // closing would reset it; a shared socket keeps it for the successor.
  void close();
  HostPort address() const { return address_; }

 private:
  bool acceptOne();
  void onReadable();
  void pause();

  EventLoop& loop_;
  const Log& log_;
  Fd socket_;
  bool shared_;
  OnAccept on_accept_;
  HostPort address_;
  EventLoop::Timer resume_timer_{};
};

}  // namespace sudoku
