// What bootstrap tells a shim about itself, and who may give it orders.
#pragma once

#include <set>
#include <string>

#include "shim/host.h"

namespace cctl::shim {

// ROOT/shim/cluster. kNotFound: this ROOT was never bootstrapped.
[[nodiscard]] Result<Identity> loadIdentity(const std::string& root);
[[nodiscard]] Result<void> saveIdentity(const std::string& root, const Identity& identity);

// ROOT/shim/operators: uids, one a line. What is no number is passed over.
std::set<unsigned> loadOperators(const std::string& root);
[[nodiscard]] Result<void> saveOperators(const std::string& root, const std::set<unsigned>& uids);

// Absolute, short enough for its sockets, and plain enough for crontabs and unit files.
[[nodiscard]] Result<void> checkRoot(const std::string& root);

}  // namespace cctl::shim
