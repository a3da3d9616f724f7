#include "base/clock.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cstdio>
#include <ctime>
#include <limits>

namespace cctl {
namespace {

struct Unit {
  std::string_view suffix;
  int64_t factor;
};

constexpr std::array kDurationUnits = {Unit{"d", 86'400'000}, Unit{"h", 3'600'000}, Unit{"ms", 1},
                                       Unit{"m", 60'000}, Unit{"s", 1'000}};
constexpr std::array kSizeUnits = {Unit{"K", 1 << 10}, Unit{"M", 1 << 20}, Unit{"G", 1 << 30},
                                   Unit{"", 1}};

struct Quantity {
  int64_t number;
  std::string_view suffix;
};

bool parseQuantity(std::string_view text, Quantity& quantity) {
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), quantity.number);
  if (error != std::errc() || quantity.number < 0) return false;
  quantity.suffix = text.substr(static_cast<size_t>(end - text.data()));
  return true;
}

// -1 when the text is not a number with one of the units, or too large.
template <size_t N>
int64_t scaled(std::string_view text, const std::array<Unit, N>& units) {
  Quantity quantity{};
  if (!parseQuantity(text, quantity)) return -1;
  for (const Unit& unit : units) {
    if (unit.suffix != quantity.suffix) continue;
    if (quantity.number > std::numeric_limits<int64_t>::max() / unit.factor) return -1;
    return quantity.number * unit.factor;
  }
  return -1;
}

}  // namespace

SteadyTime SystemClock::steady() const { return std::chrono::steady_clock::now(); }

WallTime SystemClock::wall() const {
  return std::chrono::time_point_cast<Millis>(std::chrono::system_clock::now());
}

std::string formatTime(WallTime time) {
  const int64_t millis = time.time_since_epoch().count();
  int64_t fraction = millis % 1000;
  if (fraction < 0) fraction += 1000;
  const time_t seconds = static_cast<time_t>((millis - fraction) / 1000);
  tm parts{};
  ::gmtime_r(&seconds, &parts);
  char text[64];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  return fraction == 0 ? fmt::format("{}Z", text) : fmt::format("{}.{:03}Z", text, fraction);
}

std::string formatTimeFixed(WallTime time) {
  std::string text = formatTime(time);
  if (text.find('.') == std::string::npos) text.insert(text.size() - 1, ".000");
  return text;
}

Result<WallTime> parseTime(std::string_view text) {
  tm parts{};
  const std::string copy(text);
  const char* rest = ::strptime(copy.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
  if (rest == nullptr)
    return fail(Code::kUsage, "\"{}\" is not a time like 2026-11-23T10:00:00Z", text);
  int64_t fraction = 0;
  std::string_view tail(rest);
  if (tail.size() == 5 && tail[0] == '.') {
    const auto [end, error] = std::from_chars(tail.data() + 1, tail.data() + 4, fraction);
    if (error == std::errc() && end == tail.data() + 4) tail.remove_prefix(4);
  }
  if (tail != "Z")
    return fail(Code::kUsage, "\"{}\" is not a time in UTC like 2026-11-23T10:00:00Z", text);
  return WallTime(Millis(static_cast<int64_t>(::timegm(&parts)) * 1000 + fraction));
}

Result<Millis> parseDuration(std::string_view text) {
  const int64_t millis = scaled(text, kDurationUnits);
  if (millis < 0)
    return fail(Code::kBadInput, "\"{}\" is not a duration like 500ms, 5s, 10m or 2h", text);
  return Millis(millis);
}

std::string formatDuration(Millis duration) {
  const int64_t millis = duration.count();
  constexpr std::array kDescending = {Unit{"d", 86'400'000}, Unit{"h", 3'600'000},
                                      Unit{"m", 60'000}, Unit{"s", 1'000}};
  for (const Unit& unit : kDescending)
    if (millis != 0 && millis % unit.factor == 0)
      return fmt::format("{}{}", millis / unit.factor, unit.suffix);
  return fmt::format("{}ms", millis);
}

std::string humanDuration(Millis duration) {
  const int64_t seconds = duration.count() / 1000;
  if (duration < std::chrono::seconds(1)) return fmt::format("{} ms", duration.count());
  if (duration < std::chrono::seconds(10))
    return fmt::format("{:.1f} s", static_cast<double>(duration.count()) / 1000);
  if (seconds < 120) return fmt::format("{} s", seconds);
  if (seconds < 7'200) return fmt::format("{} min", seconds / 60);
  if (seconds < 172'800) return fmt::format("{} h {} min", seconds / 3600, seconds / 60 % 60);
  return fmt::format("{} d", seconds / 86'400);
}

Result<uint64_t> parseSize(std::string_view text) {
  const int64_t bytes = scaled(text, kSizeUnits);
  if (bytes < 0) return fail(Code::kBadInput, "\"{}\" is not a size like 64K, 512M or 2G", text);
  return static_cast<uint64_t>(bytes);
}

std::string humanSize(uint64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes < 1024) return fmt::format("{} B", bytes);
  if (bytes < (1u << 20)) return fmt::format("{:.1f} KiB", value / 1024);
  if (bytes < (1u << 30)) return fmt::format("{:.1f} MiB", value / (1 << 20));
  return fmt::format("{:.1f} GiB", value / (1 << 30));
}

}  // namespace cctl
