#include "cli/report.h"

#include <nlohmann/json.hpp>

#include "cli/exit_codes.h"
#include "model/node_set.h"
#include "model/signals.h"

namespace cctl::cli {

std::string exitText(const protocol::ExitReport& exit) {
  std::string text = "an exit that nobody saw";
  if (exit.exit_status) text = fmt::format("exit status {}", *exit.exit_status);
  if (exit.signal) text = fmt::format("signal {}", signalName(*exit.signal));
  if (exit.core) text += ", core dumped";
  return exit.stopped_for.empty() ? text : text + ", by the shim: " + exit.stopped_for;
}

std::string failureText(const ops::InstanceFailure& failure) {
  std::string text =
      fmt::format("{} on {}: {}\n", failure.id, failure.host, printable(failure.problem));
  if (failure.problem.find(failure.health_answer) == std::string::npos)  // not told already
    text += fmt::format("  health answer: {}\n", printable(failure.health_answer));
  if (!failure.exit) return text;
  protocol::ExitReport exit = *failure.exit;
  if (failure.problem.find(exit.stopped_for) != std::string::npos) exit.stopped_for.clear();
  text += fmt::format("  ended with {} after {}\n", exitText(exit), humanDuration(exit.uptime));
  if (failure.exit->last_lines.empty()) return text + "  it wrote nothing\n";
  text += "  last output:\n";
  for (const std::string& line : failure.exit->last_lines) text += "    " + printable(line) + "\n";
  return text;
}

Json failureJson(const ops::InstanceFailure& failure) {
  return {{"instance", failure.id.text()},
          {"host", failure.host.str()},
          {"problem", failure.problem},
          {"health_answer", failure.health_answer},
          {"exit", failure.exit ? protocol::encode(*failure.exit) : Json()}};
}

int failuresExitCode(const std::vector<ops::InstanceFailure>& failures,
                     const std::vector<HostName>& skipped) {
  for (const ops::InstanceFailure& failure : failures)
    if (!failure.unreachable) return kExitFailed;
  return failures.empty() && skipped.empty() ? kExitOk : kExitUnreachable;
}

std::string foldHosts(const std::vector<HostName>& hosts) {
  std::vector<std::string> names;
  for (const HostName& host : hosts) names.push_back(host.str());
  return foldNodeSet(names);
}

std::string foldHosts(const ops::HostErrors& errors) {
  std::vector<HostName> hosts;
  for (const auto& [host, error] : errors) hosts.push_back(host);
  return foldHosts(hosts);
}

namespace {

// A host that was reached and could not do it says so in another way.
bool wasReached(const Error& error) {
  switch (error.code) {
    case Code::kUnreachable:
    case Code::kTimeout:
    case Code::kCancelled:
    case Code::kNotFound:  // no shim there
      return false;
    default:
      return true;
  }
}

}  // namespace

void warnMissed(Context& context, const ops::HostErrors& missed) {
  ops::HostErrors unreached;
  for (const auto& [host, error] : missed) {
    if (!wasReached(error)) {
      unreached.emplace(host, error);
      continue;
    }
    const std::string_view mend = error.code == Code::kNoSpace
                                      ? "; make room on its disk, then run 'clusterctl sync'"
                                      : "; once that is mended run 'clusterctl sync'";
    context.progress().warning(
        host.str(),
        fmt::format("reached, but it could not keep the new endpoints: {}{}", error.message, mend));
  }
  if (unreached.empty()) return;
  context.progress().warning(foldHosts(unreached),
                             "not told the new endpoints; they are brought up to date by the next "
                             "command that reaches them");
  for (const auto& [host, error] : unreached)
    if (context.globals().verbose > 0) context.progress().step("", error.message);
}

int missedExitCode(const ops::HostErrors& missed) {
  for (const auto& [host, error] : missed)
    if (!wasReached(error)) return kExitUnreachable;
  return missed.empty() ? kExitOk : kExitFailed;
}

std::string portsText(const std::map<std::string, int>& ports) {
  std::string text;
  for (const auto& [name, number] : ports)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, number);
  return text.empty() ? "-" : text;
}

}  // namespace cctl::cli
