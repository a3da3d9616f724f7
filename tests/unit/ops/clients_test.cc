#include "ops/clients.h"

#include <doctest/doctest.h>

using namespace cctl;
using namespace cctl::ops;

namespace {

const ServiceName kStore("store");

protocol::TcpConnection toStore(std::string local, std::string peer) {
  protocol::TcpConnection connection;
  connection.service = "store";
  connection.port = "main";
  connection.local = std::move(local);
  connection.peer = std::move(peer);
  connection.state = "established";
  connection.pid = 100;
  return connection;
}

protocol::TcpConnection fromProcess(std::string local, std::string peer, int pid,
                                    std::string command, std::string service = "") {
  protocol::TcpConnection connection;
  connection.service = std::move(service);
  connection.local = std::move(local);
  connection.peer = std::move(peer);
  connection.pid = pid;
  connection.command = std::move(command);
  return connection;
}

HostConnections hostWith(const char* name, const char* address) {
  HostConnections host;
  host.host = HostName(name);
  host.address = address;
  host.shim_pid = 50;
  host.far_ends_known = true;
  return host;
}

}  // namespace

TEST_CASE("a connection's far end is found on whichever host has it") {
  HostConnections one = hostWith("host1", "10.0.0.1"), two = hostWith("host2", "10.0.0.2");
  one.to_service = {toStore("10.0.0.1:2000", "10.0.0.2:4000"),
                    toStore("[fd00::1]:2000", "[fd00::2]:4001")};
  two.from_here = {fromProcess("10.0.0.2:4000", "10.0.0.1:2000", 7, "web", "web"),
                   fromProcess("[fd00::2]:4001", "[fd00::1]:2000", 8, "curl")};
  const auto clients = joinConnections(kStore, {one, two});
  REQUIRE(clients.size() == 2);
  CHECK(clients[0].host.str() == "host2");
  CHECK(clients[0].pid == 7);
  REQUIRE(clients[0].as);
  CHECK(clients[0].as->text() == "web/0");
  CHECK(clients[0].instance == "store/0");
  CHECK(clients[0].port == "main");
  CHECK(clients[0].server.str() == "host1");
  CHECK(clients[1].peer_address == "fd00::2");
  CHECK(clients[1].pid == 8);
  CHECK_FALSE(clients[1].as);
}

TEST_CASE("loopback is of one host: equal addresses elsewhere are not taken for the far end") {
  HostConnections one = hostWith("host1", "10.0.0.1"), two = hostWith("host2", "10.0.0.2");
  one.to_service = {toStore("127.0.0.1:2000", "127.0.0.1:4000")};
  two.from_here = {fromProcess("127.0.0.1:4000", "127.0.0.1:2000", 9, "other")};
  CHECK(joinConnections(kStore, {one, two}).empty());  // ended meanwhile on host1
  one.from_here = {fromProcess("127.0.0.1:4000", "127.0.0.1:2000", 7, "curl")};
  const auto clients = joinConnections(kStore, {one, two});
  REQUIRE(clients.size() == 1);
  CHECK(clients[0].host.str() == "host1");
  CHECK(clients[0].pid == 7);
}

TEST_CASE("health checks and the service itself are no clients; strangers are") {
  HostConnections one = hostWith("host1", "10.0.0.1");
  one.to_service = {toStore("127.0.0.1:2000", "127.0.0.1:4000"),
                    toStore("10.0.0.1:2000", "10.0.0.1:4001"),
                    toStore("10.0.0.1:2000", "203.0.113.9:4002")};
  one.from_here = {fromProcess("127.0.0.1:4000", "127.0.0.1:2000", 50, "clusterctl-shim"),
                   fromProcess("10.0.0.1:4001", "10.0.0.1:2000", 101, "store", "store")};
  const auto clients = joinConnections(kStore, {one});
  REQUIRE(clients.size() == 1);
  CHECK(clients[0].peer_address == "203.0.113.9");
  CHECK(clients[0].host.empty());
  CHECK(clients[0].pid == 0);
}

TEST_CASE("what a host did not answer is not taken for an end") {
  HostConnections one = hostWith("host1", "10.0.0.1"), two = hostWith("host2", "10.0.0.2");
  one.to_service = {toStore("10.0.0.1:2000", "10.0.0.2:4000")};
  CHECK(joinConnections(kStore, {one, two}).empty());
  two.far_ends_known = false;
  CHECK(joinConnections(kStore, {one, two}).size() == 1);
  CHECK(joinConnections(kStore, {one}).size() == 1);
}
