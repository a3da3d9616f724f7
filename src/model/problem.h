// Mistakes in the user's files, collected so that one run shows them all.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace cctl {

// Line and column count from 1; 0 means "the file as a whole".
struct Location {
  std::string file;  // as the user named the directory, e.g. "inventory/cluster.yaml"
  int line = 0;
  int column = 0;

  std::string text() const;  // "file:line:column", "file" when there is no line
  friend auto operator<=>(const Location&, const Location&) = default;
};

struct Problem {
  Location where;
  std::string message;  // what is wrong
  std::string hint;     // what to do; may be empty

  std::string text() const;  // "file:line:column: what; what to do"
  friend bool operator==(const Problem&, const Problem&) = default;
};

// Gathers; the reader of a file goes on after each. Only the first kMaxProblems are kept.
class Problems {
 public:
  void add(Location where, std::string message, std::string hint = {});
  bool empty() const { return count_ == 0; }
  size_t size() const { return count_; }  // of those dropped too
  // By file, line and column, without doubles.
  std::vector<Problem> sorted() const;

 private:
  std::vector<Problem> list_;
  size_t count_ = 0;
};

inline constexpr size_t kMaxProblems = 1'000;

// One line for each problem; kBadInput. `problems` must not be empty.
Error toError(const std::vector<Problem>& problems);

// The candidate with the smallest edit distance to `text`, when it is near enough to be a slip of
// the fingers (at most a third of the length, at least 1); empty otherwise.
std::string nearestSpelling(std::string_view text, const std::vector<std::string>& candidates);
// "did you mean \"x\"?" or `otherwise`.
std::string spellingHint(std::string_view text, const std::vector<std::string>& candidates,
                         std::string otherwise = {});

}  // namespace cctl
