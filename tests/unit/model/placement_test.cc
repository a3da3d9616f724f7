#include "model/placement.h"

#include <doctest/doctest.h>

#include "model/dependency_graph.h"
#include "unit/model/inventory_fixture.h"

using namespace cctl;
using namespace cctl::fixture;

namespace {

const char kRacks[] = R"(cluster: c
hosts:
  h1: {labels: {rack: a}}
  h2: {labels: {rack: a}}
  h3: {labels: {rack: b}}
  h4: {labels: {rack: c}}
groups: {g: 'h[1-4]', two: 'h[1-2]'}
)";

Inventory with(const std::string& place, const std::string& more = {}) {
  return mustLoad(kRacks, "service: s\nrun: [x]\nplace: " + place + "\n" + more);
}

std::string show(const Result<Placement>& placement) {
  if (!placement) return placement.error().message;
  std::string text;
  for (const Placed& one : *placement)
    text += fmt::format("{}{}:{}", text.empty() ? "" : " ", one.instance.index, one.host);
  return text;
}

Placement placement(std::initializer_list<std::pair<int, const char*>> hosts) {
  Placement all;
  for (const auto& [index, host] : hosts)
    all.push_back({{ServiceName("s"), index}, HostName(host)});
  return all;
}

std::string place(const std::string& how, const Placement& previous = {},
                  const std::map<HostName, int>& load = {}) {
  const Inventory inventory = with(how);
  return show(placeInstances(inventory, inventory.services.begin()->second, previous, load));
}

}  // namespace

TEST_CASE("instances spread over hosts, then over labels") {
  CHECK(place("{group: g, count: 3}") == "0:h1 1:h2 2:h3");
  CHECK(place("{group: g, count: 3, spread: rack}") == "0:h1 1:h3 2:h4");
  CHECK(place("{group: g, count: 5, spread: rack}") == "0:h1 1:h3 2:h4 3:h2 4:h3");
  CHECK(place("{group: two, count: 5}") == "0:h1 1:h2 2:h1 3:h2 4:h1");
  CHECK(place("{group: all}") == "0:h1");
}

TEST_CASE("less loaded hosts come first") {
  const std::map<HostName, int> load{{HostName("h1"), 3}, {HostName("h2"), 1}, {HostName("h3"), 1}};
  CHECK(place("{group: g, count: 2}", {}, load) == "0:h4 1:h2");
}

TEST_CASE("listed hosts get one instance each, or per_host, in the order of the list") {
  CHECK(place("{hosts: [h3, h1]}") == "0:h3 1:h1");
  CHECK(place("{hosts: [h3, h1], per_host: 2}") == "0:h3 1:h1 2:h3 3:h1");
  CHECK(place("{hosts: [h3, h1]}", {}, {{HostName("h3"), 9}}) == "0:h3 1:h1");
  CHECK(place("{group: two, per_host: 2}") == "0:h1 1:h2 2:h1 3:h2");
}

TEST_CASE("instances stay where they are while they may") {
  const Placement old = placement({{0, "h4"}, {1, "h2"}, {2, "h2"}});
  CHECK(place("{group: g, count: 3}", old) == "0:h4 1:h2 2:h2");
  CHECK(place("{group: g, count: 4}", old) == "0:h4 1:h2 2:h2 3:h1");
  CHECK(place("{group: g, count: 2}", old) == "0:h4 1:h2");
  CHECK(place("{group: two, count: 3}", old) == "0:h1 1:h2 2:h2");
  CHECK(place("{hosts: [h2, h1]}", old) == "0:h1 1:h2");
  CHECK(place("{hosts: [h1, h2]}", placement({{0, "h2"}, {1, "h1"}})) == "0:h2 1:h1");
}

TEST_CASE("odd previous placements are no danger") {
  CHECK(place("{group: g, count: 2}",
              placement({{0, "gone"}, {0, "h2"}, {0, "h3"}, {-1, "h1"}, {7, "h1"}})) ==
        "0:h2 1:h1");
}

TEST_CASE("placing is deterministic and complete for every small case") {
  for (int count = 1; count <= 9; ++count) {
    const std::string how = fmt::format("{{group: g, count: {}, spread: rack}}", count);
    const std::string first = place(how);
    CHECK(first == place(how));
    CHECK(std::count(first.begin(), first.end(), ':') == count);
  }
}

TEST_CASE("two instances cannot hold one fixed port on one host") {
  const Inventory inventory = with("{group: two, count: 3}", "ports: {main: 8080, other: auto}\n");
  const auto placed = *placeInstances(inventory, inventory.services.begin()->second);
  CHECK(checkFixedPorts(inventory, placed) ==
        std::vector<std::string>{"h1: s/0 and s/2 both want port 8080; make one of them auto, or "
                                 "place them on different hosts"});
  CHECK(checkFixedPorts(inventory, {placed[0], placed[1]}).empty());
}

// ---- dependencies ----

namespace {

ServiceMap graph(std::initializer_list<std::pair<const char*, std::vector<std::string>>> edges) {
  ServiceMap services;
  for (const auto& [name, needs] : edges) {
    Manifest manifest;
    manifest.service = ServiceName(name);
    for (const std::string& need : needs) manifest.depends_on.push_back(ServiceName(need));
    services.emplace(manifest.service, manifest);
  }
  return services;
}

std::string names(const std::vector<ServiceName>& services) {
  std::string text;
  for (const ServiceName& service : services) text += (text.empty() ? "" : " ") + service.str();
  return text;
}

}  // namespace

TEST_CASE("what is depended on starts first") {
  const ServiceMap services =
      graph({{"a", {"c"}}, {"b", {}}, {"c", {"d", "b"}}, {"d", {}}, {"e", {"missing"}}});
  CHECK(names(startOrder(services)) == "b d c a e");
  CHECK(names(directDependants(services, ServiceName("d"))) == "c");
  CHECK(names(allDependants(services, ServiceName("d"))) == "c a");
  CHECK(names(allDependencies(services, ServiceName("a"))) == "b d c");
  CHECK(findCycles(services).empty());
}

TEST_CASE("cycles are found, whatever hangs on them") {
  const ServiceMap services =
      graph({{"a", {"b"}}, {"b", {"c"}}, {"c", {"b"}}, {"d", {"a"}}, {"e", {"e"}}, {"f", {}}});
  const auto cycles = findCycles(services);
  REQUIRE(cycles.size() == 2);
  CHECK(names(cycles[0]) == "b c b");
  CHECK(names(cycles[1]) == "e e");
  CHECK(names(startOrder(services)) == "f a b c d e");
  CHECK(names(allDependencies(services, ServiceName("b"))) == "c");
}

TEST_CASE("long chains need no stack") {
  ServiceMap services;
  for (int i = 0; i < 5000; ++i) {
    Manifest manifest;
    manifest.service = ServiceName(fmt::format("s{}", i));
    manifest.depends_on.push_back(ServiceName(fmt::format("s{}", (i + 1) % 5000)));
    services.emplace(manifest.service, manifest);
  }
  CHECK(findCycles(services).at(0).size() == 5001);
}

TEST_CASE("a drained host keeps what it has and gets nothing new") {
  Inventory inventory;
  for (const char* name : {"a", "b"}) {
    inventory.hosts[HostName(name)].name = HostName(name);
    inventory.host_order.emplace_back(name);
  }
  Manifest manifest;
  manifest.service = ServiceName("s");
  manifest.place.group = "all";
  manifest.place.count = 3;
  const Placement previous = {{{ServiceName("s"), 0}, HostName("a")}};
  const Placement placed =
      placeInstances(inventory, manifest, previous, {}, {HostName("a")}).value();
  CHECK(placed[0].host == HostName("a"));
  CHECK(placed[1].host == HostName("b"));
  CHECK(placed[2].host == HostName("b"));
  const auto none = placeInstances(inventory, manifest, {}, {}, {HostName("a"), HostName("b")});
  CHECK(none.error().code == Code::kBadInput);
  CHECK(none.error().message.find("undrain") != std::string::npos);
}
