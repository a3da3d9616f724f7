// The answer of `GET /solve/...`, written by the web server and read by sudoku-load. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sudoku {

struct SolveAnswer {
  std::string solution;  // empty: there is none
  std::string solver;
  std::uint64_t micros = 0;
};

std::string formatSolveAnswer(const SolveAnswer& answer);
// Reads what formatSolveAnswer writes, with any blanks; no general JSON parser.
std::optional<SolveAnswer> parseSolveAnswer(std::string_view json);

}  // namespace sudoku
