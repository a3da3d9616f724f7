// Time, injected so that tests never sleep; RFC 3339 in UTC for people and files.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "base/result.h"

namespace cctl {

using Millis = std::chrono::milliseconds;
using SteadyTime = std::chrono::steady_clock::time_point;  // CLOCK_MONOTONIC
using WallTime = std::chrono::sys_time<std::chrono::milliseconds>;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual SteadyTime steady() const = 0;
  virtual WallTime wall() const = 0;
};

class SystemClock final : public Clock {
 public:
  SteadyTime steady() const override;
  WallTime wall() const override;
};

// A clock that a test moves by hand.
class ManualClock final : public Clock {
 public:
  SteadyTime steady() const override { return SteadyTime(Millis(1'000'000)) + elapsed_; }
  WallTime wall() const override { return WallTime(Millis(1'700'000'000'000)) + elapsed_; }
  void advance(Millis by) { elapsed_ += by; }

 private:
  Millis elapsed_{0};
};

// "2026-11-23T10:00:00.123Z"; without the fraction when it is zero.
std::string formatTime(WallTime time);
// Always with milliseconds, so that all are of one width (24) and sort as text.
std::string formatTimeFixed(WallTime time);
[[nodiscard]] Result<WallTime> parseTime(std::string_view text);

// "500ms", "5s", "10m", "2h", "1d"; a bare number is refused: it has no unit.
[[nodiscard]] Result<Millis> parseDuration(std::string_view text);
// The shortest exact form in the same notation: 1500 ms is "1500ms", 60 s is "1m".
std::string formatDuration(Millis duration);
// For people, rounded: "40 ms", "2.1 s", "3 min", "2 h 5 min", "4 d".
std::string humanDuration(Millis duration);

// "512M", "64K", "1G" or plain bytes, in units of 1024.
[[nodiscard]] Result<uint64_t> parseSize(std::string_view text);
std::string humanSize(uint64_t bytes);

}  // namespace cctl
