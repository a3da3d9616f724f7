// The tags of a template: its syntax, apart from what the names mean.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "model/problem.h"

namespace cctl {

enum class TagKind { kVariable, kSection, kInverted, kClose, kComment };

struct Tag {
  TagKind kind = TagKind::kVariable;
  std::string name;
  Location where;
  size_t begin = 0;  // offsets of the tag in the text
  size_t end = 0;
  size_t partner = 0;  // index of the closing tag, and the inverse; of others: itself
};

// In the order of the text. What is wrong (unclosed tags, partials, other
// delimiters, names that are none, sections that do not balance or nest deeper than 32) goes to
// `problems`; the tags are then of no use.
std::vector<Tag> scanTags(std::string_view text, const Location& where, Problems& problems);

// "a.b-c.d" → a, b-c, d; "." → nothing.
std::vector<std::string> splitName(std::string_view name);

}  // namespace cctl
