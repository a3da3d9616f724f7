#include "naming/decode.h"

#include <algorithm>

#include "naming/json_cursor.h"

namespace clusterctl::internal {
namespace {

constexpr std::uint64_t kFormat = 1;

EndpointState stateOf(const std::string& name) {
  if (name == "ready") return EndpointState::kReady;
  if (name == "unhealthy") return EndpointState::kUnhealthy;
  if (name == "draining") return EndpointState::kDraining;
  return EndpointState::kOther;
}

bool decodePorts(JsonCursor& in, std::map<std::string, std::uint16_t>* ports) {
  std::string name;
  if (!in.enterObject()) return false;
  while (in.nextKey(&name)) {
    std::uint64_t port = 0;
    if (!in.readUnsigned(&port)) return false;
    if (port > 0 && port <= 65535) (*ports)[name] = static_cast<std::uint16_t>(port);
  }
  return !in.failed();
}

bool decodeEndpoint(JsonCursor& in, Endpoint* endpoint) {
  std::string key, state;
  if (!in.enterObject()) return false;
  while (in.nextKey(&key)) {
    std::string* const text = key == "instance"  ? &endpoint->instance
                              : key == "host"    ? &endpoint->host
                              : key == "address" ? &endpoint->address
                              : key == "version" ? &endpoint->version
                              : key == "state"   ? &state
                                                 : nullptr;
    const bool read = text != nullptr  ? in.readString(text)
                      : key == "ports" ? decodePorts(in, &endpoint->ports)
                                       : in.skip();
    if (!read) return false;
  }
  endpoint->state = stateOf(state);
  return !in.failed();
}

bool decodeEndpoints(JsonCursor& in, std::vector<Endpoint>* endpoints) {
  endpoints->clear();
  if (!in.enterArray()) return false;
  while (in.nextItem()) {
    Endpoint endpoint;
    if (!decodeEndpoint(in, &endpoint)) return false;
    endpoints->push_back(std::move(endpoint));
  }
  return !in.failed();
}

// The members of one service, wherever it stands.
struct Members {
  Service service;
  std::uint64_t format = 0;
  bool has_revision = false;
  bool has_endpoints = false;
  std::string complaint;  // what the other side said instead
};

bool decodeComplaint(JsonCursor& in, std::string* complaint) {
  std::string key;
  if (!in.enterObject()) return false;
  while (in.nextKey(&key))
    if (!(key == "message" ? in.readString(complaint) : in.skip())) return false;
  if (complaint->empty()) *complaint = "refused";
  return !in.failed();
}

bool decodeMember(JsonCursor& in, const std::string& key, Members* members) {
  Service& service = members->service;
  if (key == "format") return in.readUnsigned(&members->format);
  if (key == "service") return in.readString(&service.name);
  if (key == "known") return in.readBool(&service.known);
  if (key == "error") return decodeComplaint(in, &members->complaint);
  if (key == "revision") return members->has_revision = in.readUnsigned(&service.revision);
  if (key == "endpoints") return members->has_endpoints = decodeEndpoints(in, &service.endpoints);
  if (key == "as_of") service.confirmed = false;
  return in.skip();
}

bool decodeMembers(JsonCursor& in, Members* members) {
  std::string key;
  members->service.known = members->service.confirmed = true;
  if (!in.enterObject()) return false;
  while (in.nextKey(&key))
    if (!decodeMember(in, key, members)) return false;
  return !in.failed();
}

bool fail(std::string* error, std::string why) {
  *error = std::move(why);
  return false;
}

bool take(Members members, Service* service, std::string* error) {
  if (!members.has_revision || !members.has_endpoints)
    return fail(error, "not a service: no revision or no endpoints");
  *service = std::move(members.service);
  return true;
}

}  // namespace

bool decodeService(std::string_view text, Service* service, std::string* error) {
  JsonCursor in(text);
  Members members;
  if (!decodeMembers(in, &members) || !in.atEnd()) return fail(error, in.error());
  if (!members.complaint.empty()) return fail(error, "the shim says: " + members.complaint);
  if (members.format != kFormat)
    return fail(error, "format " + std::to_string(members.format) +
                           ", and this program knows format 1: build it anew");
  if (!isServiceName(members.service.name)) return fail(error, "not a service: no name");
  return take(std::move(members), service, error);
}

bool decodeFromRegistry(std::string_view text, const std::string& name, Service* service,
                        std::string* error) {
  JsonCursor in(text);
  Members found;
  std::string key, inner;
  std::uint64_t format = 0;
  *service = Service();
  service->name = name;
  if (!in.enterObject()) return fail(error, in.error());
  while (in.nextKey(&key)) {
    if (key == "format" && !in.readUnsigned(&format)) break;
    if (key == "format") continue;
    if (key != "services") {
      if (!in.skip()) break;
      continue;
    }
    if (!in.enterObject()) break;
    while (in.nextKey(&inner))
      if (!(inner == name ? decodeMembers(in, &found) : in.skip())) break;
  }
  if (!in.atEnd()) return fail(error, in.error());
  if (format != kFormat) return fail(error, "not in format 1");
  if (!found.has_revision) return true;
  if (!take(std::move(found), service, error)) return false;
  service->name = name;
  return true;
}

// As clusterctl has it: [a-z0-9][a-z0-9_-]{0,62}.
bool isServiceName(const std::string& name) {
  const auto plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  return !name.empty() && name.size() <= 63 && plain(name[0]) &&
         std::all_of(name.begin(), name.end(),
                     [&](char c) { return plain(c) || c == '_' || c == '-'; });
}

}  // namespace clusterctl::internal
