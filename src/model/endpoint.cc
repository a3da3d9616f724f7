#include "model/endpoint.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

namespace cctl {
namespace {

constexpr std::pair<EndpointState, std::string_view> kStates[] = {
    {EndpointState::kReady, "ready"},
    {EndpointState::kUnhealthy, "unhealthy"},
    {EndpointState::kDraining, "draining"},
};

Result<std::string> textMember(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_string())
    return fail(Code::kCorrupt, "endpoint: \"{}\" is missing or not text", key);
  return found->get<std::string>();
}

Result<std::map<std::string, uint16_t>> parsePorts(const Json& object) {
  const auto found = object.find("ports");
  if (found == object.end() || !found->is_object())
    return fail(Code::kCorrupt, "endpoint: \"ports\" is missing or not an object");
  std::map<std::string, uint16_t> ports;
  for (const auto& [name, value] : found->items()) {
    if (!value.is_number_unsigned() || value.get<uint64_t>() == 0 ||
        value.get<uint64_t>() > UINT16_MAX)
      return fail(Code::kCorrupt, "endpoint: port \"{}\" is not 1 to 65535", name);
    ports[name] = static_cast<uint16_t>(value.get<uint64_t>());
  }
  return ports;
}

// An IP address or a name: whoever writes it into a file or a command need not quote it.
bool isAddress(std::string_view text) {
  return !text.empty() && text.size() <= 255 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
           c == ':' || c == '-' || c == '_' || c == '%';
  });
}

// A value that does not hold is damage here, not a mistake of the user's.
Error corrupt(Error error) { return {Code::kCorrupt, "endpoint: " + error.message}; }

}  // namespace

std::string_view endpointStateName(EndpointState state) {
  for (const auto& [value, name] : kStates)
    if (value == state) return name;
  return "ready";
}

std::optional<EndpointState> endpointStateFromName(std::string_view name) {
  for (const auto& [value, known] : kStates)
    if (known == name) return value;
  return std::nullopt;
}

Json toJson(const Endpoint& endpoint) {
  return Json{{"instance", endpoint.instance.text()}, {"host", endpoint.host.str()},
              {"address", endpoint.address},          {"ports", endpoint.ports},
              {"version", endpoint.version.str()},    {"state", endpointStateName(endpoint.state)}};
}

Json toJson(const ServiceEndpoints& endpoints) {
  Json list = Json::array();
  for (const Endpoint& endpoint : endpoints.endpoints) list.push_back(toJson(endpoint));
  return Json{{"revision", endpoints.revision}, {"endpoints", std::move(list)}};
}

Result<Endpoint> parseEndpoint(const Json& json) {
  if (!json.is_object()) return fail(Code::kCorrupt, "endpoint: not an object");
  Endpoint endpoint;
  CCTL_TRY(const std::string instance, textMember(json, "instance"));
  CCTL_TRY(const std::string host, textMember(json, "host"));
  CCTL_TRY(const std::string version, textMember(json, "version"));
  CCTL_TRY(const std::string state, textMember(json, "state"));
  CCTL_TRY(endpoint.address, textMember(json, "address"));
  if (!isAddress(endpoint.address))
    return fail(Code::kCorrupt, "endpoint: \"{}\" is no address", endpoint.address.substr(0, 80));
  CCTL_TRY(endpoint.ports, parsePorts(json));
  CCTL_TRY(endpoint.instance, parseInstanceId(instance).map_error(corrupt));
  CCTL_TRY(endpoint.host, parseHostName(host).map_error(corrupt));
  CCTL_TRY(endpoint.version, parseVersion(version).map_error(corrupt));
  const auto known = endpointStateFromName(state);
  if (!known) return fail(Code::kCorrupt, "endpoint: unknown state \"{}\"", state);
  endpoint.state = *known;
  return endpoint;
}

Result<ServiceEndpoints> parseServiceEndpoints(const Json& json) {
  if (!json.is_object() || !json.contains("revision") || !json["revision"].is_number_unsigned() ||
      !json.contains("endpoints") || !json["endpoints"].is_array())
    return fail(Code::kCorrupt, "endpoints: not {{\"revision\":…,\"endpoints\":[…]}}");
  ServiceEndpoints endpoints;
  endpoints.revision = json["revision"].get<uint64_t>();
  for (const Json& item : json["endpoints"]) {
    CCTL_TRY(Endpoint endpoint, parseEndpoint(item));
    endpoints.endpoints.push_back(std::move(endpoint));
  }
  return endpoints;
}

}  // namespace cctl
