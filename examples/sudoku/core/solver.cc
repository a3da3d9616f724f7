#include "core/solver.h"

#include <algorithm>
#include <array>
#include <bit>
#include <optional>

namespace sudoku {
namespace {

using Mask = std::uint16_t;  // bit d-1 is set when digit d is possible; or bit c for column c
constexpr Mask kAllDigits = 0x1ff;

// The 27 houses (rows, columns, boxes) and, for each cell, its houses and its 20 peers.
struct Tables {
  std::array<std::array<std::uint8_t, 9>, 27> houses{};
  std::array<std::array<std::uint8_t, 3>, kCells> houses_of{};
  std::array<std::array<std::uint8_t, 20>, kCells> peers{};
};

constexpr std::size_t boxOf(std::size_t row, std::size_t column) {
  return row / 3 * 3 + column / 3;
}

constexpr void fillHouses(Tables& tables) {
  std::array<std::size_t, 27> filled{};
  for (std::size_t cell = 0; cell < kCells; ++cell) {
    const std::size_t row = cell / 9;
    const std::size_t column = cell % 9;
    const std::array<std::size_t, 3> mine{row, 9 + column, 18 + boxOf(row, column)};
    for (std::size_t i = 0; i < 3; ++i) {
      tables.houses[mine[i]][filled[mine[i]]++] = static_cast<std::uint8_t>(cell);
      tables.houses_of[cell][i] = static_cast<std::uint8_t>(mine[i]);
    }
  }
}

constexpr bool arePeers(std::size_t a, std::size_t b) {
  return a != b && (a / 9 == b / 9 || a % 9 == b % 9 || boxOf(a / 9, a % 9) == boxOf(b / 9, b % 9));
}

constexpr Tables makeTables() {
  Tables tables;
  fillHouses(tables);
  for (std::size_t cell = 0; cell < kCells; ++cell) {
    std::size_t count = 0;
    for (std::size_t other = 0; other < kCells; ++other) {
      if (arePeers(cell, other)) tables.peers[cell][count++] = static_cast<std::uint8_t>(other);
    }
  }
  return tables;
}

constexpr Tables kTables = makeTables();

bool isSingle(Mask mask) { return std::has_single_bit(mask); }
Mask lowestBit(Mask mask) { return static_cast<Mask>(mask & (~mask + 1U)); }

// The candidates of every cell. All members return false once the grid is contradictory.
class Grid {
 public:
  Grid() { cells_.fill(kAllDigits); }

  Mask at(std::size_t cell) const { return cells_[cell]; }

  bool isFilled() const { return std::all_of(cells_.begin(), cells_.end(), isSingle); }

  bool assign(std::size_t cell, Mask digit) {
    if ((cells_[cell] & digit) == 0) return false;
    for (Mask others = cells_[cell] & static_cast<Mask>(~digit); others != 0;) {
      const Mask other = lowestBit(others);
      others = static_cast<Mask>(others ^ other);
      if (!eliminate(cell, other)) return false;
    }
    return true;
  }

  bool eliminate(std::size_t cell, Mask digit) {
    if ((cells_[cell] & digit) == 0) return true;
    cells_[cell] = static_cast<Mask>(cells_[cell] ^ digit);
    changed_ = true;
    if (cells_[cell] == 0) return false;
    if (isSingle(cells_[cell]) && !clearPeers(cell)) return false;
    return placeHiddenSingles(cell, digit);
  }

  // Locked candidates, to the fixed point: where the places of a digit in a line lie
  // in one box, no other cell of that box has it, and the reverse. Cuts the search
  // of grids with few clues by orders of magnitude.
  bool reduce() {
    do {
      changed_ = false;
      for (unsigned digit = 0; digit < 9; ++digit) {
        const auto bit = static_cast<Mask>(1U << digit);
        if (!reduceLines(bit, 9, 1) || !reduceLines(bit, 1, 9)) return false;
      }
    } while (changed_);
    return true;
  }

 private:
  bool clearPeers(std::size_t cell) {
    const Mask digit = cells_[cell];
    return std::all_of(kTables.peers[cell].begin(), kTables.peers[cell].end(),
                       [&](std::size_t peer) { return eliminate(peer, digit); });
  }

  // `digit` has just gone from `cell`: a house of it may have one place left, or none.
  bool placeHiddenSingles(std::size_t cell, Mask digit) {
    for (const std::size_t house : kTables.houses_of[cell]) {
      int places = 0;
      std::size_t last = 0;
      for (const std::size_t other : kTables.houses[house]) {
        if ((cells_[other] & digit) == 0) continue;
        last = other;
        if (++places > 1) break;
      }
      if (places == 0 || (places == 1 && !assign(last, digit))) return false;
    }
    return true;
  }

  // One digit over nine lines (rows with steps 9 and 1, columns with steps 1 and 9).
  // segment[line] has bit s set when the digit may stand in the s-th third of the line.
  bool reduceLines(Mask digit, std::size_t line_step, std::size_t cell_step) {
    std::array<Mask, 9> segment{};
    for (std::size_t line = 0; line < 9; ++line) {
      for (std::size_t i = 0; i < 9; ++i) {
        if ((cells_[line * line_step + i * cell_step] & digit) != 0) {
          segment[line] = static_cast<Mask>(segment[line] | 1U << i / 3);
        }
      }
    }
    for (std::size_t line = 0; line < 9; ++line) {
      if (!reduceLine(segment, line, digit, line_step, cell_step)) return false;
    }
    return true;
  }

  bool reduceLine(const std::array<Mask, 9>& segment, std::size_t line, Mask digit,
                  std::size_t line_step, std::size_t cell_step) {
    const std::size_t first = line / 3 * 3;
    const Mask second = segment[first + (line + 1) % 3];
    const Mask third = segment[first + (line + 2) % 3];
    Mask only_here = static_cast<Mask>(segment[line] & ~(second | third));
    if (only_here != 0) {  // this line holds the digit of that box: nowhere else in the line
      const Mask elsewhere = static_cast<Mask>(segment[line] & ~lowestBit(only_here));
      if (!clearSegments(line, elsewhere, digit, line_step, cell_step)) return false;
    }
    if (!isSingle(segment[line])) return true;
    return clearSegments(first + (line + 1) % 3, segment[line], digit, line_step, cell_step) &&
           clearSegments(first + (line + 2) % 3, segment[line], digit, line_step, cell_step);
  }

  bool clearSegments(std::size_t line, Mask segments, Mask digit, std::size_t line_step,
                     std::size_t cell_step) {
    for (std::size_t i = 0; i < 9; ++i) {
      if ((segments >> i / 3 & 1) == 0) continue;
      if (!eliminate(line * line_step + i * cell_step, digit)) return false;
    }
    return true;
  }

  std::array<Mask, kCells> cells_;
  bool changed_ = false;
};

// The ways to go on from a grid: exactly one of them holds.
struct Branches {
  std::size_t count = 10;
  std::array<std::uint8_t, 9> cells{};
  std::array<Mask, 9> digits{};

  void add(std::size_t cell, Mask digit) {
    cells[count] = static_cast<std::uint8_t>(cell);
    digits[count++] = digit;
  }
};

// The open cell with the fewest candidates; count stays 10 when all cells are set.
Branches branchOnCell(const Grid& grid) {
  std::size_t best = 0;
  int fewest = 10;
  for (std::size_t cell = 0; cell < kCells && fewest > 2; ++cell) {
    const int options = std::popcount(grid.at(cell));
    if (options < 2 || options >= fewest) continue;
    fewest = options;
    best = cell;
  }
  Branches branches;
  if (fewest == 10) return branches;
  branches.count = 0;
  for (Mask left = grid.at(best); left != 0; left = static_cast<Mask>(left & (left - 1))) {
    branches.add(best, lowestBit(left));
  }
  return branches;
}

// A house in which some digit has exactly two places left.
std::optional<Branches> branchOnHouse(const Grid& grid) {
  for (const auto& house : kTables.houses) {
    Mask once = 0;
    Mask twice = 0;
    Mask more = 0;
    for (const std::size_t cell : house) {
      const Mask mask = grid.at(cell);
      more = static_cast<Mask>(more | (twice & mask));
      twice = static_cast<Mask>(twice | (once & mask));
      once = static_cast<Mask>(once | mask);
    }
    const Mask pairs = static_cast<Mask>(twice & ~more);
    if (pairs == 0) continue;
    Branches branches;
    branches.count = 0;
    for (const std::size_t cell : house) {
      if ((grid.at(cell) & lowestBit(pairs)) != 0) branches.add(cell, lowestBit(pairs));
    }
    return branches;
  }
  return std::nullopt;
}

Branches chooseBranches(const Grid& grid) {
  Branches by_cell = branchOnCell(grid);
  if (by_cell.count <= 2 || by_cell.count == 10) return by_cell;
  return branchOnHouse(grid).value_or(by_cell);
}

class Search {
 public:
  explicit Search(std::uint64_t max_guesses) : max_guesses_(max_guesses) {}

  std::uint64_t guesses() const { return guesses_; }

  // Depth-first. On kSolved, `grid` is the solution.
  Verdict run(Grid& grid) {
    if (grid.isFilled()) return Verdict::kSolved;
    if (!grid.reduce()) return Verdict::kNoSolution;
    const Branches branches = chooseBranches(grid);
    if (branches.count == 10) return Verdict::kSolved;
    for (std::size_t i = 0; i < branches.count; ++i) {
      if (guesses_ == max_guesses_) return Verdict::kGaveUp;
      ++guesses_;
      Grid trial = grid;
      if (!trial.assign(branches.cells[i], branches.digits[i])) continue;
      const Verdict verdict = run(trial);
      if (verdict == Verdict::kNoSolution) continue;
      grid = trial;
      return verdict;
    }
    return Verdict::kNoSolution;
  }

 private:
  std::uint64_t max_guesses_;
  std::uint64_t guesses_ = 0;
};

bool placeClues(Grid& grid, std::string_view puzzle) {
  for (std::size_t cell = 0; cell < kCells; ++cell) {
    if (puzzle[cell] == '0') continue;
    if (!grid.assign(cell, static_cast<Mask>(1U << (puzzle[cell] - '1')))) return false;
  }
  return true;
}

std::string toDigits(const Grid& grid) {
  std::string digits(kCells, '0');
  for (std::size_t cell = 0; cell < kCells; ++cell) {
    digits[cell] = static_cast<char>('1' + std::countr_zero(grid.at(cell)));
  }
  return digits;
}

}  // namespace

bool isPuzzle(std::string_view text) {
  return text.size() == kCells &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

Solution solve(std::string_view puzzle, std::uint64_t max_guesses) {
  Grid grid;
  if (!placeClues(grid, puzzle)) return {};
  Search search(max_guesses);
  Solution solution;
  solution.verdict = search.run(grid);
  solution.guesses = search.guesses();
  if (solution.verdict == Verdict::kSolved) solution.digits = toDigits(grid);
  return solution;
}

bool isSolutionOf(std::string_view answer, std::string_view puzzle) {
  if (!isPuzzle(answer) || !isPuzzle(puzzle)) return false;
  for (std::size_t cell = 0; cell < kCells; ++cell) {
    if (answer[cell] == '0') return false;
    if (puzzle[cell] != '0' && puzzle[cell] != answer[cell]) return false;
  }
  return std::all_of(kTables.houses.begin(), kTables.houses.end(), [&](const auto& house) {
    unsigned seen = 0;
    for (const std::size_t cell : house) seen |= 1U << (answer[cell] - '1');
    return seen == kAllDigits;
  });
}

}  // namespace sudoku
