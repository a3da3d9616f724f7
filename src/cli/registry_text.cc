#include "cli/registry_text.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace cctl::cli {
namespace {

Json memberJson(const ops::MemberReport& report) {
  Json json = {{"host", report.member.host},
               {"acceptor", report.member.acceptor},
               {"role", report.role},
               {"state", ops::memberStateName(report.state)},
               {"epoch", report.epoch.text()},
               {"registers", report.registers},
               {"uncommitted", report.uncommitted}};
  if (!report.why.empty()) json["problem"] = report.why;
  return json;
}

}  // namespace

std::string quorumText(const ops::RegistryReport& report) {
  if (!report.membership)
    return "registry: not founded yet; the first changing command does that\n";
  return fmt::format("registry: {} of {} members usable, {} are a majority, {}; epoch {}{}\n",
                     report.usable(), report.members.size(), report.majority(),
                     report.quorum ? "quorum" : "NO QUORUM", report.membership->epoch.text(),
                     report.membership->old ? ", members are being changed" : "");
}

Json registryJson(const ops::RegistryReport& report) {
  Json members = Json::array();
  for (const ops::MemberReport& member : report.members) members.push_back(memberJson(member));
  Json json = {{"founded", report.membership.has_value()},
               {"quorum", report.quorum},
               {"usable", report.usable()},
               {"majority", report.majority()},
               {"members", members}};
  if (!report.membership) return json;
  json["cluster_id"] = report.membership->cluster;
  json["epoch"] = report.membership->epoch.text();
  json["changing"] = report.membership->old.has_value();
  return json;
}

}  // namespace cctl::cli
