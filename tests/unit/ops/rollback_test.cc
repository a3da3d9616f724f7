#include "ops/rollback.h"

#include <doctest/doctest.h>

using namespace cctl;
using namespace cctl::ops;

namespace {

const ServiceName kService("s");

Desired after(const std::vector<std::string>& versions) {
  Desired desired;
  for (const std::string& version : versions) {
    desired.version = version;
    desired.spec_digest = "spec of " + version;
    recordGood(desired, {version, desired.spec_digest, WallTime{}});
  }
  return desired;
}

std::string chosen(const Desired& desired, std::optional<Version> version = {}) {
  const auto good = chooseGood(kService, desired, version);
  return good ? good->version : "-";
}

}  // namespace

TEST_CASE("a roll-back goes to the newest good one that is not wanted now; twice comes back") {
  CHECK(chosen(after({})) == "-");
  CHECK(chosen(after({"1"})) == "-");
  Desired desired = after({"1", "2"});
  CHECK(chosen(desired) == "1");
  desired.version = "1", desired.spec_digest = "spec of 1";
  recordGood(desired, {"1", "spec of 1", WallTime{}});
  CHECK(chosen(desired) == "2");
}

TEST_CASE("while a roll-out has not come to its end, a roll-back goes to the last good one") {
  Desired desired = after({"1", "2"});
  desired.rolling_to = "3";
  CHECK(chosen(desired) == "2");
}

TEST_CASE(
    "a roll-back to a version goes to its newest good spec, and to none that never was good") {
  Desired desired = after({"1", "2", "3"});
  CHECK(chosen(desired, Version("1")) == "1");
  recordGood(desired, {"1", "another spec of 1", WallTime{}});
  CHECK(chooseGood(kService, desired, Version("1"))->spec == "another spec of 1");
  const auto never = chooseGood(kService, desired, Version("7"));
  REQUIRE(!never);
  CHECK(never.error().message.find("good: 1, 3, 2)") != std::string::npos);
  CHECK(never.error().message.find("deploy s 7") != std::string::npos);
}

TEST_CASE("the list of good specs has none twice and does not grow for ever") {
  const Desired desired = after({"1", "2", "1", "3", "1"});
  CHECK(desired.good.size() == 3);
  CHECK(desired.last_good == "1");
  std::vector<std::string> many;
  for (int i = 0; i < 50; ++i) many.push_back(std::to_string(i));
  CHECK(after(many).good.size() == kMostGood);
  CHECK(after(many).good.front().version == "49");
}

TEST_CASE("changes of its configuration do not crowd out the version before") {
  Desired desired = after({"0", "1"});
  for (int i = 0; i < 50; ++i)
    recordGood(desired, {"2", "spec " + std::to_string(i) + " of 2", WallTime{}});
  CHECK(desired.good.size() == kMostGood);
  CHECK(desired.good.front().spec == "spec 49 of 2");
  CHECK(desired.good[1].spec == "spec 48 of 2");
  CHECK(chosen(desired, Version("1")) == "1");
  CHECK(chosen(desired, Version("0")) == "0");
}

TEST_CASE(
    "good specs survive a round trip; a record from before there were any names the last one") {
  const Desired desired = after({"1", "2"});
  const Desired back = decodeDesired({1, encodeDesired(desired), Millis(0)}).value();
  CHECK(back.good == desired.good);
  const Desired old =
      decodeDesired({1,
                     {R"({"format":1,"version":"1","spec":"x","last_good":"1","placement":{},)"
                      R"("held":{},"rolling_to":"","rolling_by":""})"},
                     Millis(0)})
          .value();
  REQUIRE(old.good.size() == 1);
  CHECK(old.good[0].spec == "x");
}
