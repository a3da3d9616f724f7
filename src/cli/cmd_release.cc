// release add|list|show, and verify of what is installed and running
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/exit_codes.h"
#include "cli/report.h"
#include "ops/inspect.h"
#include "ops/prune.h"
#include "release/needs.h"
#include "release/release_store.h"
#include "transport/fan_out.h"

namespace cctl::cli {
namespace {

struct ReleaseOptions {
  std::string service, version, path;
};

Result<release::ReleaseStore> storeOf(Context& context) {
  CCTL_TRY(const Inventory* inventory, context.inventory());
  return release::ReleaseStore(inventory->releases);
}

uint64_t sizeOf(const ReleaseInfo& info) {
  uint64_t size = 0;
  for (const FileEntry& file : info.files) size += file.size;
  return size;
}

Json releaseJson(const ReleaseInfo& info) {
  Json files = Json::array();
  for (const FileEntry& file : info.files)
    files.push_back({{"path", file.path},
                     {"sha256", file.sha256},
                     {"size", file.size},
                     {"mode", fmt::format("{:04o}", file.mode)},
                     {"link", file.link_target}});
  return {{"service", info.service.str()}, {"version", info.version.str()}, {"digest", info.digest},
          {"size", sizeOf(info)},          {"static", info.isStatic()},     {"files", files}};
}

Result<int> runAdd(Context& context, const ReleaseOptions& options) {
  CCTL_TRY(const ServiceName service, asUsage(parseServiceName(options.service)));
  CCTL_TRY(const Version version, asUsage(parseVersion(options.version)));
  CCTL_TRY(const release::ReleaseStore store, storeOf(context));
  if (!(*context.inventory())->findService(service))
    context.progress().warning(service.str(), "the inventory has no manifest of this service yet");
  const bool dry_run = context.globals().dry_run;
  const release::AddOptions how{SystemClock().wall(), &context.cancel(), dry_run};
  CCTL_TRY(const release::AddOutcome outcome, store.add(service, version, options.path, how));
  for (const std::string& warning : outcome.warnings) context.progress().warning("", warning);
  if (context.json()) {
    Json json = releaseJson(outcome.release);
    json["format"] = 1, json["already"] = outcome.already, json["warnings"] = outcome.warnings;
    context.printJson(json);
    return 0;
  }
  context.print(fmt::format(
      "{} {}: {}, {}, {} ({})\n", service, version, counted(outcome.release.files.size(), "file"),
      humanSize(sizeOf(outcome.release)), outcome.release.digest.substr(0, 16),
      outcome.already ? "the same content was there already"
      : dry_run       ? "would be added"
                      : "added"));
  return 0;
}

Run defineAdd(CLI::App& app) {
  auto options = std::make_shared<ReleaseOptions>();
  app.add_option("SERVICE", options->service, "Service")->required();
  app.add_option("VERSION", options->version, "Version: once added it never changes")->required();
  app.add_option("PATH", options->path, "Directory (its content becomes the release) or file")
      ->required();
  return [options](Context& context) { return runAdd(context, *options); };
}

Result<int> runList(Context& context, const ReleaseOptions& options) {
  CCTL_TRY(const release::ReleaseStore store, storeOf(context));
  std::optional<ServiceName> service;
  if (!options.service.empty()) {
    CCTL_TRY(service, asUsage(parseServiceName(options.service)));
  }
  CCTL_TRY(const release::StoreListing listing, store.list(service));
  Json list = Json::array();
  Table table({"SERVICE", "VERSION", "FILES", "SIZE", "DIGEST"});
  for (const ReleaseInfo& info : listing.releases) {
    table.add({info.service.str(), info.version.str(), std::to_string(info.files.size()),
               humanSize(sizeOf(info)), info.digest.substr(0, 16)});
    list.push_back(releaseJson(info));
  }
  for (const Error& problem : listing.problems)
    context.progress().onEvent({ops::OpEventKind::kFailure, "", problem.message, {}});
  if (context.json())
    context.printJson({{"format", 1}, {"releases", list}});
  else if (table.empty())
    context.print(fmt::format(
        "{} holds no release{}; add one with 'clusterctl release add {} VERSION PATH'\n",
        store.directory(), service ? " of " + service->str() : std::string("s"),
        service ? service->str() : "SERVICE"));
  else
    context.print(table.text(context.painter()));
  return listing.problems.empty() ? kExitOk : kExitError;
}

Run defineList(CLI::App& app) {
  auto options = std::make_shared<ReleaseOptions>();
  app.add_option("SERVICE", options->service, "Only of this service");
  return [options](Context& context) { return runList(context, *options); };
}

Result<ReleaseInfo> loadNamed(const release::ReleaseStore& store, const ReleaseOptions& options) {
  CCTL_TRY(const ServiceName service, asUsage(parseServiceName(options.service)));
  CCTL_TRY(const Version version, asUsage(parseVersion(options.version)));
  return store.load(service, version);
}

std::string showText(const release::ReleaseStore& store, const ReleaseInfo& info) {
  std::string text = fmt::format("{} {}\n  digest  {}\n  size    {} in {}\n  files   {}\n",
                                 info.service, info.version, info.digest, humanSize(sizeOf(info)),
                                 counted(info.files.size(), "file"),
                                 store.filesDirectory(info.service, info.version));
  if (const auto needs = release::releaseNeeds(info)) {
    text += fmt::format("  needs   {}", needs->machine.empty() ? "any machine" : needs->machine);
    if (!needs->glibc.empty()) text += fmt::format(", glibc {} or newer", needs->glibc);
    for (const std::string& library : needs->libraries) text += ", " + library;
    text += info.isStatic() ? ", static\n" : "\n";
  }
  for (const FileEntry& file : info.files)
    text += file.isLink() ? fmt::format("  {} -> {}\n", file.path, file.link_target)
                          : fmt::format("  {:04o} {:>10}  {}  {}\n", file.mode, file.size,
                                        file.sha256.substr(0, 16), file.path);
  return text;
}

Result<int> runShow(Context& context, const ReleaseOptions& options) {
  CCTL_TRY(const release::ReleaseStore store, storeOf(context));
  CCTL_TRY(const ReleaseInfo info, loadNamed(store, options));
  if (context.json()) {
    Json json = releaseJson(info);
    json["format"] = 1;
    context.printJson(json);
  } else {
    context.print(showText(store, info));
  }
  return 0;
}

std::function<Run(CLI::App&)> defineNamed(Result<int> (*run)(Context&, const ReleaseOptions&)) {
  return [run](CLI::App& app) -> Run {
    auto options = std::make_shared<ReleaseOptions>();
    app.add_option("SERVICE", options->service, "Service")->required();
    app.add_option("VERSION", options->version, "Version")->required();
    return [options, run](Context& context) { return run(context, *options); };
  };
}

// ---- prune -----------------------------------------------------------------------------------

struct PruneOptions {
  std::string service;
  size_t keep = 3;
};

Json pruneJson(const ServiceName& service, const ops::PruneOutcome& outcome) {
  Json removed = Json::array(), kept = Json::array(), unreachable = Json::array();
  for (const auto& item : outcome.items)
    (item.kept_by.empty() ? removed : kept)
        .push_back({{"where", item.where},
                    {"version", item.version},
                    {"size", item.size},
                    {"kept_by", item.kept_by}});
  for (const auto& [host, error] : outcome.unreachable) unreachable.push_back(host.str());
  return {{"service", service.str()},
          {"removed", removed},
          {"kept", kept},
          {"specs", outcome.specs},
          {"unreachable_hosts", unreachable}};
}

std::string pruneText(const ServiceName& service, const ops::PruneOutcome& outcome, bool dry_run) {
  std::string text;
  uint64_t size = 0;
  size_t count = 0;
  for (const auto& item : outcome.items) {
    const bool kept = !item.kept_by.empty();
    text += fmt::format("{} {} in {}: {}\n", service, item.version, item.where,
                        kept      ? "stays, " + item.kept_by
                        : dry_run ? "would go"
                                  : "removed");
    if (!kept) size += item.size, ++count;
  }
  for (const auto& [host, error] : outcome.unreachable)
    text += fmt::format("{}: not pruned, and so neither is the local store: {}\n", host,
                        printable(error.message));
  return text + fmt::format("{}: {} and {} {}, {}\n", service, counted(count, "release"),
                            counted(static_cast<size_t>(outcome.specs), "spec"),
                            dry_run ? "would go" : "removed", humanSize(size));
}

Result<int> runPrune(Context& context, const PruneOptions& options) {
  CCTL_TRY(const Inventory* inventory, context.inventory());
  std::vector<ServiceName> services;
  for (const auto& [name, manifest] : inventory->services)
    if (options.service.empty() || name.str() == options.service) services.push_back(name);
  if (services.empty()) CCTL_CHECK(inventory->service(options.service));
  if (!context.globals().dry_run)
    CCTL_CHECK(context.confirm(fmt::format(
        "Remove releases of {} that nothing runs or goes back to, here and on every host?",
        options.service.empty() ? "all services" : options.service)));
  CCTL_TRY(const Millis wait, context.lockWait());
  CCTL_TRY(ops::Operation * operation, context.operation());
  const bool dry_run = context.globals().dry_run;
  int code = kExitOk;
  Json list = Json::array();
  for (const ServiceName& service : services) {
    CCTL_TRY(const ops::PruneOutcome outcome,
             ops::prune(*operation, {service, options.keep, dry_run, wait}));
    if (!outcome.unreachable.empty()) code = kExitUnreachable;
    if (context.json())
      list.push_back(pruneJson(service, outcome));
    else
      context.print(pruneText(service, outcome, dry_run));
  }
  if (context.json()) context.printJson({{"format", 1}, {"dry_run", dry_run}, {"services", list}});
  return code;
}

Run definePrune(CLI::App& app) {
  auto options = std::make_shared<PruneOptions>();
  app.add_option("SERVICE", options->service, "Only of this service");
  app.add_option("--keep", options->keep,
                 "So many of the newest in the local store, and of the newest good ones, stay (3)");
  return [options](Context& context) { return runPrune(context, *options); };
}

// ---- verify ----------------------------------------------------------------------------------

// What one line of `verify` says of an installed release or a running process.
struct Verdict {
  bool good = true;
  std::string text;
};

// Against the shim's own record, and against the release of the local store where there is one.
Verdict judge(const release::ReleaseStore& store, const protocol::VerifyItem& item) {
  if (!item.problems.empty()) {
    std::string text;
    for (const std::string& problem : item.problems) text += (text.empty() ? "" : "; ") + problem;
    return {false, text};
  }
  const auto local = store.load(ServiceName(item.service), Version(item.version));
  if (!local) return {true, "exact (by the host's own record: not in the local store)"};
  if (local->digest != item.digest)
    return {false, "another release than the local store's under this version"};
  return {true, "exact"};
}

std::string subjectOf(const protocol::VerifyItem& item) {
  return item.index ? fmt::format("{}/{} pid {}", item.service, *item.index, item.pid)
                    : item.service;
}

Result<int> runVerify(Context& context, const std::string& service) {
  CCTL_TRY(const release::ReleaseStore store, storeOf(context));
  if (!service.empty()) CCTL_CHECK((*context.inventory())->service(service));
  CCTL_TRY(const std::vector<HostName> hosts, context.limitedHosts());
  CCTL_TRY(ops::Fleet * fleet, context.fleet());
  fleet->begin(hosts, ops::Need::kShim);
  ssh::FanOutOptions fan_out;
  fan_out.forks = fleet->forks();
  using Items = std::vector<protocol::VerifyItem>;
  const auto results =
      ssh::forEachHost<Items>(hosts.size(), fan_out, [&](size_t i) -> Result<Items> {
        CCTL_TRY(ops::HostConnection * connection, fleet->await(hosts[i]));
        return ops::verifyHost(*connection, service, &context.cancel());
      });
  Json list = Json::array();
  Table table({"HOST", "WHAT", "VERSION", "RESULT"});
  size_t bad = 0, unreachable = 0, checked = 0;
  for (size_t i = 0; i < hosts.size(); ++i) {
    if (!results[i]) {
      ++unreachable;
      table.add({hosts[i].str(), "-", "-", results[i].error().message}, Style::kBad);
      list.push_back({{"host", hosts[i].str()}, {"error", results[i].error().message}});
      continue;
    }
    for (const protocol::VerifyItem& item : *results[i]) {
      const Verdict verdict = judge(store, item);
      ++checked, bad += verdict.good ? 0 : 1;
      table.add({hosts[i].str(), subjectOf(item), item.version, verdict.text},
                verdict.good ? Style::kPlain : Style::kBad);
      Json json = protocol::encode(item);
      json["host"] = hosts[i].str(), json["exact"] = verdict.good, json["result"] = verdict.text;
      list.push_back(json);
    }
  }
  if (context.json())
    context.printJson({{"format", 1}, {"items", list}});
  else
    context.print(table.text(context.painter()) +
                  fmt::format("{} checked, {} not exact, {} unreachable\n", checked, bad,
                              counted(unreachable, "host")));
  if (bad > 0) return kExitRefused;
  return unreachable > 0 ? kExitUnreachable : kExitOk;
}

Run defineVerify(CLI::App& app) {
  auto service = std::make_shared<std::string>();
  app.add_option("SERVICE", *service, "Only this service");
  return [service](Context& context) { return runVerify(context, *service); };
}

}  // namespace

std::vector<Command> releaseCommands() {
  std::vector<Command> store = {
      {"add", "Add a directory or a file as a version", "", defineAdd, {}},
      {"list", "List what is there", "", defineList, {}},
      {"show", "Show one release: files, digests, what it needs", "", defineNamed(runShow), {}},
      {"prune", "Remove releases that nothing runs or goes back to", "", definePrune, {}}};
  for (Command& command : signOffCommands()) store.push_back(std::move(command));
  return {
      {"release", "The store of immutable, digested, signed releases", "Releases", {}, store},
      {"verify",
       "Check what is installed and what runs, on every host, by digest",
       "Releases",
       defineVerify,
       {}},
  };
}

}  // namespace cctl::cli
