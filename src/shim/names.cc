#include "shim/names.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "model/host_paths.h"
#include "model/names.h"

namespace cctl::shim {
namespace {

constexpr int kFormat = 1;
constexpr Millis kLeastApart{100};
constexpr int kShareOfTime = 10;  // writing registry.json takes at most a tenth

bool isNumber(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_unsigned();
}

bool isService(const Json& json) {
  if (!json.is_object() || !isNumber(json, "revision")) return false;
  const auto endpoints = json.find("endpoints");
  return endpoints != json.end() && endpoints->is_array();
}

Result<Json> readFormat(const std::string& path) {
  CCTL_TRY(const std::string text, readFile(path, 256u << 20));
  auto json = parseJson(text);
  if (!json) return fail(json.error().context(path));
  if (!json->is_object() || !isNumber(*json, "format") || (*json)["format"] != kFormat)
    return fail(Code::kCorrupt, "{}: not in format {}", path, kFormat);
  return json;
}

}  // namespace

Names::Names(std::string root, std::string cluster, EventLoop& loop)
    : root_(std::move(root)), cluster_(std::move(cluster)), loop_(loop) {}

void Names::learn(const std::string& service, Entry entry) {
  if (entry.revision == 0 || !parseServiceName(service)) return;  // 0: never written
  Entry& known = services_[service];
  if (entry.revision > known.revision) known = std::move(entry);
}

void Names::loadRegistry() {
  const std::string path = paths::registryFile(root_);
  const auto json = readFormat(path);
  if (!json) {
    if (json.error().code != Code::kNotFound) problems_.push_back(json.error().message);
    return;
  }
  if (isNumber(*json, "generation")) generation_ = (*json)["generation"].get<uint64_t>();
  const auto services = json->find("services");
  if (services == json->end() || !services->is_object()) return;
  for (const auto& [name, service] : services->items())
    if (isService(service))
      learn(name, {service["revision"].get<uint64_t>(), dumpJson(service["endpoints"])});
}

void Names::loadServices() {
  const auto names = listDir(paths::registryServicesDir(root_));
  if (!names) return;
  for (const std::string& name : *names) {
    if (!name.ends_with(".json")) continue;
    const std::string path = paths::join(paths::registryServicesDir(root_), name);
    const auto json = readFormat(path);
    if (json && isService(*json))
      learn(name.substr(0, name.size() - 5),
            {(*json)["revision"].get<uint64_t>(), dumpJson((*json)["endpoints"])});
    else
      problems_.push_back(json ? path + ": not a service" : json.error().message);
  }
}

Result<void> Names::load() {
  CCTL_CHECK(makeDirs(paths::registryServicesDir(root_)));
  loadRegistry();
  loadServices();
  // So that readers find one from the first moment on.
  if (generation_ == 0 || !problems_.empty()) writeRegistry();
  return {};
}

Result<std::vector<std::string>> Names::apply(const std::vector<protocol::NamedService>& services) {
  for (const protocol::NamedService& service : services) {
    CCTL_CHECK(parseServiceName(service.service));
    CCTL_TRY(const Json endpoints, parseJson(service.endpoints.text));
    if (!endpoints.is_array())
      return fail(Code::kBadInput, "{}: its endpoints are not a list", service.service);
  }
  std::vector<std::string> applied;
  for (const protocol::NamedService& service : services) {
    const auto known = services_.find(service.service);
    if (known != services_.end() && known->second.revision >= service.revision) continue;
    if (service.revision == 0) continue;
    const Entry entry{service.revision, service.endpoints.text};
    CCTL_CHECK(writeService(service.service, entry));
    services_[service.service] = entry;
    scheduleRegistry();
    applied.push_back(service.service);
    if (on_change_) on_change_(service.service);
  }
  return applied;
}

Result<void> Names::writeService(const std::string& service, const Entry& entry) {
  const std::string text =
      fmt::format("{{\"format\":{},\"service\":\"{}\",\"revision\":{},\"endpoints\":{}}}\n",
                  kFormat, service, entry.revision, entry.endpoints);
  // Not synced: registry.json is, and a torn one is noticed.
  return replaceFile(paths::registryServiceFile(root_, service), text, 0644, Sync::kNo);
}

void Names::scheduleRegistry() {
  if (write_timer_.pending()) return;
  const SteadyTime now = loop_.now();
  const Millis wait = next_write_ > now ? std::chrono::ceil<Millis>(next_write_ - now) : Millis(0);
  write_timer_ = loop_.after(wait, [this] { writeRegistry(); });
}

void Names::writeRegistry() {
  const SteadyTime began = loop_.now();
  std::string text = fmt::format("{{\"format\":{},\"cluster\":{},\"generation\":{},\"services\":{{",
                                 kFormat, dumpJson(Json(cluster_)), generation_ + 1);
  bool first = true;
  for (const auto& [name, entry] : services_) {
    text += fmt::format("{}\"{}\":{{\"revision\":{},\"endpoints\":{}}}", first ? "" : ",\n", name,
                        entry.revision, entry.endpoints);
    first = false;
  }
  text += "}}\n";
  const auto written = replaceFile(paths::registryFile(root_), text, 0644);
  if (written)
    ++generation_;
  else
    write_timer_ = loop_.after(Millis(1000), [this] { writeRegistry(); });  // a full disk, perhaps
  const auto took = std::chrono::ceil<Millis>(loop_.now() - began);
  next_write_ = loop_.now() + std::max(kLeastApart, took * (kShareOfTime - 1));
}

protocol::NamesReply Names::all() const {
  protocol::NamesReply reply;
  reply.generation = generation_;
  for (const auto& [name, entry] : services_)
    reply.services.push_back({name, entry.revision, JsonText{entry.endpoints}});
  return reply;
}

uint64_t Names::revisionOf(const std::string& service) const {
  const auto found = services_.find(service);
  return found == services_.end() ? 0 : found->second.revision;
}

std::string Names::lineFor(const std::string& service) const {
  const auto found = services_.find(service);
  if (found == services_.end())
    return fmt::format(
        "{{\"format\":{},\"service\":{},\"revision\":0,\"endpoints\":[],\"known\":false}}\n",
        kFormat, dumpJson(Json(service)));
  return fmt::format("{{\"format\":{},\"service\":\"{}\",\"revision\":{},\"endpoints\":{}}}\n",
                     kFormat, service, found->second.revision, found->second.endpoints);
}

}  // namespace cctl::shim
