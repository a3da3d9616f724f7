// doctor
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <set>

#include "base/version.h"
#include "cli/command.h"
#include "cli/doctor_text.h"
#include "cli/exit_codes.h"
#include "cli/report.h"

namespace cctl::cli {
namespace {

struct Examination {
  std::vector<ops::HostExam> exams;
  std::vector<ops::Finding> findings;
};

size_t hostsWithFindings(const Examination& examination) {
  std::set<HostName> hosts;
  for (const ops::Finding& finding : examination.findings) hosts.insert(finding.host);
  return hosts.size();
}

std::string examinationText(Context& context, const Examination& examination) {
  std::string text;
  for (const ops::Finding& finding : examination.findings) {
    const FindingText words = findingText(**context.inventory(), finding);
    const Style style = finding.level == ops::Level::kBad ? Style::kBad : Style::kWarn;
    text += context.painter().paint(style, fmt::format("{}: {}: {}", finding.host, words.check,
                                                       printable(words.problem))) +
            fmt::format("\n    do: {}\n", printable(words.mend));
  }
  return text +
         fmt::format("doctor: {} on {} of {}\n", counted(examination.findings.size(), "finding"),
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
    findings.push_back({{"host", finding.host.str()},
                        {"check", words.check},
                        {"level", finding.level == ops::Level::kBad ? "bad" : "warning"},
                        {"problem", words.problem},
                        {"do", words.mend}});
  }
  return {{"format", 1}, {"hosts", hosts}, {"findings", findings}};
}

// 2 when something is bad; 4 when all that is bad is that hosts cannot be reached.
int exitCodeOfFindings(const std::vector<ops::Finding>& findings) {
  std::set<HostName> unreachable;
  for (const ops::Finding& finding : findings)
    if (finding.trouble == ops::Trouble::kUnreachable) unreachable.insert(finding.host);
  int code = kExitOk;
  for (const ops::Finding& finding : findings) {
    if (finding.level != ops::Level::kBad) continue;
    if (unreachable.count(finding.host) == 0) return kExitFailed;
    code = kExitUnreachable;
  }
  return code;
}

Result<int> runDoctor(Context& context) {
  CCTL_TRY(const Inventory* inventory, context.inventory());
  CCTL_TRY(const std::vector<HostName> hosts, context.limitedHosts());
  CCTL_TRY(ops::Fleet * fleet, context.fleet());
  context.progress().phase("looking at " + counted(hosts.size(), "host"));
  Examination examination;
  examination.exams = ops::examineHosts(*fleet, hosts, &context.cancel());
  for (const ops::HostExam& exam : examination.exams)
    for (ops::Finding& finding : ops::findTroubles(*inventory, exam, kVersion))
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
