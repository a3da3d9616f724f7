// Log lines on standard error, one write(2) each, so that lines of threads never mix.
// Safe from any thread.
#pragma once

#include <atomic>
#include <string_view>

#include "core/conf.h"

namespace sudoku {

class Log {
 public:
  void setLevel(LogLevel level) { level_.store(level, std::memory_order_relaxed); }
  void error(std::string_view text) const { write(LogLevel::kError, text); }
  void warn(std::string_view text) const { write(LogLevel::kWarn, text); }
  void info(std::string_view text) const { write(LogLevel::kInfo, text); }
  void debug(std::string_view text) const { write(LogLevel::kDebug, text); }

 private:
  void write(LogLevel level, std::string_view text) const;

  std::atomic<LogLevel> level_{LogLevel::kInfo};
};

}  // namespace sudoku
