#include "base/pattern.h"

#include <doctest/doctest.h>

#include <string>

using namespace cctl;

TEST_CASE("patterns") {
  CHECK(matchesPattern("", ""));
  CHECK(matchesPattern("", "*"));
  CHECK_FALSE(matchesPattern("", "?"));
  CHECK(matchesPattern("alice@example.com", "*@example.com"));
  CHECK(matchesPattern("alice@example.com", "al?ce@*"));
  CHECK(matchesPattern("aXbXc", "*X*"));
  CHECK(matchesPattern("abc", "***c"));
  CHECK_FALSE(matchesPattern("alice@example.com.evil", "*@example.com"));
  CHECK_FALSE(matchesPattern("Alice", "alice"));
  CHECK_FALSE(matchesPattern("abc", "ab"));
  CHECK_FALSE(matchesPattern("ab", "abc"));
}

TEST_CASE("a pattern of many stars takes no long time") {
  const std::string text(20'000, 'a');
  std::string pattern;
  for (int i = 0; i < 2'000; ++i) pattern += "*a";
  CHECK_FALSE(matchesPattern(text, pattern + "b"));
}

TEST_CASE("lists of patterns") {
  CHECK(matchesPatternList("bob", "alice,b*") == ListMatch::kMatched);
  CHECK(matchesPatternList("bob", "alice") == ListMatch::kNone);
  CHECK(matchesPatternList("bob", "") == ListMatch::kNone);
  CHECK(matchesPatternList("bob", "*,!bob") == ListMatch::kExcluded);
  CHECK(matchesPatternList("bob", "!bob,*") == ListMatch::kExcluded);
  CHECK(matchesPatternList("amy", "*,!bob") == ListMatch::kMatched);
  CHECK(matchesPatternList("amy", "!bob") == ListMatch::kNone);
}
