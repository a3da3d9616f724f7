#include "core/puzzles.h"

#include <array>
#include <random>
#include <string_view>
#include <utility>

#include "core/solver.h"

namespace sudoku {
namespace {

constexpr std::array<std::string_view, 5> kKnown{
    "530070000600195000098000060800060003400803001700020006060000280000419005000080079",
    "000000010400000000020000000000050407008000300001090000300400200050100000000806000",
    "003020600900305001001806400008102900700000008006708200002609500800203009005010300",
    "200080300060070084030500209000105408000000000402706000301007040720040060004010003",
    "000000907000420180000705026100904000050000040000507009920108000034059000507000000",
};

using Order = std::array<std::size_t, 9>;

class Shuffler {
 public:
  explicit Shuffler(std::uint64_t seed) : random_(seed) {}

  std::string shuffle(std::string_view puzzle) {
    const Order rows = shuffleLines();
    const Order columns = shuffleLines();
    const auto digits = shuffled<10>(1);
    const bool turn = below(2) == 1;
    std::string result(kCells, '0');
    for (std::size_t cell = 0; cell < kCells; ++cell) {
      const std::size_t row = rows[cell / 9];
      const std::size_t column = columns[cell % 9];
      const char digit = puzzle[turn ? column * 9 + row : row * 9 + column];
      result[cell] = static_cast<char>('0' + digits[static_cast<std::size_t>(digit - '0')]);
    }
    return result;
  }

  // Not std::uniform_int_distribution, whose results differ between libraries.
  std::size_t below(std::size_t end) { return static_cast<std::size_t>(random_() % end); }

 private:
  // 0, 1, 2 … with those from `first` on in random order.
  template <std::size_t N>
  std::array<std::size_t, N> shuffled(std::size_t first) {
    std::array<std::size_t, N> order{};
    for (std::size_t i = 0; i < N; ++i) order[i] = i;
    for (std::size_t i = N - 1; i > first; --i)
      std::swap(order[i], order[first + below(i + 1 - first)]);
    return order;
  }

  // Lines may change places within their band of three, and bands with each other.
  Order shuffleLines() {
    Order order{};
    const auto bands = shuffled<3>(0);
    for (std::size_t band = 0; band < 3; ++band) {
      const auto lines = shuffled<3>(0);
      for (std::size_t i = 0; i < 3; ++i) order[band * 3 + i] = bands[band] * 3 + lines[i];
    }
    return order;
  }

  std::mt19937_64 random_;
};

}  // namespace

std::vector<std::string> makePuzzles(std::size_t count, std::uint64_t seed) {
  Shuffler shuffler(seed);
  std::vector<std::string> puzzles;
  puzzles.reserve(count);
  while (puzzles.size() < count) {
    puzzles.push_back(shuffler.shuffle(kKnown[shuffler.below(kKnown.size())]));
  }
  return puzzles;
}

}  // namespace sudoku
