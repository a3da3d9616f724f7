#include "model/secrets.h"

#include <algorithm>
#include <set>

namespace cctl {
namespace {

constexpr std::string_view kSecret = "(secret)", kOld = "(old secret)", kNew = "(new secret)";
constexpr std::string_view kUnknown =
    "(not shown: generated before its secrets were named as such)";

struct Mask {
  std::string_view value, shown;
};

// The longest first: one secret may hold another.
void sortMasks(std::vector<Mask>& masks) {
  std::sort(masks.begin(), masks.end(), [](const Mask& a, const Mask& b) {
    return a.value.size() != b.value.size() ? a.value.size() > b.value.size() : a.value < b.value;
  });
}

std::string masked(std::string_view text, const std::vector<Mask>& masks) {
  std::string shown;
  while (!text.empty()) {
    const auto mask = std::find_if(masks.begin(), masks.end(), [&](const Mask& one) {
      return text.substr(0, one.value.size()) == one.value;
    });
    if (mask == masks.end()) {
      shown += text.front();
      text.remove_prefix(1);
    } else {
      shown += mask->shown;
      text.remove_prefix(mask->value.size());
    }
  }
  return shown;
}

std::vector<std::string_view> linesOf(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
    lines.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return lines;
}

// Only what stands in `known` as well.
std::string onlyLinesOf(std::string_view text, std::string_view known) {
  const std::vector<std::string_view> list = linesOf(known);
  const std::set<std::string_view> lines(list.begin(), list.end());
  std::string shown;
  for (const std::string_view line : linesOf(text)) {
    if (lines.count(line) != 0)
      shown += line;
    else
      shown += std::string(kUnknown) + "\n";
  }
  return shown;
}

bool contains(const std::vector<std::string>& values, const std::string& value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

}  // namespace

void addSecretValues(const Node& value, std::vector<std::string>& values) {
  for (const Node& item : value.items()) addSecretValues(item, values);
  for (const Node::Member& member : value.members()) addSecretValues(member.value, values);
  if (!value.isScalar()) return;
  std::string text = value.text();
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  if (!text.empty()) values.push_back(std::move(text));
}

std::string hideSecrets(std::string_view text, const std::vector<std::string>& values) {
  std::vector<Mask> masks;
  for (const std::string& value : values)
    if (!value.empty()) masks.push_back({value, kSecret});
  sortMasks(masks);
  return masked(text, masks);
}

HiddenTexts hideSecrets(std::string_view before, const std::vector<std::string>& before_values,
                        std::string_view after, const std::vector<std::string>& after_values) {
  std::vector<Mask> masks;
  for (const std::string& value : before_values)
    if (!value.empty()) masks.push_back({value, contains(after_values, value) ? kSecret : kOld});
  for (const std::string& value : after_values)
    if (!value.empty() && !contains(before_values, value)) masks.push_back({value, kNew});
  sortMasks(masks);
  // What was generated before anything was named a secret does not know its own.
  const bool unknown = before_values.empty() && !after_values.empty();
  return {masked(unknown ? onlyLinesOf(before, after) : before, masks), masked(after, masks)};
}

}  // namespace cctl
