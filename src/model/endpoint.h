// Where a service can be reached: the entries of registry.json.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "model/names.h"

namespace cctl {

enum class EndpointState {
  kReady,      // takes connections
  kUnhealthy,  // runs, but its health check fails
  kDraining,   // still runs, about to stop: open nothing new
};

std::string_view endpointStateName(EndpointState state);  // "ready", …
std::optional<EndpointState> endpointStateFromName(std::string_view name);

struct Endpoint {
  InstanceId instance;
  HostName host;
  std::string address;  // an IP: what others connect to
  std::map<std::string, uint16_t> ports;
  Version version;
  EndpointState state = EndpointState::kReady;

  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

// One service's object; `revision` rises with every committed change. Revision 0: never written.
struct ServiceEndpoints {
  uint64_t revision = 0;
  std::vector<Endpoint> endpoints;  // sorted by instance index

  friend bool operator==(const ServiceEndpoints&, const ServiceEndpoints&) = default;
};

Json toJson(const Endpoint& endpoint);
// {"revision":7,"endpoints":[…]}
Json toJson(const ServiceEndpoints& endpoints);
// kCorrupt for anything else than toJson writes; keys it does not know are ignored.
[[nodiscard]] Result<Endpoint> parseEndpoint(const Json& json);
[[nodiscard]] Result<ServiceEndpoints> parseServiceEndpoints(const Json& json);

}  // namespace cctl
