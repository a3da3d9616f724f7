// UTF-8 (RFC 3629) and what may not stand in a text file.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace cctl {

struct BadByte {
  int line = 1;
  int column = 1;  // in characters
  unsigned byte = 0;
  bool control = false;  // a control character; else not UTF-8

  friend bool operator==(const BadByte&, const BadByte&) = default;
};

// The first byte that is not part of valid UTF-8, or is a control character other than tab, line
// feed and carriage return.
std::optional<BadByte> findBadByte(std::string_view text);

// Control characters other than tab, line feed and carriage return.
bool hasControlCharacter(std::string_view text);

// The text fit for a message on one line: control characters and what is not UTF-8 as "?", at most
// `longest` bytes.
std::string printable(std::string_view text, size_t longest = 200);

}  // namespace cctl
