#include "shim/names.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "model/host_paths.h"
#include "model/names.h"

namespace cctl::shim {
namespace {

constexpr int kFormat = 1;
constexpr Millis kLeastApart{100};
constexpr Millis kAfterFailure{1'000};  // a full disk, perhaps
constexpr int kShareOfTime = 10;        // writing registry.json takes at most a tenth
constexpr size_t kSlice = 256u << 10;   // bytes of registry.json in one turn of the loop
constexpr size_t kFilesAtOnce = 32;     // of services, in one turn
// What was told wakes others, and those that share this processor must not wait for our disk.
constexpr Millis kHeardFirst{1};
constexpr Millis kPutOffAtMost{10};  // in a steady stream of changes

bool isNumber(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_unsigned();
}

bool isText(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string();
}

bool isService(const Json& json) {
  if (!json.is_object() || !isNumber(json, "revision")) return false;
  const auto endpoints = json.find("endpoints");
  return endpoints != json.end() && endpoints->is_array();
}

Result<Json> formatted(std::string_view text, const std::string& path) {
  auto json = parseJson(text);
  if (!json) return fail(json.error().context(path));
  if (!json->is_object() || !isNumber(*json, "format") || (*json)["format"] != kFormat)
    return fail(Code::kCorrupt, "{}: not in format {}", path, kFormat);
  return json;
}

std::string newRegistryFile(const std::string& root) { return paths::registryFile(root) + ".new"; }

// Of an endpoint: which instance of which host, with which ports. nullopt for what is none.
struct Seat {
  protocol::InstanceRef instance;
  std::map<std::string, int> ports;
};
std::optional<Seat> seatOf(const Json& endpoint, const std::string& host) {
  if (!endpoint.is_object() || !isText(endpoint, "host") || endpoint["host"] != host ||
      !isText(endpoint, "instance") || !isText(endpoint, "state"))
    return std::nullopt;
  const auto id = parseInstanceId(endpoint["instance"].get<std::string>());
  const auto ports = endpoint.find("ports");
  if (!id || ports == endpoint.end() || !ports->is_object()) return std::nullopt;
  Seat seat{{id->service.str(), id->index}, {}};
  for (const auto& [name, port] : ports->items())
    if (port.is_number_unsigned() && port.get<uint64_t>() <= 65535)
      seat.ports[name] = port.get<int>();
  return seat;
}

bool isHere(const Json& endpoints, const std::string& host) {
  return !host.empty() && std::any_of(endpoints.begin(), endpoints.end(), [&](const Json& one) {
    return seatOf(one, host).has_value();
  });
}

// What a file shows, back as it was registered.
Json registered(Json endpoints) {
  for (Json& endpoint : endpoints) {
    if (!endpoint.is_object() || !isText(endpoint, "registered")) continue;
    endpoint["state"] = endpoint["registered"];
    endpoint.erase("registered");
  }
  return endpoints;
}

}  // namespace

Names::Names(std::string root, std::string cluster, EventLoop& loop)
    : root_(std::move(root)), cluster_(std::move(cluster)), loop_(loop), disk_(loop) {}

void Names::judge(std::string host, IsReady is_ready) {
  host_ = std::move(host);
  is_ready_ = std::move(is_ready);
}

// ---- reading -----------------------------------------------------------------------------------

void Names::learn(const std::string& service, uint64_t revision, const Json& endpoints) {
  if (revision == 0 || !parseServiceName(service)) return;  // 0: never written
  Entry& known = services_[service];
  if (revision <= known.revision) return;
  const Json list = registered(endpoints);
  known = {revision, dumpJson(list), {}, isHere(list, host_), false};
}

// As it is written here, a service a line: its tree would take many times as much memory as its
// text. False when it is laid out in another way.
bool Names::loadRegistryLines(std::string_view text) {
  static constexpr std::string_view kServices = "\"services\":{";
  const size_t begin = text.find(kServices);
  if (begin == std::string_view::npos || !text.ends_with("}}\n")) return false;
  const auto head = parseJson(std::string(text.substr(0, begin + kServices.size())) + "}}");
  if (!head || !isNumber(*head, "format") || (*head)["format"] != kFormat) return false;
  if (isNumber(*head, "generation")) generation_ = (*head)["generation"].get<uint64_t>();
  text = text.substr(begin + kServices.size());
  text.remove_suffix(3);
  while (!text.empty()) {
    const size_t end = std::min(text.find(",\n"), text.size());
    const auto line = parseJson("{" + std::string(text.substr(0, end)) + "}");
    text.remove_prefix(std::min(end + 2, text.size()));
    if (!line || line->size() != 1 || !isService(line->begin().value())) return false;
    const Json& service = line->begin().value();
    learn(line->begin().key(), service["revision"].get<uint64_t>(), service["endpoints"]);
  }
  return true;
}

void Names::loadRegistry() {
  const std::string path = paths::registryFile(root_);
  const auto text = readFile(path, 256u << 20);
  if (!text) {
    if (text.error().code != Code::kNotFound) problems_.push_back(text.error().message);
    return;
  }
  if (loadRegistryLines(*text)) return;
  const auto json = formatted(*text, path);
  if (!json) return problems_.push_back(json.error().message);
  if (isNumber(*json, "generation")) generation_ = (*json)["generation"].get<uint64_t>();
  const auto services = json->find("services");
  if (services == json->end() || !services->is_object()) return;
  for (const auto& [name, service] : services->items())
    if (isService(service)) learn(name, service["revision"].get<uint64_t>(), service["endpoints"]);
}

void Names::loadServices() {
  const auto names = listDir(paths::registryServicesDir(root_));
  if (!names) return;
  for (const std::string& name : *names) {
    if (!name.ends_with(".json")) continue;
    const std::string path = paths::join(paths::registryServicesDir(root_), name);
    const auto text = readFile(path, 16u << 20);
    const auto json = text ? formatted(*text, path) : Result<Json>(fail(text.error()));
    if (json && isService(*json))
      learn(name.substr(0, name.size() - 5), (*json)["revision"].get<uint64_t>(),
            (*json)["endpoints"]);
    else
      problems_.push_back(json ? path + ": not a service" : json.error().message);
  }
}

Result<void> Names::load() {
  CCTL_CHECK(makeDirs(paths::registryServicesDir(root_)));
  CCTL_CHECK(makeDirs(paths::viewsDir(root_)));
  loadRegistry();
  loadServices();
  if (generation_ == 0) {
    // So that readers find one from the first moment on.
    CCTL_CHECK(replaceFile(
        paths::registryFile(root_),
        fmt::format("{{\"format\":{},\"cluster\":{},\"generation\":1,\"services\":{{}}}}\n",
                    kFormat, dumpJson(Json(cluster_)))));
    generation_ = 1;
  }
  if (services_.empty() && problems_.empty()) return {};
  scheduleRegistry();
  to_mark_ = services_.empty() ? std::string() : services_.begin()->first;
  mark_timer_ = loop_.after(Millis(0), [this] { markSlice(); });
  return {};
}

// The files of services that were read from disk say so from now on, a few in each turn.
void Names::markSlice() {
  auto service = services_.lower_bound(to_mark_);
  for (size_t i = 0; i < kFilesAtOnce && service != services_.end(); ++i, ++service)
    if (!service->second.confirmed) {
      // One that cannot be written stays as it is: the registry has it too.
      [[maybe_unused]] const auto written = writeService(service->first, service->second);
    }
  if (service == services_.end()) return;
  to_mark_ = service->first;
  mark_timer_ = loop_.after(Millis(0), [this] { markSlice(); });
}

// ---- changing ----------------------------------------------------------------------------------

Result<std::vector<std::string>> Names::apply(const std::vector<protocol::NamedService>& services) {
  std::vector<Json> ours;  // of each service its endpoints, where some are ours; else null
  for (const protocol::NamedService& service : services) {
    CCTL_CHECK(parseServiceName(service.service));
    const std::string& text = service.endpoints.text;
    // Taken apart only where they may be ours: others wait to be told.
    const bool may_be_here = !host_.empty() && text.find('"' + host_ + '"') != std::string::npos;
    auto parsed = may_be_here ? parseJson(text) : Result<Json>(Json::array());
    if (!text.starts_with('[') || !parsed)
      return fail(Code::kBadInput, "{}: its endpoints are not a list", service.service);
    ours.push_back(isHere(*parsed, host_) ? std::move(*parsed) : Json());
  }
  std::vector<std::string> applied;
  for (size_t i = 0; i < services.size(); ++i) {
    const protocol::NamedService& service = services[i];
    const auto known = services_.find(service.service);
    const uint64_t revision = known == services_.end() ? 0 : known->second.revision;
    if (service.revision == 0 || revision > service.revision) continue;
    if (revision == service.revision && known->second.confirmed) continue;
    Entry entry{service.revision, service.endpoints.text, {}, !ours[i].is_null(), true};
    // Of one revision there is one content: this only confirms what the files held.
    if (revision == service.revision) entry.endpoints = known->second.endpoints;
    if (entry.here) judgeEntry(entry, std::move(ours[i]));
    services_[service.service] = std::move(entry);
    if (revision < service.revision) applied.push_back(service.service);
    changed(service.service);
  }
  return applied;
}

void Names::changed(const std::string& service) {
  for (const auto& on_change : on_change_) on_change(service);
  writeSoon(service);
  scheduleRegistry();
}

// What is shown of the endpoints that are ours. True when that is another text than before.
bool Names::judgeEntry(Entry& entry, Json endpoints) const {
  std::string shown;
  bool differs = false;
  for (Json& endpoint : endpoints) {
    const auto seat = is_ready_ ? seatOf(endpoint, host_) : std::nullopt;
    if (!seat || endpoint["state"] != "ready") continue;
    if (is_ready_(seat->instance, seat->ports).value_or(true)) continue;
    endpoint["registered"] = endpoint["state"];
    endpoint["state"] = "unhealthy";
    differs = true;
  }
  if (differs) shown = dumpJson(endpoints);
  if (shown == entry.shown) return false;
  entry.shown = std::move(shown);
  return true;
}

void Names::localChange(const std::string& service) {
  const auto found = services_.find(service);
  if (found == services_.end() || !found->second.here) return;
  to_judge_.insert(service);
  if (std::exchange(judging_, true)) return;
  loop_.atTurnEnd([this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) judgeChanged();
  });
}

void Names::localChange() {
  for (const auto& [service, entry] : services_) localChange(service);
}

void Names::judgeChanged() {
  judging_ = false;
  for (const std::string& service : std::exchange(to_judge_, {})) {
    const auto found = services_.find(service);
    if (found == services_.end()) continue;
    auto endpoints = parseJson(found->second.endpoints);
    if (!endpoints || !judgeEntry(found->second, std::move(*endpoints))) continue;
    changed(service);
  }
}

// ---- telling -----------------------------------------------------------------------------------

// From "revision" on: the same in every place.
std::string Names::tailOf(const Entry& entry) const {
  return fmt::format("\"revision\":{}{},\"endpoints\":{}}}", entry.revision,
                     entry.confirmed ? "" : fmt::format(",\"as_of\":{}", entry.revision),
                     entry.shown.empty() ? entry.endpoints : entry.shown);
}

std::string Names::lineFor(const std::string& service) const {
  const auto found = services_.find(service);
  if (found == services_.end())
    return fmt::format(
        "{{\"format\":{},\"service\":{},\"revision\":0,\"endpoints\":[],\"known\":false}}\n",
        kFormat, dumpJson(Json(service)));
  return fmt::format("{{\"format\":{},\"service\":\"{}\",{}\n", kFormat, service,
                     tailOf(found->second));
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

std::vector<std::string> Names::services() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : services_) names.push_back(name);
  return names;
}

const std::string* Names::shown(const std::string& service) const {
  const auto found = services_.find(service);
  if (found == services_.end()) return nullptr;
  return found->second.shown.empty() ? &found->second.endpoints : &found->second.shown;
}

// ---- files -------------------------------------------------------------------------------------

Result<void> Names::writeService(const std::string& service, const Entry& entry) {
  const std::string text =
      fmt::format("{{\"format\":{},\"service\":\"{}\",{}\n", kFormat, service, tailOf(entry));
  // Not synced: registry.json is, and a torn one is noticed.
  return replaceFile(paths::registryServiceFile(root_, service), text, 0644, Sync::kNo);
}

void Names::writeServicesIn(Millis wait) {
  services_timer_ = loop_.after(wait, [this] { writeServices(kFilesAtOnce); });
}

// Counted from the newest change, but not for ever.
void Names::writeServicesSoon() {
  if (!write_by_) write_by_ = loop_.now() + kPutOffAtMost;
  const auto left = std::chrono::ceil<Millis>(*write_by_ - loop_.now());
  writeServicesIn(std::clamp(left, Millis(0), kHeardFirst));
}

void Names::writeSoon(const std::string& service) {
  to_write_.insert(service);
  writeServicesSoon();
}

void Names::whenWritten(Written done) {
  if (to_write_.empty() && unwritten_.empty()) return done({});
  waiting_.push_back(std::move(done));
  writeServicesSoon();
}

void Names::finish() {
  if (!to_write_.empty()) writeServices(to_write_.size());
}

void Names::writeServices(size_t most) {
  write_by_.reset();
  for (; most > 0 && !to_write_.empty(); --most) {
    const std::string service = std::move(to_write_.extract(to_write_.begin()).value());
    auto written = writeService(service, services_.at(service));
    if (written) continue;
    unwritten_.insert(service);
    if (written_) written_ = std::move(written);
  }
  if (!to_write_.empty()) return writeServicesIn(Millis(0));
  to_write_ = std::exchange(unwritten_, {});
  if (!to_write_.empty()) writeServicesIn(kAfterFailure);
  const Result<void> written = std::exchange(written_, {});
  for (const Written& done : std::exchange(waiting_, {})) done(written);
}

void Names::scheduleRegistry() {
  if (writing_) {
    write_again_ = true;
    return;
  }
  if (write_timer_.pending()) return;
  const SteadyTime now = loop_.now();
  const Millis wait = std::max(kHeardFirst, std::chrono::ceil<Millis>(next_write_ - now));
  write_timer_ = loop_.after(wait, [this] { beginRegistry(); });
}

void Names::beginRegistry() {
  write_again_ = false;
  auto file = openFile(newRegistryFile(root_), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (!file) return registryFailed();
  writing_ = std::make_unique<Writing>();
  writing_->file = std::move(*file);
  writing_->began = loop_.now();
  const std::string head =
      fmt::format("{{\"format\":{},\"cluster\":{},\"generation\":{},\"services\":{{", kFormat,
                  dumpJson(Json(cluster_)), generation_ + 1);
  if (!writeAll(writing_->file.get(), head)) return registryFailed();
  writeSlice();
}

// Other work gets its turn between the slices. What changes meanwhile is in this file or not;
// each service is whole.
void Names::writeSlice() {
  std::string text;
  auto service = services_.lower_bound(writing_->next);
  for (; service != services_.end() && text.size() < kSlice; ++service)
    text += fmt::format("{}\"{}\":{{{}", std::exchange(writing_->first, false) ? "" : ",\n",
                        service->first, tailOf(service->second));
  const bool last = service == services_.end();
  if (last) text += "}}\n";
  if (!writeAll(writing_->file.get(), text)) return registryFailed();
  if (last) return finishRegistry();
  writing_->next = service->first;
  write_timer_ = loop_.after(Millis(0), [this] { writeSlice(); });
}

// The disk is waited for beside the loop. That the new name is on it is not: after a loss of power
// the old file is as good, as the files of services are newer.
void Names::finishRegistry() {
  Fd copy(::fcntl(writing_->file.get(), F_DUPFD_CLOEXEC, 3));
  disk_.begin(std::move(copy), [this](bool well) {
    if (well && ::rename(newRegistryFile(root_).c_str(), paths::registryFile(root_).c_str()) == 0)
      putInPlace();
    else
      registryFailed();
  });
}

void Names::putInPlace() {
  ++generation_;
  const auto took = std::chrono::ceil<Millis>(loop_.now() - writing_->began);
  next_write_ = loop_.now() + std::max(kLeastApart, took * (kShareOfTime - 1));
  writing_.reset();
  if (write_again_) scheduleRegistry();
}

void Names::registryFailed() {
  writing_.reset();
  write_timer_ = loop_.after(kAfterFailure, [this] { beginRegistry(); });
}

}  // namespace cctl::shim
