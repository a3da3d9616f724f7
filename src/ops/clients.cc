#include "ops/clients.h"

#include <algorithm>

#include "transport/fan_out.h"

namespace cctl::ops {
namespace {

constexpr std::string_view kShimCommand = "clusterctl-shim";

bool isLoopback(std::string_view end) {
  return end.substr(0, 4) == "127." || end.substr(0, 6) == "[::1]:";
}

std::string addressOf(const std::string& end) {
  std::string address = end.substr(0, end.rfind(':'));
  if (address.size() > 2 && address.front() == '[') address = address.substr(1, address.size() - 2);
  return address;
}

Result<std::vector<protocol::TcpConnection>> ask(HostConnection& host,
                                                 const protocol::ConnectionsRequest& request,
                                                 const CancelToken* cancel) {
  std::vector<protocol::TcpConnection> found;
  const auto on_item = [&](const protocol::Frame& frame, ShimClient::Upload&) -> Result<void> {
    CCTL_TRY(auto one, protocol::decodeReply<protocol::TcpConnection>(frame.payload));
    found.push_back(std::move(one));
    return {};
  };
  CCTL_TRY(const auto reply, host.shim->call<protocol::ConnectionsReply>(
                                 request, Deadline::in(kRequestTimeout), cancel, on_item));
  (void)reply;
  return found;
}

// Both ends of one connection, as a key to find the other end by. Loopback is of one host only.
std::string pairKey(const HostName& host, const std::string& client, const std::string& server) {
  return fmt::format("{} {} {}", isLoopback(server) ? host.str() : "", client, server);
}

class Look {
 public:
  Look(Operation& operation, const ServiceName& service, std::vector<HostConnection*> hosts,
       HostErrors& unknown)
      : operation_(operation), service_(service), hosts_(std::move(hosts)), unknown_(unknown) {
    for (const HostConnection* host : hosts_)
      answers_.push_back({host->name, host->published_address, host->hello.pid, {}, {}, false});
  }

  // The servers first: what the far ends are asked for is what they say.
  std::vector<Client> look() {
    protocol::ConnectionsRequest request;
    request.service = service_.str();
    request.most = kMost;
    askAll([&](const HostName&) { return request; }, &HostConnections::to_service);
    std::set<std::string> ends;
    for (const HostConnections& host : answers_)
      for (const auto& connection : host.to_service) ends.insert(connection.local);
    if (!ends.empty()) askFarEnds(ends);
    return joinConnections(service_, answers_);
  }

 private:
  static constexpr int kMost = 10'000;

  void askFarEnds(const std::set<std::string>& ends) {
    std::map<HostName, std::set<std::string>> local;
    for (const HostConnections& host : answers_)
      for (const auto& connection : host.to_service) local[host.host].insert(connection.local);
    askAll(
        [&](const HostName& host) {
          protocol::ConnectionsRequest request;
          request.most = kMost;
          for (const std::string& end : ends)
            if (!isLoopback(end) || local[host].count(end) != 0) request.to.push_back(end);
          return request;
        },
        &HostConnections::from_here);
    for (HostConnections& host : answers_) host.far_ends_known = unknown_.count(host.host) == 0;
  }

  void askAll(const std::function<protocol::ConnectionsRequest(const HostName&)>& request,
              std::vector<protocol::TcpConnection> HostConnections::*answer) {
    // Before the threads: what makes the requests may keep tables of its own.
    std::vector<protocol::ConnectionsRequest> requests;
    for (const HostConnection* host : hosts_) requests.push_back(request(host->name));
    ssh::FanOutOptions options;
    options.forks = operation_.fleet.forks();
    auto replies = ssh::forEachHost<std::vector<protocol::TcpConnection>>(
        hosts_.size(), options,
        [&](size_t i) { return ask(*hosts_[i], requests[i], operation_.cancel); });
    for (size_t i = 0; i < hosts_.size(); ++i) {
      if (replies[i])
        answers_[i].*answer = std::move(*replies[i]);
      else
        unknown_.emplace(hosts_[i]->name, replies[i].error());
    }
  }

  Operation& operation_;
  const ServiceName& service_;
  const std::vector<HostConnection*> hosts_;
  HostErrors& unknown_;
  std::vector<HostConnections> answers_;
};

// What was seen over all looks.
class Register {
 public:
  explicit Register(const std::function<void(const SeenClient&)>& on_new) : on_new_(on_new) {}

  void add(const std::vector<Client>& clients, WallTime now) {
    std::map<std::string, std::pair<const Client*, int>> counted;
    for (const Client& client : clients) {
      auto& [one, count] = counted[keyOf(client)];
      one = &client;
      ++count;
    }
    for (const auto& [key, found] : counted) {
      const auto [at, fresh] = seen_.emplace(key, SeenClient{*found.first, found.second, now, now});
      at->second.connections = std::max(at->second.connections, found.second);
      at->second.last = now;
      if (fresh && on_new_) on_new_(at->second);
    }
  }

  std::vector<SeenClient> all() const {
    std::vector<SeenClient> clients;
    for (const auto& [key, client] : seen_) clients.push_back(client);
    return clients;
  }

 private:
  static std::string keyOf(const Client& client) {
    return fmt::format("{}\n{}\n{}\n{}\n{}\n{:010}", client.instance, client.port,
                       client.host.str(), client.command, client.peer_address, client.pid);
  }

  const std::function<void(const SeenClient&)>& on_new_;
  std::map<std::string, SeenClient> seen_;
};

// Its far end is on a host that was asked, a moment later, and has it no more: a health check, most
// often.
bool endedMeanwhile(const HostConnections& server, const std::string& peer_address,
                    const std::vector<HostConnections>& hosts) {
  if (isLoopback(peer_address + ":") || peer_address == "::1") return server.far_ends_known;
  return std::any_of(hosts.begin(), hosts.end(), [&](const HostConnections& host) {
    return host.far_ends_known && host.address == peer_address;
  });
}

}  // namespace

std::vector<Client> joinConnections(const ServiceName& service,
                                    const std::vector<HostConnections>& hosts) {
  struct FarEnd {
    const HostConnections* host;
    const protocol::TcpConnection* connection;
  };
  std::map<std::string, FarEnd> far_ends;
  for (const HostConnections& host : hosts)
    for (const auto& connection : host.from_here)
      far_ends[pairKey(host.host, connection.local, connection.peer)] = {&host, &connection};
  std::vector<Client> clients;
  for (const HostConnections& host : hosts) {
    for (const auto& connection : host.to_service) {
      Client client;
      client.peer_address = addressOf(connection.peer);
      client.instance = fmt::format("{}/{}", connection.service, connection.index);
      client.port = connection.port;
      client.server = host.host;
      const auto far = far_ends.find(pairKey(host.host, connection.peer, connection.local));
      if (far == far_ends.end()) {
        if (endedMeanwhile(host, client.peer_address, hosts)) continue;
      } else {
        const protocol::TcpConnection& other = *far->second.connection;
        if (other.service == service.str()) continue;
        if (other.pid == far->second.host->shim_pid || other.command == kShimCommand) continue;
        client.host = far->second.host->host;
        client.pid = other.pid;
        client.command = other.command;
        if (!other.service.empty()) client.as = InstanceId{ServiceName(other.service), other.index};
      }
      clients.push_back(std::move(client));
    }
  }
  return clients;
}

Result<ClientsOutcome> findClients(Operation& operation, const ClientsRequest& request,
                                   const std::function<void(const SeenClient&)>& on_new) {
  ClientsOutcome outcome;
  operation.fleet.begin(allHosts(operation.inventory()), Need::kShim);
  const auto hosts = connectedOf(operation.fleet, allHosts(operation.inventory()), outcome.unknown);
  if (hosts.empty()) return fail(describeHostErrors(outcome.unknown));
  Register seen(on_new);
  const Deadline end = Deadline::in(request.watch);
  for (;;) {
    const std::vector<Client> clients =
        Look(operation, request.service, hosts, outcome.unknown).look();
    outcome.interrupted = operation.cancel && operation.cancel->cancelled();
    if (!outcome.interrupted) seen.add(clients, SystemClock().wall());
    if (outcome.interrupted || end.passed()) break;
    (void)pauseFor(std::min(kLookEvery, Millis(end.pollTimeout())), operation.cancel);
  }
  outcome.clients = seen.all();
  return outcome;
}

}  // namespace cctl::ops
