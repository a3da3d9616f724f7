// OpenSSH's patterns (ssh_config(5), PATTERNS): '*' is anything, '?' one character.
#pragma once

#include <string_view>

namespace cctl {

// In time linear in text times pattern, whatever they are.
bool matchesPattern(std::string_view text, std::string_view pattern);

enum class ListMatch { kNone, kMatched, kExcluded };

// A list of patterns, commas between; one with a leading '!' that matches excludes, wherever it
// stands.
ListMatch matchesPatternList(std::string_view text, std::string_view list);

}  // namespace cctl
