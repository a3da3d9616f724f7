// Solves 9x9 sudokus. Pure; safe to call from any number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sudoku {

inline constexpr std::size_t kCells = 81;

// Bounds the search. Ordinary puzzles need fewer than 100 guesses, the hardest
// published ones a few hundred; this many take a fraction of a second.
inline constexpr std::uint64_t kDefaultMaxGuesses = 100'000;

enum class Verdict {
  kSolved,
  kNoSolution,
  kGaveUp,  // max_guesses were not enough to tell
};

struct Solution {
  Verdict verdict = Verdict::kNoSolution;
  std::string digits;         // 81 digits 1-9 when solved, else empty
  std::uint64_t guesses = 0;  // how many branches the search took
};

// True for 81 characters 0-9, row by row; 0 is an empty cell.
bool isPuzzle(std::string_view text);

// Precondition: isPuzzle(puzzle). Of several solutions the first found is given,
// and always the same one. Does not allocate but for the answer.
Solution solve(std::string_view puzzle, std::uint64_t max_guesses = kDefaultMaxGuesses);

// True when `answer` is a filled valid grid that keeps every clue of `puzzle`.
bool isSolutionOf(std::string_view answer, std::string_view puzzle);

}  // namespace sudoku
