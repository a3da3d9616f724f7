// What this host is like, for `clusterctl doctor`: read, never changed.
#pragma once

#include <string>
#include <utility>

#include "shim/host.h"

namespace cctl::shim {

// Reads /proc, statvfs(3) of ROOT and what the parts of the shim had to complain of. What the
// caller's parts know (registers, names) is left empty. `proc` stands in for /proc in tests.
protocol::DoctorReply examineHost(const Host& host, const std::string& proc = "/proc");

// "32768\t60999" of ip_local_port_range; zeros for anything else.
std::pair<int, int> parseLocalPortRange(std::string_view text);

}  // namespace cctl::shim
