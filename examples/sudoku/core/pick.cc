#include "core/pick.h"

#include <tuple>

namespace sudoku {

std::optional<std::size_t> pickSolver(std::span<const Candidate> candidates, std::size_t start) {
  const auto cost = [](const Candidate& candidate) {
    return std::tuple(candidate.ejected, !candidate.connected, candidate.outstanding);
  };
  std::optional<std::size_t> best;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const std::size_t at = (start + i) % candidates.size();
    if (candidates[at].tried) continue;
    if (!best || cost(candidates[at]) < cost(candidates[*best])) best = at;
  }
  return best;
}

}  // namespace sudoku
