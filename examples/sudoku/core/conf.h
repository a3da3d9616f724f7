// Configuration files: `key = value` lines, `#` comments. Every error of a file is
// reported at once, each as `file:line: what is wrong`. Pure but for loadConf*.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/or_error.h"
#include "core/text.h"

namespace sudoku {

enum class LogLevel { kError, kWarn, kInfo, kDebug };

// What both servers share.
struct CommonConf {
  std::uint64_t max_connections = 10'000;
  LogLevel log_level = LogLevel::kInfo;
  std::string motd;                                     // shown in /stats
  std::chrono::microseconds shutdown_grace{1'000'000};  // for idle connections, at SIGTERM
};

struct SolverConf : CommonConf {
  std::uint64_t threads = 0;                  // 0: one for each core
  std::chrono::microseconds idle_timeout{0};  // 0: idle connections stay
};

struct WebConf : CommonConf {
  std::vector<HostPort> solvers;
  std::string solver_service;  // followed by name; then `solvers` hold until its first answer
  std::uint64_t connections_per_solver = 2;
  std::uint64_t max_pending = 10'000;                   // requests waiting for a solver
  std::chrono::microseconds solver_timeout{2'000'000};  // for one attempt
  std::chrono::microseconds eject_for{1'000'000};       // a solver that failed is left alone
  std::chrono::microseconds idle_timeout{60'000'000};   // of a browser's connection
};

OrError<SolverConf> parseSolverConf(std::string_view text, std::string_view file_name);
OrError<WebConf> parseWebConf(std::string_view text, std::string_view file_name);

// Reads a whole file of at most 1 MiB. Blocks.
OrError<std::string> readConfFile(const std::string& path);

}  // namespace sudoku
