#include "ops/condition.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

#include "ops/probe.h"
#include "ops/records.h"
#include "transport/fan_out.h"
#include "transport/tcp_connect.h"
#include "transport/wait.h"

namespace cctl::ops {
namespace {

// Of one look; the playbook's own patience is in the caller.
constexpr Millis kConnectPatience{3'000};
constexpr Millis kAnswerPatience{10'000};
constexpr Millis kCommandPatience{60'000};
constexpr size_t kStatusLine = 256;

// ---- instances -------------------------------------------------------------------------------

bool isAskedFor(const PlayCondition& condition, const InstanceId& id) {
  return condition.targets.empty() ||
         std::any_of(condition.targets.begin(), condition.targets.end(),
                     [&](const Target& target) { return target.covers(id); });
}

using Statuses = std::map<HostName, HostReport>;

Result<Statuses> probeHosts(Operation& operation, const std::vector<HostName>& hosts) {
  HostErrors errors;
  const auto connections = connectedOf(operation.fleet, hosts, errors);
  auto reports = probeAll(operation, connections, "");
  Statuses statuses;
  for (auto& [host, report] : reports) {
    if (report)
      statuses.emplace(host, std::move(*report));
    else
      errors.emplace(host, report.error());
  }
  if (!errors.empty()) return fail(describeHostErrors(errors));
  return statuses;
}

std::string whatRuns(const PlayCondition& condition, const Statuses& statuses) {
  for (const auto& [host, report] : statuses)
    for (const protocol::InstanceStatus& status : report.instances) {
      const InstanceId id{ServiceName(status.service), status.index};
      if (status.pid != 0 && isAskedFor(condition, id))
        return fmt::format("{} on {} is {}", id, host, protocol::stateName(status.state));
    }
  return {};
}

// One instance that should be in the state; empty when it is.
std::string instanceProblem(const PlayCondition& condition, const InstanceId& id,
                            const HostName& host, const HostReport& report) {
  std::string found = "is not there";
  for (const protocol::InstanceStatus& status : report.instances) {
    if (status.service != id.service.str() || status.index != id.index || !status.current) continue;
    const std::string state = protocol::stateName(status.state);
    const bool version = condition.version.empty() || status.version == condition.version;
    if (state == condition.state && version) return {};
    found = version ? "is " + state : fmt::format("is {} {}", state, status.version);
  }
  return fmt::format("{} on {} {}", id, host, found);
}

// Where the registry says that instances belong. Those that a person stopped are not waited for,
// unless for their being stopped.
Result<std::string> placedProblem(Operation& operation, const PlayCondition& condition,
                                  const Statuses& statuses) {
  for (const auto& [service, manifest] : operation.inventory().services) {
    const bool named = std::any_of(condition.targets.begin(), condition.targets.end(),
                                   [name = service](const Target& t) { return t.service == name; });
    if (!named && !condition.targets.empty()) continue;
    CCTL_TRY(const Desired desired, readDesired(operation.registers, service));
    size_t seen = 0;
    for (const auto& [index, host] : desired.placement) {
      const InstanceId id{service, index};
      const auto report = statuses.find(HostName(host));
      if (report == statuses.end() || !isAskedFor(condition, id)) continue;
      ++seen;
      if (desired.held.count(index) != 0 && condition.state != "stopped") continue;
      std::string problem = instanceProblem(condition, id, report->first, report->second);
      if (!problem.empty()) return problem;
    }
    if (named && seen == 0) return fmt::format("no instance of {} belongs there", service);
  }
  return std::string();
}

Result<std::string> instancesProblem(Operation& operation, const PlayCondition& condition) {
  const std::vector<HostName> hosts =
      condition.hosts.empty() ? allHosts(operation.inventory()) : condition.hosts;
  operation.fleet.begin({operation.inventory().registry_hosts.front()}, Need::kShim);
  operation.fleet.begin(hosts, Need::kShim);
  CCTL_TRY(const Statuses statuses, probeHosts(operation, hosts));
  if (condition.state == "none") return whatRuns(condition, statuses);
  return placedProblem(operation, condition, statuses);
}

// ---- tcp and http ----------------------------------------------------------------------------

struct Address {
  std::string host;
  int port = 0;
};

// "HTTP/1.1 200 OK"
Result<std::string> askHttp(const Fd& socket, const std::string& request,
                            const CancelToken* cancel) {
  const Deadline deadline = Deadline::in(kAnswerPatience);
  if (::send(socket.get(), request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size()))
    return failErrno(errno, "send");
  std::string line;
  while (line.size() < kStatusLine && line.find('\n') == std::string::npos) {
    CCTL_CHECK(ssh::waitFor(socket.get(), POLLIN, deadline, cancel));
    char bytes[kStatusLine];
    const ssize_t got = ::recv(socket.get(), bytes, sizeof bytes, 0);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got < 0) return failErrno(errno, "recv");
    if (got == 0) break;
    line.append(bytes, static_cast<size_t>(got));
  }
  return line.substr(0, line.find_first_of("\r\n"));
}

std::string addressProblem(const PlayCondition& condition, const Address& address,
                           const CancelToken* cancel) {
  const std::string name = fmt::format("{}:{}", address.host, address.port);
  const auto socket = ssh::connectTcp(address.host, address.port, AF_UNSPEC,
                                      Deadline::in(kConnectPatience), cancel);
  if (!socket) return socket.error().message;
  if (condition.kind == PlayCondition::Kind::kTcp) return {};
  const auto line = askHttp(
      *socket,
      fmt::format("GET {} HTTP/1.0\r\nHost: {}\r\nConnection: close\r\n\r\n", condition.path, name),
      cancel);
  if (!line) return fmt::format("{}: {}", name, line.error().message);
  if (line->starts_with("HTTP/1.") && line->size() >= 12 &&
      line->substr(9, 3) == std::to_string(condition.status))
    return {};
  return fmt::format("{}{} answers \"{}\"", name, condition.path, *line);
}

// The address that was named, or those of the service's published endpoints.
Result<std::vector<Address>> addressesOf(Operation& operation, const PlayCondition& condition) {
  if (!condition.service) return std::vector<Address>{{condition.address, condition.port}};
  operation.fleet.begin({operation.inventory().registry_hosts.front()}, Need::kShim);
  CCTL_TRY(const ServiceEndpoints endpoints,
           readEndpoints(operation.registers, *condition.service));
  std::vector<Address> addresses;
  for (const Endpoint& endpoint : endpoints.endpoints) {
    const auto port = endpoint.ports.find(condition.address);
    if (port != endpoint.ports.end()) addresses.push_back({endpoint.address, port->second});
  }
  return addresses;
}

Result<std::string> networkProblem(Operation& operation, const PlayCondition& condition) {
  CCTL_TRY(const std::vector<Address> addresses, addressesOf(operation, condition));
  if (addresses.empty()) return fmt::format("{} has no published endpoint", *condition.service);
  for (const Address& address : addresses) {
    std::string problem = addressProblem(condition, address, operation.cancel);
    if (!problem.empty()) return problem;
  }
  return std::string();
}

// ---- commands --------------------------------------------------------------------------------

Result<std::string> commandProblem(Operation& operation, const PlayCondition& condition) {
  operation.fleet.begin(condition.hosts, Need::kSession);
  HostErrors errors;
  const auto hosts = connectedOf(operation.fleet, condition.hosts, errors);
  if (!errors.empty()) return fail(describeHostErrors(errors));
  ssh::FanOutOptions options;
  options.forks = operation.fleet.forks();
  options.cancel = operation.cancel;
  const auto results = ssh::forEachHost<ssh::ExecResult>(hosts.size(), options, [&](size_t i) {
    ssh::ExecRequest request;
    request.command = condition.command;
    return hosts[i]->link->exec(request, Deadline::in(kCommandPatience), operation.cancel);
  });
  for (size_t i = 0; i < hosts.size(); ++i) {
    if (!results[i]) return fail(results[i].error().context(hosts[i]->name.str()));
    if (results[i]->exit_status != 0)
      return fmt::format("exit status {} on {}", results[i]->exit_status, hosts[i]->name);
  }
  return std::string();
}

}  // namespace

Result<std::string> conditionProblem(Operation& operation, const PlayCondition& condition) {
  switch (condition.kind) {
    case PlayCondition::Kind::kInstances:
      return instancesProblem(operation, condition);
    case PlayCondition::Kind::kTcp:
    case PlayCondition::Kind::kHttp:
      return networkProblem(operation, condition);
    case PlayCondition::Kind::kCommand:
      return commandProblem(operation, condition);
  }
  return std::string();
}

}  // namespace cctl::ops
