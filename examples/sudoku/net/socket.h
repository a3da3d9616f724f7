// TCP sockets: all non-blocking, close-on-exec, with TCP_NODELAY.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/or_error.h"
#include "core/text.h"
#include "net/fd.h"

namespace sudoku {

// Port 0 lets the kernel choose; see localAddress().
OrError<Fd> listenOn(const HostPort& address);
// Begins to connect; writable once it is decided, then pendingError() tells. When that
// fails at once: an invalid Fd, and *error is the errno.
Fd beginConnect(const HostPort& address, int* error);
int pendingError(int fd);
void prepareAccepted(int fd);

HostPort localAddress(int fd);
HostPort peerAddress(int fd);

// The sockets that a supervisor bound for this process (sd_listen_fds(3): LISTEN_PID,
// LISTEN_FDS, LISTEN_FDNAMES). Empty when they are meant for another process. Takes
// the variables out of the environment, so that no child believes them.
struct InheritedSocket {
  std::string name;
  Fd fd;
};
std::vector<InheritedSocket> takeInheritedSockets();

}  // namespace sudoku
