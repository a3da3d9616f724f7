#include "ops/saved_plan.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace cctl::ops {
namespace {

constexpr const char* kKind = "clusterctl-plan";

Json observedJson(const std::vector<ObservedInstance>& observed) {
  std::vector<Json> all;
  for (const ObservedInstance& one : observed) {
    if (!one.running && !one.current && !one.wanted) continue;  // history
    all.push_back({{"instance", one.id.text()},
                   {"host", one.host.str()},
                   {"generation", one.generation},
                   {"version", one.version.str()},
                   {"running", one.running},
                   {"ready", one.ready},
                   {"current", one.current},
                   {"wanted", one.wanted},
                   {"differs", one.difference.reasons},
                   {"ports", one.ports}});
  }
  std::sort(all.begin(), all.end(),
            [](const Json& a, const Json& b) { return a.dump() < b.dump(); });
  return all;
}

Json changesJson(const ServicePlan& plan) {
  Json all = Json::array();
  for (const PlannedChange& change : plan.changes())
    all.push_back({{"action", changeName(change.kind)},
                   {"instance", change.id.text()},
                   {"host", change.host.str()},
                   {"version", change.version.str()},
                   {"why", change.why}});
  return all;
}

Json serviceJson(const ServicePlan& plan) {
  Json placement = Json::object(), skipped = Json::array();
  for (const Placed& placed : plan.planned.placement)
    placement[placed.instance.text()] = placed.host.str();
  for (const HostName& host : plan.skipped) skipped.push_back(host.str());
  return {{"service", plan.service.str()},
          {"version", plan.version.str()},
          {"gone", plan.gone},
          {"release", plan.release_digest},
          {"desired_revision", plan.desired_revision},
          {"endpoints_revision", plan.endpoints_revision},
          {"placement", placement},
          {"skipped", skipped},
          {"observed", observedJson(plan.planned.observed)},
          {"changes", changesJson(plan)}};
}

Json planJson(const ClusterPlan& plan, const PlanOrigin& origin) {
  Json services = Json::array(), drained = Json::array();
  for (const ServicePlan& one : plan.services) services.push_back(serviceJson(one));
  for (const HostName& host : plan.drained) drained.push_back(host.str());
  return {{"format", 1},
          {"kind", kKind},
          {"cluster", origin.cluster},
          {"inventory", origin.inventory_digest},
          {"scope", origin.scope},
          {"by", origin.by},
          {"at", formatTime(origin.at)},
          {"drained", drained},
          {"services", services}};
}

Result<Json> parseSaved(const std::string& saved) {
  auto json = parseJson(saved);
  if (!json) return fail(Code::kBadInput, "it is not a saved plan: {}", json.error().message);
  if (!json->is_object() || json->value("kind", Json()) != kKind)
    return fail(Code::kBadInput, "it is not a saved plan; 'clusterctl plan --out FILE' writes one");
  if (json->value("format", Json()) != 1)
    return fail(Code::kBadInput, "it is of a format that this clusterctl does not know");
  if (!json->value("scope", Json()).is_string() || !json->value("services", Json()).is_array())
    return fail(Code::kBadInput, "it is not a whole saved plan");
  return json;
}

// The saved one of a service, or null.
Json findService(const Json& plan, const Json& service) {
  for (const Json& one : plan.at("services"))
    if (one.is_object() && one.value("service", Json()) == service) return one;
  return {};
}

void compareServices(const Json& then, const Json& now, std::vector<std::string>& changed) {
  static const std::pair<const char*, const char*> kParts[] = {
      {"version", "another version was deployed"},
      {"gone", "its manifest came or went"},
      {"release", "the digest of its release"},
      {"desired_revision", "what should run was changed"},
      {"endpoints_revision", "its endpoints changed"},
      {"placement", "where its instances belong"},
      {"skipped", "other hosts are unreachable"},
      {"observed", "what runs on the hosts"},
      {"changes", "what there is to do"}};
  const std::string service = now.at("service");
  if (!then.is_object()) return changed.push_back(service + ": it was not in the plan");
  for (const auto& [key, text] : kParts) {
    if (then.value(key, Json()) == now.at(key)) continue;
    changed.push_back(fmt::format("{}: {}", service, text));
    return;  // the rest mostly follows from the first
  }
}

}  // namespace

std::string encodePlan(const ClusterPlan& plan, const PlanOrigin& origin) {
  return dumpJsonPretty(planJson(plan, origin)) + "\n";
}

Result<std::string> scopeOfSaved(const std::string& saved) {
  CCTL_TRY(const Json json, parseSaved(saved));
  return json.at("scope").get<std::string>();
}

Result<std::vector<std::string>> changedSince(const std::string& saved, const ClusterPlan& now_plan,
                                              const PlanOrigin& origin) {
  CCTL_TRY(const Json then, parseSaved(saved));
  const Json now = planJson(now_plan, origin);
  std::vector<std::string> changed;
  if (then.value("cluster", Json()) != now.at("cluster"))
    changed.emplace_back("it was made for another cluster");
  if (then.value("inventory", Json()) != now.at("inventory"))
    changed.emplace_back("the files of the inventory");
  if (then.value("drained", Json()) != now.at("drained"))
    changed.emplace_back("which hosts are drained");
  for (const Json& service : now.at("services"))
    compareServices(findService(then, service.at("service")), service, changed);
  for (const Json& service : then.at("services"))
    if (service.is_object() && findService(now, service.value("service", Json())).is_null())
      changed.push_back(service.value("service", Json()).dump() + " is not there any more");
  return changed;
}

}  // namespace cctl::ops
