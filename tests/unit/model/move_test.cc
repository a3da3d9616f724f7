#include "model/move.h"

#include <doctest/doctest.h>

using namespace cctl;

namespace {

InstanceId id(int index) { return {ServiceName("s"), index}; }
Placed at(int index, const char* host) { return {id(index), HostName(host)}; }

struct World {
  Inventory inventory;
  Manifest manifest;
  MoveInput input;

  explicit World(std::optional<int> count) {
    for (const char* name : {"a", "b", "c"}) {
      inventory.hosts[HostName(name)].name = HostName(name);
      inventory.host_order.emplace_back(name);
    }
    manifest.service = ServiceName("s");
    manifest.where.file = "services/s.yaml";
    manifest.place.group = "all";
    manifest.place.count = count;
    inventory.services[manifest.service] = manifest;
    input.inventory = &inventory;
    input.manifest = &inventory.services.at(manifest.service);
    input.placement = {at(0, "a"), at(1, "b")};
  }
};

std::string refusal(const Result<HostName>& result) {
  REQUIRE_FALSE(result);
  CHECK(result.error().code == Code::kRefused);
  return result.error().message;
}

bool has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("an instance goes to the host with the fewest, never back to its own or a closed one") {
  World world(2);
  CHECK(findNewHost(world.input, at(0, "a")) == HostName("c"));
  world.input.closed = {HostName("c")};
  CHECK(findNewHost(world.input, at(0, "a")) == HostName("b"));
  world.input.closed = {HostName("b"), HostName("c")};
  CHECK(has(refusal(findNewHost(world.input, at(0, "a"))), "undrain"));
}

TEST_CASE("where each host has its own, nothing can leave, and what to do is said") {
  World world(std::nullopt);
  world.input.placement.push_back(at(2, "c"));
  const std::string text = refusal(findNewHost(world.input, at(0, "a")));
  CHECK(has(text, "services/s.yaml"));
  CHECK(has(text, "clusterctl apply s"));
  CHECK(checkNewHost(world.input, at(0, "a"), HostName("b")).error().code == Code::kRefused);
}

TEST_CASE("an instance past the count is not moved but removed") {
  World world(1);
  CHECK(has(refusal(findNewHost(world.input, at(1, "b"))), "clusterctl apply s"));
}

TEST_CASE("a fixed port that is taken keeps an instance away") {
  World world(2);
  Port port;
  port.name = "main";
  port.fixed = 80;
  world.inventory.services.at(ServiceName("s")).ports = {port};
  Manifest other;
  other.service = ServiceName("t");
  other.ports = {port};
  world.inventory.services[other.service] = other;
  world.input.others = {{{other.service, 0}, HostName("c")}};
  CHECK(has(refusal(findNewHost(world.input, at(0, "a"))), "port 80"));
  CHECK(checkNewHost(world.input, at(0, "a"), HostName("c")).error().code == Code::kRefused);
}

TEST_CASE("a chosen host must be one of the place, and open") {
  World world(2);
  CHECK(checkNewHost(world.input, at(0, "a"), HostName("c")));
  CHECK(checkNewHost(world.input, at(0, "a"), HostName("z")).error().code == Code::kRefused);
  world.input.closed = {HostName("c")};
  CHECK(checkNewHost(world.input, at(0, "a"), HostName("c")).error().message ==
        "c is drained; 'clusterctl undrain c' first");
}

TEST_CASE("a host that was away gets back what spreads a service better, from the fullest first") {
  World world(4);
  const HostName c("c");
  const auto moves = [&](const std::set<int>& but = {}) {
    return movesTowards(world.input, c, but);
  };
  world.input.placement = {at(0, "a"), at(1, "b"), at(2, "a"), at(3, "a")};
  CHECK(moves() == std::vector<Move>{{id(3), HostName("a"), c}});
  CHECK(moves({3}) == std::vector<Move>{{id(2), HostName("a"), c}});
  // As even as it can be: nothing moves for the sake of it.
  world.input.placement = {at(0, "a"), at(1, "b")};
  world.inventory.services.at(ServiceName("s")).place.count = 2;
  CHECK(moves().empty());
  world.input.closed = {c};
  world.input.placement = {at(0, "a"), at(1, "a")};
  CHECK(moves().empty());
}

TEST_CASE("a rack that was away counts before its hosts") {
  World world(2);
  Manifest& manifest = world.inventory.services.at(ServiceName("s"));
  manifest.place.spread = "rack";
  for (const auto& [host, rack] : {std::pair("a", "1"), std::pair("b", "1"), std::pair("c", "2")})
    world.inventory.hosts.at(HostName(host)).labels["rack"] = rack;
  CHECK(movesTowards(world.input, HostName("c"), {}) ==
        std::vector<Move>{{id(1), HostName("b"), HostName("c")}});
}
