#include "model/problem.h"

#include <algorithm>

namespace cctl {
namespace {

// Insertions, deletions, substitutions and swaps of neighbours (optimal string alignment).
size_t editDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

}  // namespace

std::string Location::text() const {
  return line == 0 ? file : fmt::format("{}:{}:{}", file, line, column);
}

std::string Problem::text() const {
  return hint.empty() ? fmt::format("{}: {}", where.text(), message)
                      : fmt::format("{}: {}; {}", where.text(), message, hint);
}

void Problems::add(Location where, std::string message, std::string hint) {
  if (++count_ <= kMaxProblems)
    list_.push_back({std::move(where), std::move(message), std::move(hint)});
}

std::vector<Problem> Problems::sorted() const {
  std::vector<Problem> sorted = list_;
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Problem& a, const Problem& b) { return a.where < b.where; });
  std::vector<Problem> unique;
  size_t same_place = 0;  // where the problems of the present place begin
  for (Problem& problem : sorted) {
    if (!unique.empty() && unique.back().where != problem.where) same_place = unique.size();
    const auto begin = unique.begin() + static_cast<std::ptrdiff_t>(same_place);
    if (std::find(begin, unique.end(), problem) == unique.end())
      unique.push_back(std::move(problem));
  }
  return unique;
}

Error toError(const std::vector<Problem>& problems) {
  std::string text;
  for (const Problem& problem : problems) {
    if (!text.empty()) text += '\n';
    text += problem.text();
  }
  return Error{Code::kBadInput, std::move(text)};
}

std::string nearestSpelling(std::string_view text, const std::vector<std::string>& candidates) {
  constexpr size_t kLongest = 128;  // the cost grows with the square, and nobody slips that far
  const size_t allowed = std::max<size_t>(1, text.size() / 3);
  std::string nearest;
  size_t best = allowed + 1;
  if (text.empty() || text.size() > kLongest) return nearest;
  for (const std::string& candidate : candidates) {
    if (candidate.size() > text.size() + allowed || text.size() > candidate.size() + allowed)
      continue;
    const size_t distance = editDistance(text, candidate);
    if (distance >= best || distance >= std::max(text.size(), candidate.size())) continue;
    best = distance;
    nearest = candidate;
  }
  return nearest;
}

std::string spellingHint(std::string_view text, const std::vector<std::string>& candidates,
                         std::string otherwise) {
  const std::string nearest = nearestSpelling(text, candidates);
  return nearest.empty() ? std::move(otherwise) : fmt::format("did you mean \"{}\"?", nearest);
}

}  // namespace cctl
