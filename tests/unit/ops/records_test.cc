#include "ops/records.h"

#include <doctest/doctest.h>

#include "unit/ops/memory_registers.h"

using namespace cctl;
using namespace cctl::ops;

TEST_CASE("the wanted state survives a round trip, and a register never written is empty") {
  test::MemoryRegisters registers;
  const ServiceName service("s");
  CHECK(readDesired(registers, service)->version == "");
  REQUIRE(updateDesired(registers, service, [](Desired& desired) {
    desired.version = "1.1.0";
    desired.placement = {{0, "host1"}, {10, "host2"}};
    desired.held[10] = {"alice@ws1", WallTime(Millis(1'700'000'000'000))};
    desired.rolling_to = "1.2.0";
  }));
  const Desired back = readDesired(registers, service).value();
  CHECK(back.version == "1.1.0");
  CHECK(back.placement.at(10) == "host2");
  CHECK(back.held.at(10).by == "alice@ws1");
  CHECK(back.rolling_to == "1.2.0");
  CHECK(placementOf(service, back).size() == 2);
}

TEST_CASE("a wanted state of another format is refused, not guessed at") {
  test::MemoryRegisters registers;
  REQUIRE(registers.write("desired/s", 0, {R"({"format":2})"}));
  CHECK(readDesired(registers, ServiceName("s")).error().code == Code::kCorrupt);
  REQUIRE(registers.write("desired/t", 0, {R"({"format":1,"version":7})"}));
  CHECK(readDesired(registers, ServiceName("t")).error().code == Code::kCorrupt);
  REQUIRE(registers.write("desired/u", 0, {"[1]"}));
  CHECK(readDesired(registers, ServiceName("u")).error().code == Code::kCorrupt);
}

TEST_CASE("endpoints are kept sorted, under a rising revision") {
  test::MemoryRegisters registers;
  const ServiceName service("s");
  const auto add = [&](int index) {
    return updateEndpoints(registers, service, [&](std::vector<Endpoint>& endpoints) {
      endpoints.push_back({{service, index},
                           HostName("h"),
                           "10.0.0.1",
                           {{"main", 21000}},
                           Version("1"),
                           EndpointState::kReady});
    });
  };
  REQUIRE(add(1));
  CHECK(add(0)->revision == 2);
  const ServiceEndpoints back = readEndpoints(registers, service).value();
  REQUIRE(back.endpoints.size() == 2);
  CHECK(back.endpoints[0].instance.index == 0);
  CHECK(readAllEndpoints(registers)->count(service) == 1);
}

TEST_CASE("a version's digest is fixed by its first deploy") {
  test::MemoryRegisters registers;
  const auto fix = [&](const char* digest) {
    return fixReleaseDigest(registers, ServiceName("s"), Version("1"), digest);
  };
  CHECK(fix("aa"));
  CHECK(fix("aa"));
  CHECK(fix("bb").error().code == Code::kRefused);
}

TEST_CASE("a host's mark survives a round trip, and only drained hosts count as drained") {
  test::MemoryRegisters registers;
  CHECK(readDrained(registers)->empty());
  const HostName host("host1"), other("host2");
  REQUIRE(updateHostMark(registers, host, [](HostMark& mark) {
    mark.drained = true;
    mark.by = "alice@ws1";
    mark.at = WallTime(Millis(1'700'000'000'000));
    mark.stopped = {{ServiceName("s"), 3}};
  }));
  REQUIRE(updateHostMark(registers, other, [](HostMark& mark) { mark.drained = false; }));
  const HostMark back = readHostMark(registers, host).value();
  CHECK(back.by == "alice@ws1");
  CHECK(back.stopped == std::vector<InstanceId>{{ServiceName("s"), 3}});
  CHECK(*readDrained(registers) == std::set<HostName>{host});
  REQUIRE(registers.write("host/bad", 0, {R"({"format":1,"drained":"yes"})"}));
  CHECK(readDrained(registers).error().code == Code::kCorrupt);
}
