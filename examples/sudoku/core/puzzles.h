// Puzzles in any number, all with a solution. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace sudoku {

// Made from a few well-known puzzles by renaming digits and by swapping rows, columns and
// sides, so that no cache helps. The same seed gives the same puzzles.
std::vector<std::string> makePuzzles(std::size_t count, std::uint64_t seed);

}  // namespace sudoku
