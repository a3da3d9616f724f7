#include "ops/records.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <set>

#include "transport/fan_out.h"

namespace cctl::ops {
namespace {

constexpr int kFormat = 1;

std::string desiredKey(const ServiceName& service) { return "desired/" + service.str(); }
std::string releaseKey(const ServiceName& service, const Version& version) {
  return fmt::format("release/{}/{}", service, version);
}
std::string hostKey(const HostName& host) { return "host/" + host.str(); }
std::string retiredKey(const ServiceName& service) { return "retired/" + service.str(); }
std::string endpointsKey(const ServiceName& service) { return "endpoints/" + service.str(); }

int indexFrom(const std::string& text) {
  int index = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
  if (error != std::errc() || end != text.data() + text.size() || index < 0)
    throw std::invalid_argument("instance number \"" + text + "\"");
  return index;
}

Result<void> checkFormat(const Json& json, const std::string& key) {
  const int format = json.is_object() ? json.value("format", 0) : 0;
  if (format != kFormat)
    return fail(Code::kCorrupt,
                "register {}: format {} is not known to this clusterctl; use a newer one", key,
                format);
  return {};
}

Desired desiredFrom(const Json& json) {
  Desired desired;
  desired.version = json.at("version");
  desired.spec_digest = json.at("spec");
  desired.last_good = json.at("last_good");
  if (const auto good = json.find("good"); good != json.end()) {
    for (const Json& one : *good)
      desired.good.push_back({one.at("version"), one.at("spec"),
                              parseTime(one.at("at").get<std::string>()).value_or(WallTime{})});
  } else if (!desired.last_good.empty()) {  // written before there was a list
    desired.good.push_back({desired.last_good, desired.spec_digest, WallTime{}});
  }
  for (const auto& [index, host] : json.at("placement").items())
    desired.placement[indexFrom(index)] = host.get<std::string>();
  for (const auto& [index, held] : json.at("held").items())
    desired.held[indexFrom(index)] = {
        held.at("by"), parseTime(held.at("at").get<std::string>()).value_or(WallTime{})};
  desired.rolling_to = json.at("rolling_to");
  desired.rolling_by = json.at("rolling_by");
  return desired;
}

Json encodeGood(const std::vector<GoodSpec>& good) {
  Json json = Json::array();
  for (const GoodSpec& one : good)
    json.push_back({{"version", one.version}, {"spec", one.spec}, {"at", formatTime(one.at)}});
  return json;
}

Json encodeHeld(const std::map<int, Held>& held) {
  Json json = Json::object();
  for (const auto& [index, hold] : held)
    json[std::to_string(index)] = {{"by", hold.by}, {"at", formatTime(hold.at)}};
  return json;
}

Result<ServiceEndpoints> decodeEndpoints(const protocol::RegisterValue& value) {
  if (value.value.isNull()) return ServiceEndpoints{value.revision, {}};
  CCTL_TRY(const Json json, parseJson(value.value.text));
  CCTL_TRY(ServiceEndpoints endpoints,
           parseServiceEndpoints(Json{{"revision", value.revision}, {"endpoints", json}}));
  return endpoints;
}

JsonText encodeEndpoints(std::vector<Endpoint> endpoints) {
  std::sort(endpoints.begin(), endpoints.end(),
            [](const Endpoint& a, const Endpoint& b) { return a.instance < b.instance; });
  Json json = Json::array();
  for (const Endpoint& endpoint : endpoints) json.push_back(toJson(endpoint));
  return {dumpJson(json)};
}

Result<std::string> releaseDigestIn(const protocol::RegisterValue& value) {
  CCTL_TRY(const Json json, parseJson(value.value.text));
  CCTL_CHECK(checkFormat(json, "release"));
  return json.value("digest", std::string());
}

// What release/S/V is to be for this content.
Result<JsonText> agreedRelease(const protocol::RegisterValue& value, const ServiceName& service,
                               const Version& version, const std::string& digest) {
  const JsonText wanted{dumpJson(Json{{"format", kFormat}, {"digest", digest}})};
  if (value.value.isNull() || value.value == wanted) return wanted;
  CCTL_TRY(const std::string first, releaseDigestIn(value));
  return fail(Code::kRefused,
              "{} {} was first deployed with other content than this release (registry: sha256 {}, "
              "here: sha256 {}); a version never changes: add it under a new version",
              service, version, first, digest);
}

}  // namespace

void recordGood(Desired& desired, GoodSpec good) {
  std::erase_if(desired.good, [&](const GoodSpec& one) { return one.spec == good.spec; });
  desired.last_good = good.version;
  desired.good.insert(desired.good.begin(), std::move(good));
  if (desired.good.size() <= kMostGood) return;
  // Changes of its configuration must not crowd out the version before: the oldest spec goes of a
  // version that has a newer one, else the oldest.
  const auto hasNewer = [&](size_t at) {
    return std::any_of(
        desired.good.begin(), desired.good.begin() + static_cast<ptrdiff_t>(at),
        [&](const GoodSpec& one) { return one.version == desired.good[at].version; });
  };
  size_t dropped = desired.good.size() - 1;
  while (dropped > 0 && !hasNewer(dropped)) --dropped;
  if (dropped == 0) dropped = desired.good.size() - 1;
  desired.good.erase(desired.good.begin() + static_cast<ptrdiff_t>(dropped));
}

JsonText encodeDesired(const Desired& desired) {
  Json placement = Json::object();
  for (const auto& [index, host] : desired.placement) placement[std::to_string(index)] = host;
  return {dumpJson(Json{{"format", kFormat},
                        {"version", desired.version},
                        {"spec", desired.spec_digest},
                        {"last_good", desired.last_good},
                        {"good", encodeGood(desired.good)},
                        {"placement", placement},
                        {"held", encodeHeld(desired.held)},
                        {"rolling_to", desired.rolling_to},
                        {"rolling_by", desired.rolling_by}})};
}

Result<Desired> decodeDesired(const protocol::RegisterValue& value) {
  if (value.value.isNull()) {
    Desired desired;
    desired.revision = value.revision;
    return desired;
  }
  CCTL_TRY(const Json json, parseJson(value.value.text));
  CCTL_CHECK(checkFormat(json, "desired"));
  try {
    Desired desired = desiredFrom(json);
    desired.revision = value.revision;
    return desired;
  } catch (const std::exception& error) {
    return fail(Code::kCorrupt, "the wanted state in the registry cannot be read: {}",
                jsonProblem(error));
  }
}

Result<Desired> readDesired(registry::Registers& registers, const ServiceName& service) {
  CCTL_TRY(const protocol::RegisterValue value, registers.read(desiredKey(service)));
  return decodeDesired(value);
}

Result<Desired> updateDesired(registry::Registers& registers, const ServiceName& service,
                              const std::function<void(Desired&)>& change) {
  const auto next = [&](const protocol::RegisterValue& value) -> Result<JsonText> {
    CCTL_TRY(Desired desired, decodeDesired(value));
    change(desired);
    return encodeDesired(desired);
  };
  CCTL_TRY(const protocol::RegisterValue value,
           registry::update(registers, desiredKey(service), next));
  return decodeDesired(value);
}

namespace {

Result<std::set<ServiceName>> namesBelow(registry::Registers& registers,
                                         const std::string& prefix) {
  CCTL_TRY(const std::vector<std::string> keys, registers.list(prefix));
  std::set<ServiceName> names;
  for (const std::string& key : keys) names.insert(ServiceName(key.substr(prefix.size())));
  return names;
}

// Side by side: each is a round trip to a quorum.
template <typename T, typename Read>
Result<std::map<ServiceName, T>> readEach(const std::set<ServiceName>& names, const Read& read) {
  const std::vector<ServiceName> services(names.begin(), names.end());
  ssh::FanOutOptions options;
  options.forks = 16;
  auto values = ssh::forEachHost<T>(services.size(), options,
                                    [&](size_t i) -> Result<T> { return read(services[i]); });
  std::map<ServiceName, T> all;
  for (size_t i = 0; i < services.size(); ++i) {
    CCTL_TRY(all[services[i]], std::move(values[i]));
  }
  return all;
}

}  // namespace

std::string Desired::unfinished() const {
  return rolling_to.empty() ? "" : fmt::format("{} by {}", rolling_to, rolling_by);
}

Result<std::map<ServiceName, Desired>> readAllDesired(registry::Registers& registers) {
  CCTL_TRY(const auto names, namesBelow(registers, desiredKey(ServiceName(""))));
  CCTL_TRY(auto all, readEach<Desired>(names, [&](const ServiceName& service) {
             return readDesired(registers, service);
           }));
  std::erase_if(all, [](const auto& one) {
    return one.second.version.empty() && one.second.placement.empty();
  });
  return all;
}

Result<std::vector<ServiceName>> deployedServices(registry::Registers& registers) {
  CCTL_TRY(const auto all, readAllDesired(registers));
  std::vector<ServiceName> services;
  for (const auto& [service, desired] : all) services.push_back(service);
  return services;
}

Placement placementOf(const ServiceName& service, const Desired& desired) {
  Placement placement;
  for (const auto& [index, host] : desired.placement)
    placement.push_back({InstanceId{service, index}, HostName(host)});
  return placement;
}

Result<ServiceEndpoints> readEndpoints(registry::Registers& registers, const ServiceName& service) {
  CCTL_TRY(const protocol::RegisterValue value, registers.read(endpointsKey(service)));
  return decodeEndpoints(value);
}

Result<ServiceEndpoints> updateEndpoints(
    registry::Registers& registers, const ServiceName& service,
    const std::function<void(std::vector<Endpoint>&)>& change) {
  const auto next = [&](const protocol::RegisterValue& value) -> Result<JsonText> {
    CCTL_TRY(ServiceEndpoints current, decodeEndpoints(value));
    change(current.endpoints);
    return encodeEndpoints(std::move(current.endpoints));
  };
  CCTL_TRY(const protocol::RegisterValue value,
           registry::update(registers, endpointsKey(service), next));
  return decodeEndpoints(value);
}

Result<std::map<ServiceName, ServiceEndpoints>> readAllEndpoints(registry::Registers& registers) {
  CCTL_TRY(auto names, namesBelow(registers, endpointsKey(ServiceName(""))));
  CCTL_TRY(auto retired, namesBelow(registers, retiredKey(ServiceName(""))));
  names.merge(retired);
  return readEach<ServiceEndpoints>(
      names, [&](const ServiceName& service) { return readEndpoints(registers, service); });
}

Result<void> markRetired(registry::Registers& registers, const ServiceName& service) {
  const auto next = [](const protocol::RegisterValue&) -> Result<JsonText> {
    return JsonText{dumpJson(Json{{"format", kFormat}})};
  };
  CCTL_CHECK(registry::update(registers, retiredKey(service), next));
  return {};
}

Result<bool> isRetired(registry::Registers& registers, const ServiceName& service) {
  CCTL_TRY(const protocol::RegisterValue value, registers.read(retiredKey(service)));
  return !value.value.isNull();
}

Result<void> deleteService(registry::Registers& registers, const ServiceName& service) {
  const auto nothing = [](const protocol::RegisterValue&) -> Result<JsonText> {
    return JsonText{};
  };
  for (const std::string& key : {desiredKey(service), endpointsKey(service)})
    CCTL_CHECK(registry::update(registers, key, nothing));
  return {};
}

JsonText encodeHostMark(const HostMark& mark) {
  Json stopped = Json::array();
  for (const InstanceId& id : mark.stopped) stopped.push_back(id.text());
  return {dumpJson(Json{{"format", kFormat},
                        {"drained", mark.drained},
                        {"by", mark.by},
                        {"at", formatTime(mark.at)},
                        {"stopped", stopped}})};
}

Result<HostMark> decodeHostMark(const protocol::RegisterValue& value) {
  if (value.value.isNull()) return HostMark{};
  CCTL_TRY(const Json json, parseJson(value.value.text));
  CCTL_CHECK(checkFormat(json, "host"));
  try {
    HostMark mark;
    mark.drained = json.at("drained");
    mark.by = json.at("by");
    mark.at = parseTime(json.at("at").get<std::string>()).value_or(WallTime{});
    for (const Json& text : json.at("stopped")) {
      CCTL_TRY(const InstanceId id, parseInstanceId(text.get<std::string>()));
      mark.stopped.push_back(id);
    }
    return mark;
  } catch (const std::exception& error) {
    return fail(Code::kCorrupt, "the mark of a host in the registry cannot be read: {}",
                jsonProblem(error));
  }
}

Result<HostMark> readHostMark(registry::Registers& registers, const HostName& host) {
  CCTL_TRY(const protocol::RegisterValue value, registers.read(hostKey(host)));
  return decodeHostMark(value);
}

Result<HostMark> updateHostMark(registry::Registers& registers, const HostName& host,
                                const std::function<void(HostMark&)>& change) {
  const auto next = [&](const protocol::RegisterValue& value) -> Result<JsonText> {
    CCTL_TRY(HostMark mark, decodeHostMark(value));
    change(mark);
    return encodeHostMark(mark);
  };
  CCTL_TRY(const protocol::RegisterValue value, registry::update(registers, hostKey(host), next));
  return decodeHostMark(value);
}

Result<std::map<HostName, HostMark>> readHostMarks(registry::Registers& registers) {
  const std::string prefix = hostKey(HostName(""));
  CCTL_TRY(const std::vector<std::string> keys, registers.list(prefix));
  std::map<HostName, HostMark> marks;
  for (const std::string& key : keys) {
    const HostName host(key.substr(prefix.size()));
    CCTL_TRY(marks[host], readHostMark(registers, host));
  }
  return marks;
}

Result<std::set<HostName>> readDrained(registry::Registers& registers) {
  CCTL_TRY(const auto marks, readHostMarks(registers));
  std::set<HostName> drained;
  for (const auto& [host, mark] : marks)
    if (mark.drained) drained.insert(host);
  return drained;
}

Result<void> fixReleaseDigest(registry::Registers& registers, const ServiceName& service,
                              const Version& version, const std::string& digest) {
  CCTL_CHECK(registry::update(registers, releaseKey(service, version),
                              [&](const protocol::RegisterValue& value) {
                                return agreedRelease(value, service, version, digest);
                              }));
  return {};
}

Result<void> checkReleaseDigest(registry::Registers& registers, const ServiceName& service,
                                const Version& version, const std::string& digest) {
  CCTL_TRY(const protocol::RegisterValue value, registers.read(releaseKey(service, version)));
  CCTL_CHECK(agreedRelease(value, service, version, digest));
  return {};
}

Result<std::optional<std::string>> readReleaseDigest(registry::Registers& registers,
                                                     const ServiceName& service,
                                                     const Version& version) {
  CCTL_TRY(const protocol::RegisterValue value, registers.read(releaseKey(service, version)));
  if (value.value.isNull()) return std::nullopt;
  return releaseDigestIn(value);
}

}  // namespace cctl::ops
