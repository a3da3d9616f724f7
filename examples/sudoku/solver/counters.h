// What the solver counts. Written by the workers, read by the admin port; relaxed
// atomics, since a snapshot that is a few requests askew misleads nobody.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace sudoku {

class Count {
 public:
  void add(std::uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  void subtract(std::uint64_t n = 1) { value_.fetch_sub(n, std::memory_order_relaxed); }
  std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

// How long puzzles took, in buckets that end at fixed microseconds.
class LatencyBuckets {
 public:
  static constexpr std::array<std::uint64_t, 12> kEnds{
      10, 20, 50, 100, 200, 500, 1'000, 2'000, 5'000, 10'000, 100'000, 1'000'000};

  void record(std::chrono::microseconds took) {
    const auto value = static_cast<std::uint64_t>(took.count());
    std::size_t bucket = 0;
    while (bucket < kEnds.size() && value > kEnds[bucket]) ++bucket;
    counts_[bucket].add();
    sum_.add(value);
  }
  // The last bucket, kEnds.size(), has no end.
  std::uint64_t count(std::size_t bucket) const { return counts_[bucket].get(); }
  std::uint64_t sum() const { return sum_.get(); }

 private:
  std::array<Count, kEnds.size() + 1> counts_;
  Count sum_;
};

struct Counters {
  Count connections_open;
  Count connections_accepted;
  Count connections_rejected;
  Count connection_errors;
  Count solved;
  Count no_solution;
  Count gave_up;  // answered NoSolution, though the search was cut short
  Count bad_requests;
  LatencyBuckets latency;
};

}  // namespace sudoku
