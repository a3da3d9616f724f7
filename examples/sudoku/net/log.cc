#include "net/log.h"

#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <string>

namespace sudoku {
namespace {

constexpr std::array<std::string_view, 4> kLevelNames{"error", "warn", "info", "debug"};

std::string timeStamp() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now);
  const auto millis = std::chrono::duration_cast<std::chrono::milliseconds>(now - seconds);
  const auto time = static_cast<time_t>(seconds.count());
  tm parts{};
  gmtime_r(&time, &parts);
  std::array<char, 32> date{};
  std::strftime(date.data(), date.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  std::array<char, 8> fraction{};
  std::snprintf(fraction.data(), fraction.size(), ".%03dZ", static_cast<int>(millis.count()));
  return std::string(date.data()) + fraction.data();
}

}  // namespace

void Log::write(LogLevel level, std::string_view text) const {
  if (level > level_.load(std::memory_order_relaxed)) return;
  std::string line = timeStamp() + " ";
  line.append(kLevelNames[static_cast<std::size_t>(level)]).append(" ").append(text).append("\n");
  // A log that cannot be written has nowhere to say so.
  [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace sudoku
