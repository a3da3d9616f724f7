// Standard input and output as a line to a unix socket, for sshds that forbid forwarding to one.
#pragma once

#include <string>

#include "base/result.h"

namespace cctl::shim {

// Until either side closes. kUnreachable when nobody listens on the socket.
[[nodiscard]] Result<void> relay(const std::string& socket);

}  // namespace cctl::shim
