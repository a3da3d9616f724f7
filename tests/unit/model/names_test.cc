#include "model/names.h"

#include <doctest/doctest.h>

#include "model/signals.h"

using namespace cctl;

TEST_CASE("service names are those of the interface and nothing else") {
  for (const char* good : {"a", "0", "sudoku-solver", "a_b-9"}) CHECK(parseServiceName(good));
  for (const char* bad : {"", "-a", "_a", "A", "a.b", "a/b", "a b", "../x", "a\n", "ä"})
    CHECK_FALSE(parseServiceName(bad));
  CHECK(parseServiceName(std::string(63, 'a')));
  CHECK_FALSE(parseServiceName(std::string(64, 'a')));
  CHECK_FALSE(parseServiceName(std::string_view("a\0b", 3)));
}

TEST_CASE("a version is a directory name that hides nothing") {
  for (const char* good : {"1.10", "1.0.0-rc.1+b5", "2024_01", "v1"}) CHECK(parseVersion(good));
  for (const char* bad : {"", ".1", "-1", "..", "1/2", "1 2", "instances", "specs", ".incoming-x"})
    CHECK_FALSE(parseVersion(bad));
  CHECK_FALSE(parseVersion(std::string(65, '1')));
}

TEST_CASE("host names") {
  for (const char* good : {"host1", "10.0.0.1", "a.b-c_d"}) CHECK(parseHostName(good));
  for (const char* bad : {"", "-oProxyCommand=x", "a.", "a b", "a/b", "host[1]", "a:1", "!a"})
    CHECK_FALSE(parseHostName(bad));
}

TEST_CASE("targets") {
  CHECK(parseTarget("s")->text() == "s");
  CHECK(parseTarget("s/12")->index == 12);
  for (const char* bad : {"s/", "s/x", "s/-1", "s/01", "s/1/2", "/1", "", "s/1234567", "s/+1"})
    CHECK_FALSE(parseTarget(bad));
  const InstanceId three{ServiceName("s"), 3};
  CHECK(three.text() == "s/3");
  CHECK(parseTarget("s")->covers(three));
  CHECK(parseTarget("s/3")->covers(three));
  CHECK_FALSE(parseTarget("s/2")->covers(three));
  CHECK_FALSE(parseTarget("t")->covers(three));
  CHECK(*parseInstanceId("s/3") == three);
  CHECK_FALSE(parseInstanceId("s"));
}

TEST_CASE("names order, hash and print") {
  CHECK(HostName("a") < HostName("b"));
  CHECK(std::hash<HostName>{}(HostName("a")) == std::hash<HostName>{}(HostName("a")));
  CHECK(fmt::format("{} {:>4}", ServiceName("s"), InstanceId{ServiceName("s"), 1}) == "s  s/1");
  CHECK(InstanceId{ServiceName("a"), 2} < InstanceId{ServiceName("a"), 10});
}

TEST_CASE("signals by name and number") {
  CHECK(signalFromName("TERM") == 15);
  CHECK(signalFromName("SIGUSR1") == 10);
  CHECK(signalFromName("9") == 9);
  for (const char* bad : {"", "TERMX", "term", "0", "65", "-9", "SIG", "9x"})
    CHECK_FALSE(signalFromName(bad));
  CHECK(signalName(15) == "TERM");
  CHECK(signalName(40) == "40");
}
