// One request to a shim on this host, for the shim's own subcommands.
#pragma once

#include <string>

#include "base/cancel.h"
#include "base/fd.h"
#include "protocol/messages.h"

namespace cctl::shim {

// kUnreachable when nobody listens.
[[nodiscard]] Result<Fd> connectUnix(const std::string& path);
// To ROOT's control socket.
[[nodiscard]] Result<Fd> connectShim(const std::string& root);

// The payload of the reply; items are passed over. Blocks until the deadline.
[[nodiscard]] Result<std::string> askShim(const std::string& root, const std::string& request,
                                          Deadline deadline);

template <typename Reply, typename RequestMessage>
[[nodiscard]] Result<Reply> ask(const std::string& root, const RequestMessage& request,
                                Deadline deadline) {
  CCTL_TRY(const std::string payload, askShim(root, protocol::encodeRequest(request), deadline));
  return protocol::decodeReply<Reply>(payload);
}

}  // namespace cctl::shim
