#include "core/solver.h"

#include <doctest/doctest.h>

#include <array>
#include <string>

#include "core/puzzles.h"

using namespace sudoku;

namespace {

const std::string kPuzzle =
    "000000010400000000020000000000050407008000300001090000300400200050100000000806000";
const std::string kAnswer =
    "693784512487512936125963874932651487568247391741398625319475268856129743274836159";

}  // namespace

TEST_CASE("the vector of the protocol's description") {
  const Solution solution = solve(kPuzzle);
  CHECK(solution.verdict == Verdict::kSolved);
  CHECK(solution.digits == kAnswer);
  CHECK(solve(kPuzzle.substr(0, 80) + "5").verdict == Verdict::kNoSolution);
}

TEST_CASE("clues that contradict each other have no solution") {
  const std::string empty(81, '0');
  for (const std::size_t other : {8U, 72U, 20U}) {  // same row, same column, same box
    std::string puzzle = empty;
    puzzle[0] = puzzle[other] = '7';
    CHECK(solve(puzzle).verdict == Verdict::kNoSolution);
  }
  std::string full = kAnswer;
  std::swap(full[0], full[1]);
  CHECK(solve(full).verdict == Verdict::kNoSolution);
}

TEST_CASE("a full valid grid is its own solution") { CHECK(solve(kAnswer).digits == kAnswer); }

TEST_CASE("grids with many solutions give one that is valid, always the same") {
  const std::string empty(81, '0');
  const Solution solution = solve(empty);
  CHECK(solution.verdict == Verdict::kSolved);
  CHECK(isSolutionOf(solution.digits, empty));
  CHECK(solve(empty).digits == solution.digits);
}

TEST_CASE("the hardest known puzzles are far from the limit of guesses") {
  const std::array<std::string, 6> hard{
      "800000000003600000070090200050007000000045700000100030001000068008500010090000400",
      "000000000003085001020000000507000004000100090000000500000073002010000000040009000",
      "100007090030020008009600500005300900010080002600004000300000010040000007007000300",
      "600008940900006100070040000200610000000000200089002000000060005000000030800001600",
      "900100004014030800003000090000708001800003000000000030021000070009040500500016003",
      "000005080000601043000000000010500000000106000300000005530000061000000004000000000"};
  for (const std::string& puzzle : hard) {
    REQUIRE(isPuzzle(puzzle));
    const Solution solution = solve(puzzle);
    CHECK(solution.verdict != Verdict::kGaveUp);
    CHECK(solution.guesses < kDefaultMaxGuesses / 10);
    if (solution.verdict == Verdict::kSolved) CHECK(isSolutionOf(solution.digits, puzzle));
  }
}

TEST_CASE("the search ends at its limit of guesses") {
  const Solution solution = solve(std::string(81, '0'), 3);
  CHECK(solution.verdict == Verdict::kGaveUp);
  CHECK(solution.guesses == 3);
  CHECK(solution.digits.empty());
}

TEST_CASE("isPuzzle wants exactly 81 digits") {
  CHECK(isPuzzle(kPuzzle));
  CHECK_FALSE(isPuzzle(kPuzzle.substr(1)));
  CHECK_FALSE(isPuzzle(kPuzzle + "0"));
  CHECK_FALSE(isPuzzle("." + kPuzzle.substr(1)));
  CHECK_FALSE(isPuzzle(""));
}

TEST_CASE("isSolutionOf sees every kind of wrong answer") {
  CHECK(isSolutionOf(kAnswer, kPuzzle));
  CHECK_FALSE(isSolutionOf("", kPuzzle));
  CHECK_FALSE(isSolutionOf(kPuzzle, kPuzzle));  // not filled
  std::string other_clue = kPuzzle;
  other_clue[0] = '1';
  CHECK_FALSE(isSolutionOf(kAnswer, other_clue));
  std::string broken = kAnswer;
  std::swap(broken[0], broken[9]);  // one column, one box: only the rows break
  CHECK_FALSE(isSolutionOf(broken, std::string(81, '0')));
}

TEST_CASE("made puzzles differ, can be solved, and are the same for the same seed") {
  const auto puzzles = makePuzzles(200, 7);
  CHECK(puzzles == makePuzzles(200, 7));
  CHECK(puzzles != makePuzzles(200, 8));
  CHECK(puzzles[0] != puzzles[1]);
  for (const std::string& puzzle : puzzles) {
    REQUIRE(isPuzzle(puzzle));
    CHECK(isSolutionOf(solve(puzzle).digits, puzzle));
  }
}
