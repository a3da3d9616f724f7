#include "core/solve_json.h"

#include "core/text.h"

namespace sudoku {
namespace {

// The text after `"name":` and blanks.
std::optional<std::string_view> findValue(std::string_view json, std::string_view name) {
  const std::string key = "\"" + std::string(name) + "\"";
  const std::size_t at = json.find(key);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view rest = trim(json.substr(at + key.size()));
  if (rest.empty() || rest.front() != ':') return std::nullopt;
  return trim(rest.substr(1));
}

// A string without escapes; null gives the empty text.
std::optional<std::string> readText(std::optional<std::string_view> value) {
  if (!value) return std::nullopt;
  if (value->substr(0, 4) == "null") return std::string();
  if (value->empty() || value->front() != '"') return std::nullopt;
  const std::size_t end = value->find('"', 1);
  if (end == std::string_view::npos) return std::nullopt;
  return std::string(value->substr(1, end - 1));
}

}  // namespace

std::string formatSolveAnswer(const SolveAnswer& answer) {
  return "{\"solution\":" + (answer.solution.empty() ? "null" : jsonString(answer.solution)) +
         ",\"solver\":" + jsonString(answer.solver) +
         ",\"micros\":" + std::to_string(answer.micros) + "}";
}

std::optional<SolveAnswer> parseSolveAnswer(std::string_view json) {
  const auto solution = readText(findValue(json, "solution"));
  const auto solver = readText(findValue(json, "solver"));
  const auto micros = findValue(json, "micros");
  if (!solution || !solver || !micros) return std::nullopt;
  const std::size_t digits = std::min(micros->find_first_not_of("0123456789"), micros->size());
  const auto number = parseNumber(micros->substr(0, digits), 0, UINT64_MAX);
  if (!number) return std::nullopt;
  return SolveAnswer{*solution, *solver, *number};
}

}  // namespace sudoku
