#include "ops/leftovers.h"

#include <doctest/doctest.h>

using namespace cctl;
using namespace cctl::ops;

namespace {

protocol::InstanceStatus statusOf(int generation, bool current, int pid, int port) {
  protocol::InstanceStatus status;
  status.service = "web";
  status.generation = generation;
  status.current = current;
  status.wanted = pid != 0;
  status.pid = pid;
  status.ports = {{"main", port}};
  return status;
}

const HostName kHost("host1");

Endpoint publishedAt(uint16_t port) {
  return {InstanceId{ServiceName("web"), 0},
          kHost,
          "10.0.0.1",
          {{"main", port}},
          Version("1"),
          EndpointState::kReady};
}

std::vector<int> leftoverGenerations(const std::vector<protocol::InstanceStatus>& instances,
                                     const std::vector<Endpoint>& published,
                                     const std::string& host = "host1") {
  std::vector<int> generations;
  for (const Leftover& leftover : leftoversIn(kHost, instances, published, {{0, host}}))
    generations.push_back(leftover.generation);
  return generations;
}

}  // namespace

TEST_CASE("left over is what runs and is neither current nor published") {
  const auto old = statusOf(1, true, 10, 2000), starting = statusOf(2, false, 11, 2001);
  CHECK(leftoverGenerations({old, starting}, {publishedAt(2000)}) == std::vector<int>{2});
  // It became ready meanwhile: clients still go to the old one, which must not be stopped yet.
  const auto still_published = statusOf(1, false, 10, 2000), ready = statusOf(2, true, 11, 2001);
  CHECK(leftoverGenerations({still_published, ready}, {publishedAt(2000)}).empty());
  CHECK(leftoverGenerations({still_published, ready}, {publishedAt(2001)}) == std::vector<int>{1});
  // Of an instance that belongs to another host all that is not published.
  CHECK(leftoverGenerations({old}, {}, "host2") == std::vector<int>{1});
  CHECK(leftoverGenerations({old}, {publishedAt(2000)}, "host2").empty());
  // What is down needs no stop; what waits to be started again does.
  CHECK(leftoverGenerations({statusOf(3, false, 0, 2002)}, {}).empty());
  auto backoff = statusOf(3, false, 0, 2002);
  backoff.wanted = true;
  CHECK(leftoverGenerations({backoff}, {}) == std::vector<int>{3});
}
