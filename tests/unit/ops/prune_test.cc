#include "ops/prune.h"

#include <doctest/doctest.h>

using namespace cctl;
using namespace cctl::ops;

using Versions = std::set<std::string>;

TEST_CASE(
    "pruning keeps what is wanted, under way or good to go back to, and the newest of the store") {
  Desired desired;
  desired.version = "9";
  desired.rolling_to = "10";
  for (const char* version : {"5", "6", "7", "9"})
    recordGood(desired, {version, std::string("spec of ") + version, WallTime{}});
  const std::vector<std::string> local = {"1", "5", "6", "7", "9", "10", "11", "12"};
  CHECK(versionsToKeep(desired, local, 1) == Versions{"7", "9", "10", "12"});
  CHECK(versionsToKeep(desired, local, 3) == Versions{"6", "7", "9", "10", "11", "12"});
  CHECK(versionsToKeep(desired, local, 0) == Versions{"7", "9", "10"});
  CHECK(versionsToKeep({}, {"1"}, 3) == Versions{"1"});
  CHECK(versionsToKeep({}, {}, 3).empty());
}
