#include "model/text_diff.h"

#include <doctest/doctest.h>

using namespace cctl;

TEST_CASE("a diff shows what changed with three lines around it, as diff -u does") {
  CHECK(unifiedDiff("a", "b", "x\n", "x\n").empty());
  CHECK(unifiedDiff("a", "b", "1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nfive\n6\n7\n8\n9\n") ==
        "--- a\n+++ b\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n");
  CHECK(unifiedDiff("a", "b", "", "x\ny\n") == "--- a\n+++ b\n@@ -0,0 +1,2 @@\n+x\n+y\n");
  CHECK(unifiedDiff("a", "b", "x\n", "") == "--- a\n+++ b\n@@ -1 +0,0 @@\n-x\n");
}

TEST_CASE("changes that are far apart are two hunks; a missing last newline is told") {
  CHECK(unifiedDiff("a", "b", "A\n1\n2\n3\n4\n5\n6\n7\n8\nB", "a\n1\n2\n3\n4\n5\n6\n7\n8\nb\n") ==
        "--- a\n+++ b\n@@ -1,4 +1,4 @@\n-A\n+a\n 1\n 2\n 3\n@@ -7,4 +7,4 @@\n 6\n 7\n 8\n-B\n"
        "\\ No newline at end of file\n+b\n");
  CHECK(unifiedDiff("a", "b", "A\n1\n2\n3\n4\n5\n6\nB\n", "a\n1\n2\n3\n4\n5\n6\nb\n") ==
        "--- a\n+++ b\n@@ -1,8 +1,8 @@\n-A\n+a\n 1\n 2\n 3\n 4\n 5\n 6\n-B\n+b\n");
}
