// ping, bootstrap, unbootstrap, exec
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <set>

#include "base/version.h"
#include "cli/command.h"
#include "cli/exit_codes.h"
#include "cli/report.h"
#include "model/node_set.h"
#include "model/release_info.h"
#include "ops/probe.h"
#include "transport/fan_out.h"
#include "transport/shell_quote.h"

namespace cctl::cli {
namespace {

// 0 when every host did it; 130 after Ctrl-C; 2 when one failed, 4 when all that failed are
// unreachable.
template <typename T>
int exitCodeOfAll(const std::map<HostName, Result<T>>& results) {
  int code = kExitOk;
  for (const auto& [host, result] : results) {
    if (result) continue;
    if (result.error().code == Code::kCancelled) return kExitInterrupted;
    const bool unreachable = result.error().code == Code::kUnreachable;
    if (!unreachable) code = kExitFailed;
    if (unreachable && code == kExitOk) code = kExitUnreachable;
  }
  return code;
}

// ---- ping ------------------------------------------------------------------------------------

Result<int> runPing(Context& context) {
  CCTL_TRY(const std::vector<HostName> hosts, context.limitedHosts());
  CCTL_TRY(ops::Fleet * fleet, context.fleet());
  fleet->begin(hosts, ops::Need::kSession);
  const auto results = fleet->awaitAll(hosts);
  Json list = Json::array();
  Table table({"HOST", "STATE", "TIME", "DETAIL"});
  size_t reached = 0;
  for (const HostName& host : hosts) {
    const auto& result = results.at(host);
    reached += result ? 1 : 0;
    if (result) {
      const ssh::LinkInfo& info = (*result)->link->info();
      table.add({host.str(), "ok", humanDuration((*result)->took),
                 fmt::format("{}@{} port {}", info.user, info.address, info.port)});
      list.push_back({{"host", host.str()},
                      {"reachable", true},
                      {"milliseconds", (*result)->took.count()},
                      {"user", info.user},
                      {"host_key", info.host_key_fingerprint}});
    } else {
      table.add({host.str(), "unreachable", "-", result.error().message}, Style::kBad);
      list.push_back(
          {{"host", host.str()}, {"reachable", false}, {"error", result.error().message}});
    }
  }
  if (context.json())
    context.printJson({{"format", 1}, {"hosts", list}});
  else
    context.print(table.text(context.painter()) +
                  fmt::format("{} of {} reached\n", reached, counted(hosts.size(), "host")));
  return exitCodeOfAll(results);
}

Run definePing(CLI::App&) { return runPing; }

// ---- bootstrap -------------------------------------------------------------------------------

Result<std::vector<HostName>> hostsNamed(Context& context, const std::vector<std::string>& names) {
  if (names.empty()) return context.limitedHosts();
  CCTL_TRY(const Inventory* inventory, context.inventory());
  std::string expression;
  for (const std::string& name : names) expression += (expression.empty() ? "" : ",") + name;
  return selectHosts(*inventory, expression);
}

// What was done there, or would be.
std::string placingText(const ops::HostConnection& connection, bool dry_run, bool force) {
  if (!dry_run && !connection.mended.empty())
    return fmt::format("was there already; mended: {}", connection.mended);
  if (!dry_run) return connection.placed ? "placed" : "was there already";
  if (connection.asleep) return "would be started";
  if (connection.bare) return "would be placed";
  if (compareDotted(connection.hello.version, kVersion) < 0) return "would be upgraded";
  return force ? "would be installed anew" : "is there already";
}

Result<int> runBootstrap(Context& context, const std::vector<std::string>& names, bool force) {
  CCTL_TRY(const std::vector<HostName> hosts, hostsNamed(context, names));
  CCTL_TRY(ops::Fleet * fleet, context.fleet(force));
  const bool dry_run = context.globals().dry_run;
  if (!dry_run)
    context.progress().phase(fmt::format("placing the shim on {}", counted(hosts.size(), "host")));
  fleet->begin(hosts, ops::Need::kPlaced);
  const auto results = fleet->awaitAll(hosts);
  Json list = Json::array();
  Table table({"HOST", "SHIM", "ROOT", "DETAIL"});
  size_t good = 0;
  for (const HostName& host : hosts) {
    const auto& result = results.at(host);
    if (result) {
      ++good;
      const ops::HostConnection& connection = **result;
      const std::string what = placingText(connection, dry_run, force);
      table.add(
          {host.str(), connection.bare ? "-" : connection.hello.version, connection.root, what});
      list.push_back({{"host", host.str()},
                      {"version", connection.hello.version},
                      {"root", connection.root},
                      {"placed", connection.placed},
                      {"detail", what},
                      {"advertise", connection.hello.advertise}});
    } else {
      table.add({host.str(), "-", "-", result.error().message}, Style::kBad);
      list.push_back({{"host", host.str()}, {"error", result.error().message}});
    }
  }
  if (context.json())
    context.printJson({{"format", 1}, {"hosts", list}});
  else
    context.print(table.text(context.painter()) +
                  (dry_run ? std::string("dry run, nothing was changed\n")
                           : fmt::format("{} of {} ready\n", good, counted(hosts.size(), "host"))));
  return exitCodeOfAll(results);
}

Run defineBootstrap(CLI::App& app) {
  auto names = std::make_shared<std::vector<std::string>>();
  auto force = std::make_shared<bool>(false);
  app.add_option("HOST", *names, "Hosts, groups or node sets (default: all)");
  app.add_flag("--force", *force, "Run the installer even where all is in place");
  return [names, force](Context& context) { return runBootstrap(context, *names, *force); };
}

// ---- unbootstrap -----------------------------------------------------------------------------

// What would go from each host.
Result<int> describeUnbootstrap(Context& context, const std::vector<HostName>& hosts) {
  CCTL_TRY(ops::Fleet * fleet, context.fleet());
  fleet->begin(hosts, ops::Need::kShim);
  std::map<HostName, Result<ops::HostReport>> results;
  Json list = Json::array();
  std::string text;
  for (const HostName& host : hosts) {
    const auto look = [&]() -> Result<ops::HostReport> {
      CCTL_TRY(ops::HostConnection * connection, fleet->await(host));
      if (connection->asleep)
        return fail(Code::kFailed,
                    "{0}: the shim would be taken off; it does not run, and what it has is known "
                    "only to it: 'clusterctl bootstrap {0}' starts it",
                    host);
      if (connection->bare) return fail(Code::kFailed, "{}: no shim is there", host);
      return ops::probeHostStatus(*connection, "", &context.cancel());
    };
    auto report = look();
    std::set<std::string> instances;
    for (const auto& one : report ? report->instances : std::vector<protocol::InstanceStatus>())
      instances.insert(fmt::format("{}/{}", one.service, one.index));
    if (report)
      text += fmt::format(
          "{}: the shim and {} would be taken off\n", host,
          instances.empty() ? "no instance" : foldNodeSet({instances.begin(), instances.end()}));
    else
      context.progress().onEvent({ops::OpEventKind::kFailure, "", report.error().message, {}});
    list.push_back({{"host", host.str()},
                    {"instances", instances},
                    {"error", report ? Json() : Json(report.error().message)}});
    results.emplace(host, std::move(report));
  }
  if (context.json())
    context.printJson({{"format", 1}, {"dry_run", true}, {"hosts", list}});
  else
    context.print(text + "dry run, nothing was changed\n");
  return exitCodeOfAll(results);
}

Result<int> runUnbootstrap(Context& context, const std::string& name) {
  CCTL_TRY(const std::vector<HostName> hosts, hostsNamed(context, {name}));
  if (context.globals().dry_run) return describeUnbootstrap(context, hosts);
  CCTL_CHECK(context.confirm(fmt::format("Take the shim and all services of cluster \"{}\" off {}?",
                                         (*context.inventory())->cluster, foldHosts(hosts))));
  CCTL_TRY(ops::Fleet * fleet, context.fleet());
  fleet->begin(hosts, ops::Need::kSession);
  std::map<HostName, Result<ssh::ExecResult>> results;
  for (const HostName& host : hosts) {
    auto connection = fleet->await(host);
    if (!connection) {
      results.emplace(host, fail(connection.error()));
      continue;
    }
    const bool sudo = (*context.inventory())->hosts.at(host).ssh.become == Become::kSudo;
    ssh::ExecRequest request;
    request.command = ssh::shScript(
        "r=$1; case $r in '~'/*) r=$HOME/${r#'~'/};; esac; "
        "[ -e \"$r/shim/current\" ] || { echo 'no shim is there' >&2; exit 3; }; " +
            std::string(sudo ? "sudo -n " : "") +
            "\"$r/shim/current\" uninstall --root \"$r\" --stop-services",
        {(*connection)->root});
    auto result =
        (*connection)->link->exec(request, Deadline::in(Millis(120'000)), &context.cancel());
    if (result && result->exit_status != 0)
      result = fail(Code::kFailed, "{}: {}", host, printable(result->err));
    if (result) context.progress().step(host.str(), "shim and services taken off");
    results.emplace(host, std::move(result));
  }
  size_t good = 0;
  Json list = Json::array();
  for (const auto& [host, result] : results) {
    Json json = {{"host", host.str()}, {"cleared", result.has_value()}};
    if (result)
      ++good;
    else
      context.progress().onEvent({ops::OpEventKind::kFailure, "", result.error().message, {}});
    if (!result) json["error"] = result.error().message;
    list.push_back(json);
  }
  if (context.json())
    context.printJson({{"format", 1}, {"hosts", list}});
  else
    context.print(fmt::format("{} of {} cleared\n", good, counted(hosts.size(), "host")));
  return exitCodeOfAll(results);
}

Run defineUnbootstrap(CLI::App& app) {
  auto name = std::make_shared<std::string>();
  app.add_option("HOST", *name, "Host, group or node set")->required();
  return [name](Context& context) { return runUnbootstrap(context, *name); };
}

// ---- exec ------------------------------------------------------------------------------------

using ExecResults = std::map<HostName, Result<ssh::ExecResult>>;

ExecResults execOnAll(Context& context, ops::Fleet& fleet, const std::vector<HostName>& hosts,
                      const std::string& command, Deadline deadline) {
  ssh::FanOutOptions options;
  options.forks = static_cast<size_t>(context.globals().forks);
  options.cancel = &context.cancel();
  options.on_late = [&](size_t i, Millis elapsed) {
    context.progress().onEvent({ops::OpEventKind::kLate,
                                hosts[i].str(),
                                fmt::format("not finished after {}", humanDuration(elapsed)),
                                {}});
  };
  auto results = ssh::forEachHost<ssh::ExecResult>(
      hosts.size(), options, [&](size_t i) -> Result<ssh::ExecResult> {
        CCTL_TRY(ops::HostConnection * connection, fleet.await(hosts[i]));
        ssh::ExecRequest request;
        request.command = command;
        return connection->link->exec(request, deadline, &context.cancel());
      });
  ExecResults named;
  for (size_t i = 0; i < hosts.size(); ++i) named.emplace(hosts[i], std::move(results[i]));
  return named;
}

std::string outputText(const Result<ssh::ExecResult>& result) {
  if (!result) return "cannot be used: " + result.error().message;
  std::string text = result->out;
  if (!result->err.empty()) text += (text.empty() || text.back() == '\n' ? "" : "\n") + result->err;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  if (result->exit_status != 0) {
    const std::string how = result->signal ? "signal " + *result->signal
                                           : fmt::format("exit status {}", result->exit_status);
    text += fmt::format("{}[{}]", text.empty() ? "" : "\n", how);
  }
  return text;
}

// Hosts with the same output share one block.
std::string foldedText(const ExecResults& results, const std::vector<HostName>& order,
                       const Painter& painter) {
  std::vector<std::pair<std::string, std::vector<std::string>>> blocks;
  for (const HostName& host : order) {
    const std::string text = outputText(results.at(host));
    auto found =
        std::find_if(blocks.begin(), blocks.end(), [&](const auto& b) { return b.first == text; });
    if (found == blocks.end()) found = blocks.insert(blocks.end(), {text, {}});
    found->second.push_back(host.str());
  }
  std::string out;
  for (const auto& [text, hosts] : blocks) {
    const std::string head = painter.paint(Style::kBold, foldNodeSet(hosts) + ":");
    const bool short_one = text.find('\n') == std::string::npos;
    out += short_one ? fmt::format("{} {}\n", head, printable(text))
                     : fmt::format("{}\n{}\n", head, printable(text));
  }
  return out;
}

Json execJson(const ExecResults& results, const std::vector<HostName>& order) {
  Json list = Json::array();
  for (const HostName& host : order) {
    const auto& result = results.at(host);
    if (result)
      list.push_back({{"host", host.str()},
                      {"exit", result->exit_status},
                      {"signal", result->signal ? Json(*result->signal) : Json()},
                      {"stdout", result->out},
                      {"stderr", result->err},
                      {"truncated", result->truncated}});
    else
      list.push_back({{"host", host.str()}, {"exit", nullptr}, {"error", result.error().message}});
  }
  return {{"format", 1}, {"hosts", list}};
}

int execExitCode(const ExecResults& results) {
  for (const auto& [host, result] : results)
    if (result && result->exit_status != 0) return kExitFailed;
  return exitCodeOfAll(results);
}

Result<int> runExec(Context& context, const std::string& hosts_text,
                    const std::vector<std::string>& words) {
  CCTL_TRY(const Inventory* inventory, context.inventory());
  CCTL_TRY(const std::vector<HostName> hosts, selectHosts(*inventory, hosts_text));
  Deadline deadline = Deadline::never();
  if (!context.globals().timeout.empty()) {
    CCTL_TRY(const Millis timeout, parseDuration(context.globals().timeout));
    deadline = Deadline::in(timeout);
  }
  // One word is a command line for the shell there, as with ssh; several are passed on as they are.
  const std::string command = words.size() == 1 ? words[0] : ssh::shellJoin(words);
  if (context.globals().dry_run) {
    context.printDryRun(fmt::format("run on {}: {}", foldHosts(hosts), command));
    return kExitOk;
  }
  CCTL_TRY(ops::Fleet * fleet, context.fleet());
  fleet->begin(hosts, ops::Need::kSession);
  const ExecResults results = execOnAll(context, *fleet, hosts, command, deadline);
  context.printEither(execJson(results, hosts), foldedText(results, hosts, context.painter()));
  return execExitCode(results);
}

Run defineExec(CLI::App& app) {
  auto hosts = std::make_shared<std::string>();
  auto words = std::make_shared<std::vector<std::string>>();
  app.add_option("HOSTS", *hosts, "Hosts, groups, node sets, \"all\"; commas between")->required();
  app.add_option("CMD", *words, "The command, after --")->required();
  return [hosts, words](Context& context) { return runExec(context, *hosts, *words); };
}

}  // namespace

std::vector<Command> hostCommands() {
  return {
      {"ping", "Reach every host over SSH", "Hosts", definePing, {}},
      {"bootstrap",
       "Place or upgrade the shim, start it, start it at boot",
       "Hosts",
       defineBootstrap,
       {}},
      {"unbootstrap", "Take the shim and its services off a host", "Hosts", defineUnbootstrap, {}},
      {"exec",
       "Run a command on many hosts; equal outputs are folded",
       "Hosts",
       defineExec,
       {},
       true},
  };
}

}  // namespace cctl::cli
