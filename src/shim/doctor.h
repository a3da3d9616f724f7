// What this host is like, for `clusterctl doctor`: read, never changed.
#pragma once

#include <string>
#include <utility>

#include "shim/host.h"
#include "shim/names.h"

namespace cctl::shim {

// Reads /proc, statvfs(3) of ROOT and what the parts of the shim had to complain of. What the
// caller's parts know (registers, names) is left empty. `proc` stands in for /proc in tests.
protocol::DoctorReply examineHost(const Host& host, const std::string& proc = "/proc");
// What local readers find of the names, and what was damaged at the start and still is.
void examineNames(const Host& host, const Names& names, protocol::DoctorReply& reply);
// Of a host whose acceptor serves: that somebody removed what it has on disk. Empty: nobody did.
std::string lostPromises(const Host& host);

// "32768\t60999" of ip_local_port_range; zeros for anything else.
std::pair<int, int> parseLocalPortRange(std::string_view text);

}  // namespace cctl::shim
