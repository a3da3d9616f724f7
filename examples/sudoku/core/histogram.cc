#include "core/histogram.h"

#include <algorithm>
#include <cmath>

namespace sudoku {

std::size_t Histogram::bucketOf(std::uint64_t value) {
  value = std::min(value, (std::uint64_t{1} << kMaxBits) - 1);
  if (value < 256) return static_cast<std::size_t>(value);
  const auto shift = static_cast<unsigned>(std::bit_width(value)) - 8;
  return 256 + (shift - 1) * 128 + static_cast<std::size_t>((value >> shift) - 128);
}

std::uint64_t Histogram::lastOf(std::size_t bucket) {
  if (bucket < 256) return bucket;
  const std::size_t shift = (bucket - 256) / 128 + 1;
  return ((((bucket - 256) % 128) + 129) << shift) - 1;
}

void Histogram::record(std::uint64_t value) {
  ++buckets_[bucketOf(value)];
  ++count_;
  max_ = std::max(max_, value);
  sum_ += static_cast<double>(value);
}

std::uint64_t Histogram::percentile(double percent) const {
  const auto wanted = static_cast<std::uint64_t>(
      std::ceil(static_cast<double>(count_) * std::clamp(percent, 0.0, 100.0) / 100.0));
  std::uint64_t seen = 0;
  for (std::size_t bucket = 0; bucket < kBuckets; ++bucket) {
    seen += buckets_[bucket];
    if (seen >= std::max<std::uint64_t>(wanted, 1)) return std::min(lastOf(bucket), max_);
  }
  return max_;
}

double Histogram::mean() const { return count_ == 0 ? 0 : sum_ / static_cast<double>(count_); }

}  // namespace sudoku
