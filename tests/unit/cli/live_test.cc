#include "cli/live.h"

#include <doctest/doctest.h>

using namespace cctl::cli;

TEST_CASE("a view is cut to the screen") {
  CHECK(cutToScreen("one\ntwo\nthree\n", 2, 80) == "one\ntwo");
  CHECK(cutToScreen("one\ntwo\n", 5, 2) == "on\ntw");
  CHECK(cutToScreen("", 5, 80).empty());
}

TEST_CASE("a style takes no columns and ends with its line") {
  CHECK(cutToScreen("\x1b[31mred line\x1b[0m\nplain", 5, 3) == "\x1b[31mred\x1b[0m\npla");
}

TEST_CASE("a character of several bytes is one column and never cut") {
  CHECK(cutToScreen("1.0 → 1.1", 1, 5) == "1.0 →");
}
