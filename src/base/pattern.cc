#include "base/pattern.h"

#include <cstddef>

namespace cctl {

bool matchesPattern(std::string_view text, std::string_view pattern) {
  size_t t = 0, p = 0;
  size_t star = std::string_view::npos, resume = 0;  // the last '*', and where its text may end
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p, ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

ListMatch matchesPatternList(std::string_view text, std::string_view list) {
  ListMatch match = ListMatch::kNone;
  while (!list.empty()) {
    const size_t comma = list.find(',');
    std::string_view pattern = list.substr(0, comma);
    list.remove_prefix(comma == std::string_view::npos ? list.size() : comma + 1);
    const bool excludes = !pattern.empty() && pattern[0] == '!';
    if (excludes) pattern.remove_prefix(1);
    if (!matchesPattern(text, pattern)) continue;
    if (excludes) return ListMatch::kExcluded;
    match = ListMatch::kMatched;
  }
  return match;
}

}  // namespace cctl
