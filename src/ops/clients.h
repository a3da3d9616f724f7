// Who is connected to a service now, over all hosts: asked of the hosts where it runs, and of every
// host for the process at the other end.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ops/operation.h"

namespace cctl::ops {

// The process at the far end of connections to one instance.
struct Client {
  std::string peer_address;  // "10.0.0.7", as the instance's host sees it
  // Where the process runs; empty when no host of the inventory has it (or could be asked).
  HostName host;
  int pid = 0;
  std::string command;           // its name
  std::optional<InstanceId> as;  // when it is an instance of a service itself
  std::string instance;          // connected to: "web/0"
  std::string port;              // by its name
  HostName server;               // where that instance runs
};

struct SeenClient {
  Client client;
  int connections = 0;  // the most at one time
  WallTime first{};
  WallTime last{};
};

struct ClientsRequest {
  ServiceName service;
  Millis watch{0};  // looks again and again for so long: a client may connect once an hour
};

struct ClientsOutcome {
  std::vector<SeenClient> clients;  // those of the service itself are left out, and health checks
  HostErrors unknown;               // hosts that could not be asked
  bool interrupted = false;         // the watch was ended by Ctrl-C: what was seen until then
};

// Every two looks are `kLookEvery` apart: what connects for less is not seen for sure. `on_new` is
// told of each client when it is first seen. Fails only when no host at all can be asked.
constexpr Millis kLookEvery{500};
[[nodiscard]] Result<ClientsOutcome> findClients(
    Operation& operation, const ClientsRequest& request,
    const std::function<void(const SeenClient&)>& on_new = {});

// One look at what the hosts answered, joined: pure.
struct HostConnections {
  HostName host;
  std::string address;  // that it is known by
  int shim_pid = 0;
  std::vector<protocol::TcpConnection> to_service;  // to the service's ports, there
  std::vector<protocol::TcpConnection> from_here;   // of any process, to the service's addresses
  bool far_ends_known = false;                      // from_here is what it answered
};
std::vector<Client> joinConnections(const ServiceName& service,
                                    const std::vector<HostConnections>& hosts);

}  // namespace cctl::ops
