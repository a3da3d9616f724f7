// What distinguishes the releases built from these sources; set by CMakeLists.txt.
#pragma once

#include <string_view>

namespace sudoku {

inline constexpr std::string_view kVersion = SUDOKU_VERSION;
inline constexpr bool kHasHints = SUDOKU_HAS_HINTS != 0;  // and /metrics; since 1.1.0

}  // namespace sudoku
