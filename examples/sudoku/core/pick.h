// Which solver gets the next request. Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

namespace sudoku {

struct Candidate {
  bool connected = false;
  bool ejected = false;  // failed a moment ago
  bool tried = false;    // this request has failed there already
  std::size_t outstanding = 0;
};

// The index of the candidate to use: never one that was tried; a connected one before
// one that must be connected first, both before an ejected one; then the one with the
// fewest requests outstanding; then the first at or after `start` (round robin).
// Nothing when all were tried.
std::optional<std::size_t> pickSolver(std::span<const Candidate> candidates, std::size_t start);

}  // namespace sudoku
