#include "model/text_diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace cctl {
namespace {

constexpr size_t kContext = 3;
constexpr size_t kMostCells = 16u << 20;  // of the table of common subsequences

using Lines = std::vector<std::string_view>;

struct Edit {
  char sign = ' ';  // ' ', '-' or '+'
  std::string_view line;
};

Lines linesOf(std::string_view text) {
  Lines lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
    lines.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return lines;
}

void addAll(std::vector<Edit>& edits, char sign, const Lines& lines, size_t from, size_t to) {
  for (size_t i = from; i < to; ++i) edits.push_back({sign, lines[i]});
}

// The part in the middle, by the longest common subsequence.
void compareMiddle(const Lines& old_lines, const Lines& new_lines, std::vector<Edit>& edits) {
  const size_t rows = old_lines.size(), columns = new_lines.size();
  if (rows * columns > kMostCells) {
    addAll(edits, '-', old_lines, 0, rows);
    addAll(edits, '+', new_lines, 0, columns);
    return;
  }
  std::vector<uint32_t> common((rows + 1) * (columns + 1), 0);
  const auto cell = [&](size_t i, size_t j) -> uint32_t& { return common[i * (columns + 1) + j]; };
  for (size_t i = rows; i-- > 0;)
    for (size_t j = columns; j-- > 0;)
      cell(i, j) = old_lines[i] == new_lines[j] ? cell(i + 1, j + 1) + 1
                                                : std::max(cell(i + 1, j), cell(i, j + 1));
  size_t i = 0, j = 0;
  while (i < rows && j < columns) {
    if (old_lines[i] == new_lines[j]) {
      edits.push_back({' ', old_lines[i]});
      ++i, ++j;
    } else if (cell(i + 1, j) >= cell(i, j + 1)) {
      edits.push_back({'-', old_lines[i++]});
    } else {
      edits.push_back({'+', new_lines[j++]});
    }
  }
  addAll(edits, '-', old_lines, i, rows);
  addAll(edits, '+', new_lines, j, columns);
}

std::vector<Edit> compare(const Lines& old_lines, const Lines& new_lines) {
  const size_t least = std::min(old_lines.size(), new_lines.size());
  size_t head = 0, tail = 0;
  while (head < least && old_lines[head] == new_lines[head]) ++head;
  while (tail < least - head &&
         old_lines[old_lines.size() - 1 - tail] == new_lines[new_lines.size() - 1 - tail])
    ++tail;
  const auto middle = [&](const Lines& lines) {
    return Lines(lines.begin() + static_cast<std::ptrdiff_t>(head),
                 lines.end() - static_cast<std::ptrdiff_t>(tail));
  };
  std::vector<Edit> edits;
  addAll(edits, ' ', old_lines, 0, head);
  compareMiddle(middle(old_lines), middle(new_lines), edits);
  addAll(edits, ' ', old_lines, old_lines.size() - tail, old_lines.size());
  return edits;
}

// "12,3", or the line before when there are none (diff(1)).
std::string rangeText(size_t first, size_t count) {
  if (count == 1) return std::to_string(first);
  return fmt::format("{},{}", count == 0 ? first - 1 : first, count);
}

// Writes edits [from, to) as one hunk; the numbers are of its first lines.
std::string hunkText(const std::vector<Edit>& edits, size_t from, size_t to, size_t old_first,
                     size_t new_first) {
  size_t old_count = 0, new_count = 0;
  std::string text;
  for (size_t i = from; i < to; ++i) {
    old_count += edits[i].sign != '+' ? 1 : 0;
    new_count += edits[i].sign != '-' ? 1 : 0;
    text += edits[i].sign;
    text += edits[i].line;
    if (edits[i].line.back() != '\n') text += "\n\\ No newline at end of file\n";
  }
  return fmt::format("@@ -{} +{} @@\n", rangeText(old_first, old_count),
                     rangeText(new_first, new_count)) +
         text;
}

// Where the hunk that begins with the change at `at` ends: behind the last change that is near.
size_t hunkEnd(const std::vector<Edit>& edits, size_t at) {
  size_t last = at;
  for (size_t i = at; i < edits.size() && i <= last + 2 * kContext + 1; ++i)
    if (edits[i].sign != ' ') last = i;
  return std::min(edits.size(), last + kContext + 1);
}

}  // namespace

std::string unifiedDiff(std::string_view old_name, std::string_view new_name,
                        std::string_view old_text, std::string_view new_text) {
  if (old_text == new_text) return {};
  const std::vector<Edit> edits = compare(linesOf(old_text), linesOf(new_text));
  std::string text = fmt::format("--- {}\n+++ {}\n", old_name, new_name);
  size_t old_line = 1, new_line = 1, done = 0;
  for (size_t at = 0; at < edits.size();) {
    if (edits[at].sign == ' ') {
      ++at;
      continue;
    }
    const size_t from = std::max(done, at - std::min(at, kContext)), to = hunkEnd(edits, at);
    for (; done < from; ++done) ++old_line, ++new_line;  // all of them unchanged
    text += hunkText(edits, from, to, old_line, new_line);
    for (; done < to; ++done) {
      old_line += edits[done].sign != '+' ? 1 : 0;
      new_line += edits[done].sign != '-' ? 1 : 0;
    }
    at = to;
  }
  return text;
}

}  // namespace cctl
