// Small matters of wording.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

namespace cctl {

// "1 instance", "3 instances"
inline std::string counted(size_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

}  // namespace cctl
