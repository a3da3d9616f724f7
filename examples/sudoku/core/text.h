// Small parsers and writers of text that all three programs need. Pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/or_error.h"

namespace sudoku {

std::string_view trim(std::string_view text);
std::vector<std::string> splitList(std::string_view text, char separator);  // trimmed, no empties
bool equalsIgnoringCase(std::string_view a, std::string_view b);

// Decimal digits only, within [least, most].
std::optional<std::uint64_t> parseNumber(std::string_view text, std::uint64_t least,
                                         std::uint64_t most);

// "250ms", "1s", "1.5s", "2m", "1h"; never negative, at most 10,000 hours.
std::optional<std::chrono::microseconds> parseDuration(std::string_view text);

// A JSON string with its quotes. Bytes that are not ASCII pass as they are.
std::string jsonString(std::string_view text);

// A numeric address and a port, "10.0.0.1:80" or "[::1]:80"; "localhost" is 127.0.0.1.
// Host names are not looked up: a static binary has no resolver worth trusting, and
// the naming registry gives addresses.
struct HostPort {
  std::string host;
  std::uint16_t port = 0;

  std::string text() const;
  bool operator==(const HostPort&) const = default;
};
OrError<HostPort> parseHostPort(std::string_view text);

}  // namespace sudoku
