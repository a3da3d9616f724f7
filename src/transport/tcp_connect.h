// A TCP connection made without ever blocking past a deadline, name lookup included.
#pragma once

#include <string>

#include "base/cancel.h"
#include "base/fd.h"
#include "base/result.h"

namespace cctl::ssh {

// Tries the host's addresses in the resolver's order, the next one 250 ms after the last or as soon
// as that has failed (after RFC 8305), and keeps the first that answers. The socket is non-blocking
// and set up for SSH: no Nagle delay, and dead peers found within 15 s. kUnreachable, kCancelled.
// A lookup that outlasts the deadline is left to end on a thread of its own.
[[nodiscard]] Result<Fd> connectTcp(const std::string& host, int port, int address_family,
                                    Deadline deadline, const CancelToken* cancel);

// Linux falls back to delayed ACKs by itself, so this is needed before every read; 43 ms a channel
// otherwise (tcp(7), TCP_QUICKACK). Does nothing for other sockets.
void armQuickAck(int fd);

}  // namespace cctl::ssh
