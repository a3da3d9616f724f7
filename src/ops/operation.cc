#include "ops/operation.h"

#include <poll.h>

#include <algorithm>
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

// A frame has room for 4 MiB; one service's endpoints are at most a sixteenth of that.
constexpr size_t kNamesAtOnce = 1u << 20;

std::vector<protocol::NamesPushRequest> encodeNames(
    const std::map<ServiceName, ServiceEndpoints>& all) {
  std::vector<protocol::NamesPushRequest> requests(1);
  size_t size = 0;
  for (const auto& [service, endpoints] : all) {
    Json list = Json::array();
    for (const Endpoint& endpoint : endpoints.endpoints) list.push_back(toJson(endpoint));
    JsonText text{dumpJson(list)};
    if (size > 0 && size + text.text.size() > kNamesAtOnce) requests.emplace_back(), size = 0;
    size += text.text.size();
    requests.back().services.push_back({service.str(), endpoints.revision, std::move(text)});
  }
  return requests;
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

protocol::ViewKind encodeKind(ViewKind kind) {
  switch (kind) {
    case ViewKind::kPrometheus:
      return protocol::ViewKind::kPrometheus;
    case ViewKind::kNginx:
      return protocol::ViewKind::kNginx;
    case ViewKind::kHaproxy:
      return protocol::ViewKind::kHaproxy;
    case ViewKind::kPlain:
      break;
  }
  return protocol::ViewKind::kPlain;
}

// Those that this host is to write.
protocol::ViewsRequest encodeViews(const std::vector<View>& views, const HostName& host) {
  protocol::ViewsRequest request;
  for (const View& view : views) {
    if (std::find(view.hosts.begin(), view.hosts.end(), host) == view.hosts.end()) continue;
    protocol::View one{encodeKind(view.kind), view.path,   {},         view.port, view.name,
                       view.servers,          view.labels, view.reload};
    for (const ServiceName& service : view.services) one.services.push_back(service.str());
    request.views.push_back(std::move(one));
  }
  return request;
}

// A request to each, side by side.
template <typename Reply = protocol::Empty, typename RequestOf>
std::vector<Result<Reply>> callEach(Operation& operation,
                                    const std::vector<HostConnection*>& connections,
                                    RequestOf requestOf, const CancelToken* cancel = nullptr) {
  return forEachOf<Reply>(operation.fleet, connections, [&](const HostConnection* host) {
    return host->shim->call<Reply>(requestOf(*host), Deadline::in(kRequestTimeout), cancel);
  });
}

// `empty`: nothing is asked for. A shim from before there was such a thing has none to take away.
void warnOfSetting(Operation& operation, const HostConnection& host, std::string_view what,
                   const Result<protocol::Empty>& reply, bool empty) {
  if (reply || (reply.error().code == Code::kBadInput && empty)) return;
  operation.events.warning(host.name.str(),
                           fmt::format("{} were not changed: {}", what, reply.error().message));
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
                                      size_t may_miss) {
  ConcernedHosts concerned;
  HostErrors errors;
  concerned.connected = connectedOf(operation.fleet, hosts, errors);
  for (const auto& [host, error] : errors)
    if (error.code == Code::kCancelled) return fail(error);
  if (errors.size() > may_miss) {
    const Error error = describeHostErrors(errors);
    return fail(error.code,
                "nothing was changed: {}\nbring them back, or leave them out with "
                "--skip-unreachable",
                error.message);
  }
  for (const auto& [host, error] : errors) {
    if (operation.fleet.isNews(host))
      operation.events.warning(host.str(), "left out: " + error.message);
    concerned.skipped.push_back(host);
  }
  return concerned;
}

Result<HostErrors> pushNames(Operation& operation, const std::set<ServiceName>& services,
                             const std::vector<HostName>& hosts) {
  CCTL_TRY(const auto all, endpointsOf(operation.registers, services));
  const std::vector<protocol::NamesPushRequest> requests = encodeNames(all);
  HostErrors errors;
  const std::vector<HostConnection*> connections = connectedOf(operation.fleet, hosts, errors);
  for (const protocol::NamesPushRequest& request : requests) {
    const auto replies = callEach(
        operation, connections, [&](const HostConnection&) -> const auto& { return request; });
    for (size_t i = 0; i < replies.size(); ++i)
      if (!replies[i]) errors.emplace(connections[i]->name, replies[i].error());
  }
  return errors;
}

void pushHostSettings(Operation& operation, const std::vector<HostName>& hosts) {
  HostErrors unreachable;  // told by whoever pushed the names
  const std::vector<HostConnection*> connections = connectedOf(operation.fleet, hosts, unreachable);
  const Inventory& inventory = operation.inventory();
  const protocol::HooksRequest hooks = encodeHooks(inventory.alerts);
  const auto hooked = callEach(
      operation, connections, [&](const HostConnection&) -> const auto& { return hooks; });
  const auto viewed = callEach(operation, connections, [&](const HostConnection& host) {
    return encodeViews(inventory.views, host.name);
  });
  for (size_t i = 0; i < connections.size(); ++i) {
    const HostConnection& host = *connections[i];
    warnOfSetting(operation, host, "alerts", hooked[i], hooks.hooks.empty());
    warnOfSetting(operation, host, "views", viewed[i],
                  encodeViews(inventory.views, host.name).views.empty());
  }
}

std::map<HostName, std::vector<std::string>> settingsBehind(
    Operation& operation, const std::vector<HostConnection*>& hosts) {
  const Inventory& inventory = operation.inventory();
  const std::vector<protocol::Hook> hooks = encodeHooks(inventory.alerts).hooks;
  const auto replies = callEach<protocol::SettingsReply>(
      operation, hosts, [](const HostConnection&) { return protocol::SettingsRequest{}; },
      operation.cancel);
  std::map<HostName, std::vector<std::string>> behind;
  for (size_t i = 0; i < hosts.size(); ++i) {
    if (!replies[i]) continue;
    const HostName& name = hosts[i]->name;
    if (replies[i]->hooks != hooks) behind[name].emplace_back("alerts");
    if (replies[i]->views != encodeViews(inventory.views, name).views)
      behind[name].emplace_back("views");
  }
  return behind;
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
