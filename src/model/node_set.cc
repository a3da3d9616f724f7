#include "model/node_set.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include "model/utf8.h"

namespace cctl {
namespace {

constexpr size_t kMaxDigits = 9;

bool isDigit(char c) { return c >= '0' && c <= '9'; }

bool isNumber(std::string_view text) {
  return !text.empty() && text.size() <= kMaxDigits &&
         std::all_of(text.begin(), text.end(), isDigit);
}

int64_t toNumber(std::string_view digits) {
  int64_t number = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), number);
  return number;
}

std::string padded(int64_t number, size_t width) { return fmt::format("{:0{}}", number, width); }

// "08" and "10" are padded to two digits; "8" and "10" are not padded.
size_t widthOf(std::string_view digits) {
  return digits.size() > 1 && digits[0] == '0' ? digits.size() : 0;
}

// One part of the inside of a bracket: "3" or "1-3".
Result<void> expandRange(std::string_view part, std::vector<std::string>& numbers) {
  const size_t dash = part.find('-');
  const std::string_view first = part.substr(0, dash);
  const std::string_view last = dash == std::string_view::npos ? first : part.substr(dash + 1);
  if (!isNumber(first) || !isNumber(last))
    return fail(Code::kBadInput, "\"{}\" is not a number or a range like 1-3", printable(part));
  const int64_t from = toNumber(first), to = toNumber(last);
  if (to < from) return fail(Code::kBadInput, "the range {} runs backwards", part);
  if (static_cast<size_t>(to - from) >= kMaxNodeSet)
    return fail(Code::kBadInput, "the range {} has more than {} names", part, kMaxNodeSet);
  if (widthOf(first) != 0 && last.size() < first.size())
    return fail(Code::kBadInput, "the ends of {} are padded differently", part);
  for (int64_t i = from; i <= to; ++i) numbers.push_back(padded(i, widthOf(first)));
  return {};
}

Result<std::vector<std::string>> expandBracket(std::string_view inside) {
  std::vector<std::string> numbers;
  for (size_t begin = 0; begin <= inside.size();) {
    const size_t end = std::min(inside.find(',', begin), inside.size());
    CCTL_CHECK(expandRange(inside.substr(begin, end - begin), numbers));
    if (numbers.size() > kMaxNodeSet)
      return fail(Code::kBadInput, "more than {} names", kMaxNodeSet);
    begin = end + 1;
  }
  return numbers;
}

// Each of `names` with each of `tails` behind it.
Result<std::vector<std::string>> combine(const std::vector<std::string>& names,
                                         const std::vector<std::string>& tails) {
  if (names.size() * tails.size() > kMaxNodeSet)
    return fail(Code::kBadInput, "more than {} names", kMaxNodeSet);
  std::vector<std::string> all;
  for (const std::string& name : names)
    for (const std::string& tail : tails) all.push_back(name + tail);
  return all;
}

Result<std::vector<std::string>> expandPart(std::string_view part) {
  std::vector<std::string> names{""};
  while (!part.empty()) {
    const size_t open = std::min(part.find('['), part.size());
    const std::string_view text = part.substr(0, open);
    if (text.find(']') != std::string_view::npos) return fail(Code::kBadInput, "']' without '['");
    for (std::string& name : names) name += text;
    if (open == part.size()) break;
    const size_t close = part.find(']', open);
    if (close == std::string_view::npos) return fail(Code::kBadInput, "'[' without ']'");
    CCTL_TRY(const auto numbers, expandBracket(part.substr(open + 1, close - open - 1)));
    CCTL_TRY(names, combine(names, numbers));
    part.remove_prefix(close + 1);
  }
  return names;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// A name cut at its last number: "host", "12", ".lan".
struct Cut {
  std::string_view before, digits, after;
};

Cut cutAtLastNumber(std::string_view name) {
  size_t end = name.size();
  while (end > 0 && !isDigit(name[end - 1])) --end;
  size_t begin = end;
  while (begin > 0 && isDigit(name[begin - 1]) && end - begin < kMaxDigits) --begin;
  return {name.substr(0, begin), name.substr(begin, end - begin), name.substr(end)};
}

// Names alike but for one number, and that number padded to one width.
struct Family {
  std::string_view before, after;
  size_t width = 0;
  std::vector<int64_t> numbers;  // ascending
};

std::string foldNumbers(const Family& family) {
  std::string text;
  const auto& numbers = family.numbers;
  for (size_t i = 0; i < numbers.size();) {
    size_t last = i;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
    if (!text.empty()) text += ',';
    text += padded(numbers[i], family.width);
    if (last > i) text += '-' + padded(numbers[last], family.width);
    i = last + 1;
  }
  return numbers.size() > 1 ? fmt::format("[{}]", text) : text;
}

}  // namespace

std::vector<std::string> splitNodeSet(std::string_view text) {
  std::vector<std::string> parts;
  size_t begin = 0;
  bool inside = false;
  for (size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size() && text[i] == '[') inside = true;
    if (i < text.size() && text[i] == ']') inside = false;
    if (i < text.size() && (text[i] != ',' || inside)) continue;
    parts.emplace_back(trimmed(text.substr(begin, i - begin)));
    begin = i + 1;
  }
  return parts;
}

Result<std::vector<std::string>> expandNodeSet(std::string_view text) {
  std::vector<std::string> all;
  std::set<std::string> seen;
  for (const std::string& part : splitNodeSet(text)) {
    if (part.empty())
      return fail(Code::kBadInput, "\"{}\" has an empty part; write like host[1-3],db1",
                  printable(text));
    auto names = expandPart(part);
    if (!names)
      return fail(Code::kBadInput, "\"{}\" is not a node set: {}; write like host[1-3,5]",
                  printable(text), names.error().message);
    for (std::string& name : *names)
      if (seen.insert(name).second) all.push_back(std::move(name));
    if (all.size() > kMaxNodeSet)
      return fail(Code::kBadInput, "\"{}\" has more than {} names; make it smaller",
                  printable(text), kMaxNodeSet);
  }
  return all;
}

bool naturalLess(std::string_view a, std::string_view b) {
  size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    if (!isDigit(a[i]) || !isDigit(b[j])) {
      if (a[i] != b[j]) return a[i] < b[j];
      ++i, ++j;
      continue;
    }
    const size_t a_begin = i, b_begin = j;
    while (i < a.size() && isDigit(a[i])) ++i;
    while (j < b.size() && isDigit(b[j])) ++j;
    std::string_view x = a.substr(a_begin, i - a_begin), y = b.substr(b_begin, j - b_begin);
    const auto significant = [](std::string_view digits) {
      return digits.substr(std::min(digits.find_first_not_of('0'), digits.size()));
    };
    const std::string_view sx = significant(x), sy = significant(y);
    if (sx.size() != sy.size()) return sx.size() < sy.size();
    if (sx != sy) return sx < sy;
  }
  if (a.size() - i != b.size() - j) return a.size() - i < b.size() - j;
  return a < b;  // equal but for padding
}

std::string foldNodeSet(std::vector<std::string> names) {
  std::sort(names.begin(), names.end(), naturalLess);
  names.erase(std::unique(names.begin(), names.end()), names.end());
  std::vector<Family> families;
  std::map<std::tuple<std::string_view, std::string_view, size_t>, size_t> index;
  for (const std::string& name : names) {
    const Cut cut = cutAtLastNumber(name);
    const size_t width = widthOf(cut.digits);
    // Unpadded numbers that have the padded width belong to the padded family: 08, 09, 10.
    const size_t as_padded = cut.digits.size() > 1 ? cut.digits.size() : 0;
    auto found = index.find({cut.before, cut.after, as_padded});
    if (found == index.end()) found = index.find({cut.before, cut.after, width});
    if (found == index.end() || cut.digits.empty()) {
      found = index.insert_or_assign({cut.before, cut.after, width}, families.size()).first;
      families.push_back({cut.before, cut.after, width, {}});
    }
    if (!cut.digits.empty()) families[found->second].numbers.push_back(toNumber(cut.digits));
  }
  std::string text;
  for (const Family& family : families) {
    if (!text.empty()) text += ',';
    text += family.before;
    text += foldNumbers(family);
    text += family.after;
  }
  return text;
}

}  // namespace cctl
