// doctor
#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/version.h"
#include "cli/command.h"
#include "cli/doctor_text.h"
#include "cli/exit_codes.h"
#include "cli/registry_text.h"
#include "cli/report.h"
#include "transport/shell_quote.h"

namespace cctl::cli {
namespace {

struct Examination {
  std::vector<ops::HostExam> exams;
  Result<ops::RegistryReport> registry;
  std::vector<ops::Finding> findings;
};

size_t hostsWithFindings(const Examination& examination) {
  std::set<HostName> hosts;
  for (const ops::Finding& finding : examination.findings)
    if (!finding.host.empty()) hosts.insert(finding.host);
  return hosts.size();
}

// Hosts about which the same is to be said.
struct Group {
  ops::Finding finding;  // of the first
  std::vector<HostName> hosts;
};

// What to do, as if it were about `host`.
std::string mendFor(const Inventory& inventory, ops::Finding finding, const std::string& host) {
  finding.host = HostName(host);
  return findingText(inventory, finding).mend;
}

bool alike(const Inventory& inventory, const ops::Finding& a, const ops::Finding& b) {
  const FindingText words = findingText(inventory, a);
  const FindingText others = findingText(inventory, b);
  return a.level == b.level && !a.host.empty() && !b.host.empty() && words.check == others.check &&
         words.problem == others.problem && words.mend == mendFor(inventory, b, a.host.str());
}

// What is bad first.
std::vector<Group> grouped(const Inventory& inventory, const std::vector<ops::Finding>& findings) {
  std::vector<Group> groups;
  for (const ops::Finding& finding : findings) {
    const auto same = std::find_if(groups.begin(), groups.end(), [&](const Group& group) {
      return alike(inventory, group.finding, finding);
    });
    if (same == groups.end())
      groups.push_back({finding, {finding.host}});
    else
      same->hosts.push_back(finding.host);
  }
  std::stable_sort(groups.begin(), groups.end(), [](const Group& a, const Group& b) {
    return a.finding.level > b.finding.level;
  });
  return groups;
}

std::string examinationText(Context& context, const Examination& examination) {
  const Inventory& inventory = **context.inventory();
  std::string text;
  for (const Group& group : grouped(inventory, examination.findings)) {
    FindingText words = findingText(inventory, group.finding);
    const std::string whose = group.finding.host.empty() ? "registry" : foldHosts(group.hosts);
    if (group.hosts.size() > 1)
      words.mend = mendFor(inventory, group.finding, ssh::shellQuote(whose));
    const bool bad = group.finding.level == ops::Level::kBad;
    text += context.painter().paint(bad ? Style::kBad : Style::kWarn,
                                    fmt::format("{}: {}{}: {}", whose, bad ? "" : "warning: ",
                                                words.check, printable(words.problem))) +
            fmt::format("\n    do: {}\n", printable(words.mend));
  }
  if (examination.registry) text += quorumText(*examination.registry);
  const auto bad = std::count_if(examination.findings.begin(), examination.findings.end(),
                                 [](const auto& one) { return one.level == ops::Level::kBad; });
  return text +
         fmt::format("doctor: {}{} on {} of {}\n", counted(examination.findings.size(), "finding"),
                     bad > 0 ? fmt::format(", {} of them bad,", bad) : "",
                     hostsWithFindings(examination), counted(examination.exams.size(), "host"));
}

Json examinationJson(const Inventory& inventory, const Examination& examination) {
  Json hosts = Json::array(), findings = Json::array();
  for (const ops::HostExam& exam : examination.exams) {
    Json json = {{"host", exam.host.str()}, {"reachable", !exam.error}};
    if (exam.error)
      json["error"] = exam.error->message;
    else
      json["shim_version"] = exam.hello.version;
    hosts.push_back(json);
  }
  for (const ops::Finding& finding : examination.findings) {
    const FindingText words = findingText(inventory, finding);
    findings.push_back({{"host", finding.host.empty() ? Json() : Json(finding.host.str())},
                        {"check", words.check},
                        {"level", finding.level == ops::Level::kBad ? "bad" : "warning"},
                        {"problem", words.problem},
                        {"do", words.mend}});
  }
  const Result<ops::RegistryReport>& registry = examination.registry;
  return {
      {"format", 1},
      {"hosts", hosts},
      {"registry", registry ? registryJson(*registry) : Json{{"error", registry.error().message}}},
      {"findings", findings}};
}

// 2 when something is bad; 4 when all that is bad is that hosts cannot be reached, and what comes
// of that for the registry.
int exitCodeOfFindings(const std::vector<ops::Finding>& findings) {
  std::set<HostName> unreachable;
  for (const ops::Finding& finding : findings)
    if (finding.trouble == ops::Trouble::kUnreachable) unreachable.insert(finding.host);
  int code = kExitOk;
  for (const ops::Finding& finding : findings) {
    if (finding.level != ops::Level::kBad) continue;
    const bool follows = finding.trouble == ops::Trouble::kNoQuorum && !unreachable.empty();
    if (unreachable.count(finding.host) == 0 && !follows) return kExitFailed;
    code = kExitUnreachable;
  }
  return code;
}

Result<int> runDoctor(Context& context) {
  CCTL_TRY(const Inventory* inventory, context.inventory());
  CCTL_TRY(const std::vector<HostName> hosts, context.limitedHosts());
  CCTL_TRY(ops::Fleet * fleet, context.fleet());
  context.progress().phase("looking at " + counted(hosts.size(), "host"));
  CCTL_TRY(registry::QuorumRegisters * registers, context.registers());
  Examination examination{
      ops::examineHosts(*fleet, hosts, &context.cancel()), ops::examineRegistry(*registers), {}};
  for (const ops::HostExam& exam : examination.exams)
    for (ops::Finding& finding : ops::findTroubles(*inventory, exam, kVersion))
      examination.findings.push_back(std::move(finding));
  for (ops::Finding& finding : ops::findRegistryTroubles(examination.registry, hosts))
    examination.findings.push_back(std::move(finding));
  if (context.cancel().cancelled()) return kExitInterrupted;
  if (context.json())
    context.printJson(examinationJson(*inventory, examination));
  else
    context.print(examinationText(context, examination));
  return exitCodeOfFindings(examination.findings);
}

}  // namespace

std::vector<Command> doctorCommands() {
  return {{"doctor",
           "Find what is wrong with the hosts, and say the mend",
           "Hosts",
           [](CLI::App&) -> Run { return runDoctor; },
           {}}};
}

}  // namespace cctl::cli
