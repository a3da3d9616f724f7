#include "ops/operation.h"

#include <poll.h>

#include <nlohmann/json.hpp>

#include "model/node_set.h"
#include "transport/fan_out.h"

namespace cctl::ops {
namespace {

Result<std::map<ServiceName, ServiceEndpoints>> endpointsOf(registry::Registers& registers,
                                                            const std::set<ServiceName>& services) {
  if (services.empty()) return readAllEndpoints(registers);
  std::map<ServiceName, ServiceEndpoints> all;
  for (const ServiceName& service : services) {
    CCTL_TRY(all[service], readEndpoints(registers, service));
  }
  return all;
}

protocol::NamesPushRequest encodeNames(const std::map<ServiceName, ServiceEndpoints>& all) {
  protocol::NamesPushRequest request;
  for (const auto& [service, endpoints] : all) {
    Json list = Json::array();
    for (const Endpoint& endpoint : endpoints.endpoints) list.push_back(toJson(endpoint));
    request.services.push_back({service.str(), endpoints.revision, {dumpJson(list)}});
  }
  return request;
}

protocol::AlertKind encodeAlert(AlertOn on) {
  switch (on) {
    case AlertOn::kCrash:
      return protocol::AlertKind::kCrash;
    case AlertOn::kCrashLoop:
      return protocol::AlertKind::kCrashLoop;
    case AlertOn::kUnhealthy:
      break;
  }
  return protocol::AlertKind::kUnhealthy;
}

protocol::HooksRequest encodeHooks(const std::vector<Alert>& alerts) {
  protocol::HooksRequest request;
  for (const Alert& alert : alerts) {
    protocol::Hook hook{{}, alert.host_exec};
    for (const AlertOn on : alert.on) hook.on.push_back(encodeAlert(on));
    request.hooks.push_back(std::move(hook));
  }
  return request;
}

// The same request to all, side by side.
template <typename Request>
std::vector<Result<protocol::Empty>> callAll(Operation& operation,
                                             const std::vector<HostConnection*>& connections,
                                             const Request& request) {
  ssh::FanOutOptions options;
  options.forks = operation.fleet.forks();
  return ssh::forEachHost<protocol::Empty>(
      connections.size(), options, [&](size_t i) -> Result<protocol::Empty> {
        return connections[i]->shim->call<protocol::Empty>(request, Deadline::in(kRequestTimeout));
      });
}

}  // namespace

std::vector<HostName> allHosts(const Inventory& inventory) { return inventory.host_order; }

std::vector<HostConnection*> connectedOf(Fleet& fleet, const std::vector<HostName>& hosts,
                                         HostErrors& errors) {
  std::vector<HostConnection*> connections;
  const auto results = fleet.awaitAll(hosts);
  for (const HostName& host : hosts) {
    const Result<HostConnection*>& result = results.at(host);
    if (result)
      connections.push_back(*result);
    else
      errors.emplace(host, result.error());
  }
  return connections;
}

Error describeHostErrors(const HostErrors& errors) {
  std::vector<std::string> names;
  std::string reasons;
  Code code = errors.begin()->second.code;
  for (const auto& [host, error] : errors) {
    names.push_back(host.str());
    reasons += "\n  " + error.message;
    if (error.code != code) code = Code::kUnreachable;
  }
  if (code == Code::kTimeout || code == Code::kNotFound) code = Code::kUnreachable;
  return Error{code, fmt::format("cannot use {}:{}", foldNodeSet(names), reasons)};
}

Result<ConcernedHosts> awaitConcerned(Operation& operation, const std::vector<HostName>& hosts,
                                      bool skip_unreachable) {
  ConcernedHosts concerned;
  HostErrors errors;
  concerned.connected = connectedOf(operation.fleet, hosts, errors);
  for (const auto& [host, error] : errors)
    if (error.code == Code::kCancelled) return fail(error);
  if (!errors.empty() && !skip_unreachable) {
    const Error error = describeHostErrors(errors);
    return fail(error.code,
                "nothing was changed: {}\nbring them back, or leave them out with "
                "--skip-unreachable",
                error.message);
  }
  for (const auto& [host, error] : errors) {
    operation.events.warning(host.str(), "left out: " + error.message);
    concerned.skipped.push_back(host);
  }
  return concerned;
}

Result<HostErrors> pushNames(Operation& operation, const std::set<ServiceName>& services,
                             const std::vector<HostName>& hosts) {
  CCTL_TRY(const auto all, endpointsOf(operation.registers, services));
  const protocol::NamesPushRequest request = encodeNames(all);
  HostErrors errors;
  const std::vector<HostConnection*> connections = connectedOf(operation.fleet, hosts, errors);
  const auto replies = callAll(operation, connections, request);
  for (size_t i = 0; i < replies.size(); ++i)
    if (!replies[i]) errors.emplace(connections[i]->name, replies[i].error());
  return errors;
}

void pushHooks(Operation& operation, const std::vector<HostName>& hosts) {
  HostErrors unreachable;  // told by whoever pushed the names
  const std::vector<HostConnection*> connections = connectedOf(operation.fleet, hosts, unreachable);
  const protocol::HooksRequest request = encodeHooks(operation.inventory().alerts);
  const auto replies = callAll(operation, connections, request);
  for (size_t i = 0; i < replies.size(); ++i) {
    // A shim from before there were alerts has none to take away.
    const bool none_to_take =
        !replies[i] && replies[i].error().code == Code::kBadInput && request.hooks.empty();
    if (!replies[i] && !none_to_take)
      operation.events.warning(connections[i]->name.str(),
                               "alerts were not changed: " + replies[i].error().message);
  }
}

Result<void> pauseFor(Millis duration, const CancelToken* cancel) {
  const Deadline end = Deadline::in(duration);
  while (!end.passed()) {
    if (cancel && cancel->cancelled()) return fail(Code::kCancelled, "interrupted");
    pollfd fd{cancel ? cancel->fd() : -1, POLLIN, 0};
    (void)::poll(&fd, 1, end.pollTimeout());
  }
  return {};
}

}  // namespace cctl::ops
