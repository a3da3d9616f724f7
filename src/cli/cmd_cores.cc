// cores
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/exit_codes.h"
#include "cli/report.h"
#include "model/signals.h"
#include "ops/cores.h"
#include "ops/probe.h"
#include "transport/fan_out.h"
#include "transport/shell_quote.h"

namespace cctl::cli {
namespace {

struct CoresOptions {
  std::string target;
  std::string directory;  // of --fetch; empty: list
  std::string core;
};

struct FoundCore {
  HostName host;
  protocol::Core core;
};

struct CoresView {
  std::vector<HostName> hosts;
  std::vector<FoundCore> cores;  // newest first
  ops::HostErrors errors;
};

std::string instanceOf(const protocol::Core& core) {
  return fmt::format("{}/{}", core.service, core.index);
}

Result<CoresView> findCores(Context& context, const std::optional<Target>& target) {
  CoresView view;
  CCTL_TRY(view.hosts, context.limitedHosts());
  CCTL_TRY(ops::Fleet * fleet, context.fleet());
  fleet->begin(view.hosts, ops::Need::kShim);
  (void)fleet->awaitAll(view.hosts);  // tells of those that are late; asked for again below
  using Cores = std::vector<protocol::Core>;
  ssh::FanOutOptions fan_out;
  fan_out.forks = fleet->forks();
  const auto results =
      ssh::forEachHost<Cores>(view.hosts.size(), fan_out, [&](size_t i) -> Result<Cores> {
        CCTL_TRY(ops::HostConnection * host, fleet->await(view.hosts[i]));
        return ops::listCores(*host, target ? target->service.str() : "", &context.cancel());
      });
  for (size_t i = 0; i < results.size(); ++i) {
    if (!results[i]) {
      view.errors.emplace(view.hosts[i], results[i].error());
      continue;
    }
    for (const protocol::Core& core : *results[i])
      if (!target || target->covers({ServiceName(core.service), core.index}))
        view.cores.push_back({view.hosts[i], core});
  }
  std::stable_sort(view.cores.begin(), view.cores.end(),
                   [](const FoundCore& a, const FoundCore& b) { return a.core.at > b.core.at; });
  return view;
}

int exitCodeOfView(Context& context, const CoresView& view) {
  if (context.cancel().cancelled()) return kExitInterrupted;
  int code = kExitOk;
  for (const auto& [host, error] : view.errors) {
    if (error.code != Code::kUnreachable) return kExitFailed;
    code = kExitUnreachable;
  }
  return code;
}

// ---- list ------------------------------------------------------------------------------------

Json coreJson(const FoundCore& found) {
  Json json = protocol::encode(found.core);
  json["instance"] = instanceOf(found.core), json["host"] = found.host.str();
  return json;
}

void printJson(Context& context, const CoresView& view) {
  Json cores = Json::array(), errors = Json::array();
  for (const FoundCore& found : view.cores) cores.push_back(coreJson(found));
  for (const auto& [host, error] : view.errors)
    errors.push_back({{"host", host.str()}, {"error", error.message}});
  context.printJson({{"format", 1}, {"cores", cores}, {"errors", errors}});
}

void printTable(Context& context, const CoresView& view) {
  Table table({"INSTANCE", "HOST", "TIME", "VERSION", "SIGNAL", "SIZE", "FILE"});
  for (const auto& [host, core] : view.cores)
    table.add({instanceOf(core), host.str(), formatTime(core.at),
               core.version.empty() ? "-" : core.version,
               core.signal > 0 ? signalName(core.signal) : "-", humanSize(core.size),
               printable(core.name)});
  std::string text = table.empty() ? "" : table.text(context.painter());
  for (const auto& [host, error] : view.errors)
    text += context.painter().paint(Style::kBad, printable(error.message)) + "\n";
  context.print(text + fmt::format("{} on {} of {}\n", counted(view.cores.size(), "core"),
                                   view.hosts.size() - view.errors.size(),
                                   counted(view.hosts.size(), "host")));
}

Result<int> listAll(Context& context, const std::optional<Target>& target) {
  CCTL_TRY(const CoresView view, findCores(context, target));
  if (target && view.cores.empty()) {  // of what was retired there may be some
    CCTL_TRY(const Inventory* inventory, context.inventory());
    CCTL_CHECK(inventory->service(target->service.str()));
  }
  if (context.json())
    printJson(context, view);
  else
    printTable(context, view);
  return exitCodeOfView(context, view);
}

// ---- fetch -----------------------------------------------------------------------------------

// Where the kernel of a host gives cores away, how to get at the newest one of the service.
std::string adviceFor(Context& context, ops::HostConnection& host, const Target& target) {
  const auto reply = host.shim->call<protocol::DoctorReply>(
      protocol::DoctorRequest{}, Deadline::in(ops::kRequestTimeout), &context.cancel());
  if (!reply || !reply->core_pattern.starts_with('|')) return {};
  const std::string& pattern = reply->core_pattern;
  if (pattern.find("systemd-coredump") == std::string::npos)
    return fmt::format("\n  {}: core_pattern gives cores to \"{}\": look there", host.name,
                       printable(pattern));
  std::string which = "PID";
  if (const auto report = ops::probeHostStatus(host, target.service.str(), &context.cancel()))
    for (const protocol::InstanceStatus& status : report->instances)
      if (status.last_exit && status.last_exit->core &&
          target.covers({target.service, status.index}))
        which = std::to_string(status.last_exit->pid);
  return fmt::format(
      "\n  {}: core_pattern gives cores to systemd-coredump: clusterctl exec {} -- "
      "sudo coredumpctl dump {} -o /tmp/core.{}",
      host.name, host.name, which, which);
}

Error nothingToFetch(Context& context, const CoresView& view, const CoresOptions& options,
                     const Target& target) {
  if (!options.core.empty() && !view.cores.empty())
    return {Code::kNotFound, fmt::format("{}: no core {}; `clusterctl cores {}` lists them",
                                         target.text(), options.core, target.text())};
  std::string text = fmt::format("{}: no core on {}", target.text(), foldHosts(view.hosts));
  for (const HostName& name : view.hosts)
    if (auto host = (*context.fleet())->await(name)) text += adviceFor(context, **host, target);
  for (const auto& [host, error] : view.errors) text += "\n  " + error.message;
  const auto& services = (*context.inventory())->services;
  if (const auto at = services.find(target.service);
      at != services.end() && at->second.limits.core.value_or(0) == 0)
    text += fmt::format("\n  its manifest does not ask for cores: {}: limits: {{core: unlimited}}",
                        at->second.where.file);
  return {Code::kNotFound, text};
}

std::string gdbLine(const ops::FetchedCore& fetched) {
  std::string line = "gdb";
  if (!fetched.program.empty()) line += " " + ssh::shellQuote(fetched.program);
  line += (fetched.program.empty() ? " -c " : " ") + ssh::shellQuote(fetched.core);
  if (!fetched.lib_dir.empty())
    line += " -ex " + ssh::shellQuote("set solib-search-path " + fetched.lib_dir);
  return line;
}

int reportFetched(Context& context, const FoundCore& found, const ops::FetchedCore& fetched) {
  if (!fetched.trouble.empty()) context.progress().warning(instanceOf(found.core), fetched.trouble);
  if (context.json()) {
    Json json = coreJson(found);
    json["format"] = 1, json["core"] = fetched.core, json["program"] = fetched.program;
    json["lib_dir"] = fetched.lib_dir, json["gdb"] = gdbLine(fetched);
    json["trouble"] = fetched.trouble;
    context.printJson(json);
  } else {
    context.print(fmt::format("{} of {} on {}: {}\n{}\n", printable(found.core.name),
                              instanceOf(found.core), found.host, humanSize(found.core.size),
                              gdbLine(fetched)));
  }
  return fetched.trouble.empty() ? kExitOk : kExitFailed;
}

Result<int> fetchOne(Context& context, const Target& target, const CoresOptions& options) {
  CCTL_TRY(const CoresView view, findCores(context, target));
  const auto found = std::find_if(view.cores.begin(), view.cores.end(), [&](const FoundCore& one) {
    return options.core.empty() || one.core.name == options.core;
  });
  if (found == view.cores.end()) return fail(nothingToFetch(context, view, options, target));
  if (context.globals().dry_run) {
    context.printDryRun(fmt::format("fetch {} of {} from {}, {}", printable(found->core.name),
                                    instanceOf(found->core), found->host,
                                    humanSize(found->core.size)));
    return kExitOk;
  }
  for (const auto& [host, error] : view.errors)
    context.progress().warning(host.str(), "left out: " + error.message);
  CCTL_TRY(ops::HostConnection * host, (*context.fleet())->await(found->host));
  context.progress().phase(
      fmt::format("fetching {} from {}", humanSize(found->core.size), found->host));
  const release::ReleaseStore store((*context.inventory())->releases);
  CCTL_TRY(const ops::FetchedCore fetched,
           ops::fetchCore(*host, found->core, store, options.directory, &context.cancel()));
  return reportFetched(context, *found, fetched);
}

Result<int> runCores(Context& context, const CoresOptions& options) {
  std::optional<Target> target;
  if (!options.target.empty()) {
    CCTL_TRY(target, asUsage(parseTarget(options.target)));
    CCTL_TRY(const Inventory* inventory, context.inventory());
    CCTL_CHECK(inventory->service(target->service.str()));
  }
  if (options.directory.empty() && options.core.empty()) return listAll(context, target);
  if (options.directory.empty()) return fail(Code::kUsage, "--core goes with --fetch DIR");
  if (!target) return fail(Code::kUsage, "--fetch wants a TARGET: SERVICE or SERVICE/INDEX");
  return fetchOne(context, *target, options);
}

Run defineCores(CLI::App& app) {
  auto options = std::make_shared<CoresOptions>();
  app.add_option("TARGET", options->target, "SERVICE or SERVICE/INDEX (default: everything)");
  app.add_option("--fetch", options->directory,
                 "Bring the newest core and the program that made it into this directory");
  app.add_option("--core", options->core, "With --fetch: this one, by the name in the list");
  return [options](Context& context) { return runCores(context, *options); };
}

}  // namespace

std::vector<Command> coreCommands() {
  return {{"cores",
           "Core files of crashes; bring one here with its program",
           "Watch",
           defineCores,
           {}}};
}

}  // namespace cctl::cli
