#include "ops/render.h"

#include <doctest/doctest.h>

#include "unit/model/inventory_fixture.h"

using namespace cctl;

namespace {

protocol::GenerationSpec rendered(const std::string& lines, std::map<std::string, int> ports) {
  const Inventory inventory = fixture::mustLoad(
      fixture::kCluster, "service: s\nplace: {hosts: [host1]}\nrun: [bin/s]\n" + lines);
  ops::HostConnection host;
  host.name = HostName("host1");
  host.root = "/r";
  const ops::EndpointsByService endpoints;
  ops::GenerationRequestInput input;
  input.inventory = &inventory;
  input.manifest = &inventory.services.at(ServiceName("s"));
  input.id = {ServiceName("s"), 0};
  input.version = Version("1");
  input.generation = 4;
  input.ports = std::move(ports);
  input.endpoints = &endpoints;
  const auto spec = ops::renderGeneration(host, input);
  REQUIRE_MESSAGE(spec, spec.error().message);
  return *spec;
}

}  // namespace

TEST_CASE("liveness, sockets and limits reach the shim as the manifest says") {
  const auto spec = rendered(
      "ports: {main: {socket: true}, admin: auto, old: {socket: true, port: 80}}\n"
      "limits: {memory: 512M, cpu: 0.5}\n"
      "health: {ready: {notify: true}, live: {exec: [bin/c, '{{port.main}}'], interval: 2s, "
      "timeout: 1s, failures: 5}}\n",
      {{"main", 21000}, {"admin", 21001}, {"old", 80}});
  CHECK(spec.sockets == std::vector<std::string>{"main", "old"});
  CHECK(spec.limit_memory == uint64_t{512} << 20);
  CHECK(spec.limit_cpu == 500);
  CHECK(spec.ready.kind == protocol::ProbeKind::kNotify);
  REQUIRE(spec.live);
  CHECK(spec.live->probe.kind == protocol::ProbeKind::kExec);
  CHECK(spec.live->probe.argv == std::vector<std::string>{"bin/c", "21000"});
  CHECK(spec.live->interval == Millis(2000));
  CHECK(spec.live->timeout == Millis(1000));
  CHECK(spec.live->failures == 5);
}

TEST_CASE("what a manifest leaves out stays out of the generation") {
  const auto spec = rendered("ports: {main: auto}\n", {{"main", 21000}});
  CHECK(spec.sockets.empty());
  CHECK_FALSE(spec.live);
  CHECK_FALSE(spec.limit_memory);
  CHECK_FALSE(spec.limit_cpu);
}
