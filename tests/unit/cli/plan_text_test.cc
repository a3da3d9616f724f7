#include "cli/plan_text.h"

#include <doctest/doctest.h>

using namespace cctl;
using namespace cctl::cli;

namespace {

PlannedChange replacing(int index, const std::string& before, const std::string& after) {
  PlannedChange change;
  change.kind = ChangeKind::kReplace;
  change.id = {ServiceName("web"), index};
  change.files = {{"app.conf", before, after}};
  return change;
}

}  // namespace

TEST_CASE("a difference is shown once for all instances that have it") {
  const std::string text =
      diffText({replacing(0, "name = web/0\nthreads = 4\n", "name = web/0\nthreads = 8\n"),
                replacing(1, "name = web/1\nthreads = 4\n", "name = web/1\nthreads = 8\n"),
                replacing(2, "name = web/2\nthreads = 4\n", "name = web/2\nthreads = 16\n")},
               Painter(false));
  CHECK(text ==
        "web/[0-1]: app.conf\n"
        "--- app.conf (runs now)\n+++ app.conf (planned)\n@@ -1,2 +1,2 @@\n"
        " name = web/0\n-threads = 4\n+threads = 8\n"
        "web/2: app.conf\n"
        "--- app.conf (runs now)\n+++ app.conf (planned)\n@@ -1,2 +1,2 @@\n"
        " name = web/2\n-threads = 4\n+threads = 16\n");
}

TEST_CASE("control characters of a file do not reach the terminal") {
  const std::string text = diffText({replacing(0, "", "a\x1b[2Jb\n")}, Painter(false));
  CHECK(text.find("+a\\x1b[2Jb\n") != std::string::npos);
}
