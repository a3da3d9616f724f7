// Standard input and output as a line to a unix socket, for sshds that forbid forwarding to one.
#pragma once

#include "base/fd.h"

#include "base/result.h"

namespace cctl::shim {

// Until either side closes.
[[nodiscard]] Result<void> relay(Fd socket);

}  // namespace cctl::shim
