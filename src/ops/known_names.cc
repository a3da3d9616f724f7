#include "ops/known_names.h"

#include <nlohmann/json.hpp>

#include "transport/fan_out.h"

namespace cctl::ops {
namespace {

Result<ServiceEndpoints> askHost(HostConnection& host, const ServiceName& service,
                                 const CancelToken* cancel) {
  CCTL_TRY(const auto names, host.shim->call<protocol::NamesReply>(
                                 protocol::NamesRequest{}, Deadline::in(kRequestTimeout), cancel));
  for (const protocol::NamedService& one : names.services) {
    if (one.service != service.str()) continue;
    CCTL_TRY(const Json endpoints, parseJson(one.endpoints.text));
    return parseServiceEndpoints(Json{{"revision", one.revision}, {"endpoints", endpoints}});
  }
  return ServiceEndpoints{};
}

}  // namespace

Result<ServiceEndpoints> knownEndpoints(Operation& operation, const ServiceName& service,
                                        const std::vector<HostName>& hosts) {
  operation.fleet.begin(hosts, Need::kShim);
  HostErrors errors;
  const auto connections = connectedOf(operation.fleet, hosts, errors);
  if (connections.empty()) return fail(describeHostErrors(errors));
  ssh::FanOutOptions options;
  options.forks = operation.fleet.forks();
  const auto answers = ssh::forEachHost<ServiceEndpoints>(
      connections.size(), options,
      [&](size_t i) { return askHost(*connections[i], service, operation.cancel); });
  ServiceEndpoints newest;
  bool answered = false;
  for (const auto& answer : answers) {
    answered = answered || answer;
    if (answer && answer->revision > newest.revision) newest = *answer;
  }
  if (!answered) return fail(answers.front().error());
  return newest;
}

}  // namespace cctl::ops
