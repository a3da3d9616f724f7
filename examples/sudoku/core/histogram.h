// Counts of durations in microseconds, in buckets no wider than 1/128 of their value
// (the scheme of HdrHistogram), so that percentiles are exact to 1%. Pure.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace sudoku {

class Histogram {
 public:
  void record(std::uint64_t value);
  // The smallest value that at least `percent` of all values do not exceed, rounded up
  // to its bucket's end but never above max(). 0 when nothing was recorded.
  std::uint64_t percentile(double percent) const;
  std::uint64_t count() const { return count_; }
  std::uint64_t max() const { return max_; }
  double mean() const;

 private:
  // 2^36 us is 19 hours; longer ones count as that.
  static constexpr unsigned kMaxBits = 36;
  static constexpr std::size_t kBuckets = 256 + (kMaxBits - 8) * 128;
  static std::size_t bucketOf(std::uint64_t value);
  static std::uint64_t lastOf(std::size_t bucket);

  std::array<std::uint64_t, kBuckets> buckets_{};
  std::uint64_t count_ = 0;
  std::uint64_t max_ = 0;
  double sum_ = 0;
};

}  // namespace sudoku
