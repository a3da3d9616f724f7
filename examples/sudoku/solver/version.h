// What distinguishes the releases built from these sources; set by CMakeLists.txt.
#pragma once

#include <string_view>

namespace sudoku {

inline constexpr std::string_view kVersion = SUDOKU_VERSION;
inline constexpr bool kHasLatency = SUDOKU_HAS_LATENCY != 0;  // since 1.1.0

}  // namespace sudoku
