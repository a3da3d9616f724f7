// Signal names, without their "SIG" (signal(7)).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cctl {

// "TERM", "SIGTERM" or "15" → 15; nullopt for anything else.
std::optional<int> signalFromName(std::string_view name);
// 15 → "TERM"; the number for one without a name.
std::string signalName(int number);
std::vector<std::string> signalNames();

}  // namespace cctl
