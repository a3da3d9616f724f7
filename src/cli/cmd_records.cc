// lock, history, deps: who is at work, who did what, who depends on whom
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/exit_codes.h"
#include "cli/report.h"
#include "model/dependency_graph.h"
#include "ops/change.h"

namespace cctl::cli {
namespace {

// The registers alone: nothing is placed and no other host is waited for.
Result<ops::Operation*> registersOnly(Context& context) {
  CCTL_TRY(ops::Operation * operation, context.operation());
  operation->fleet.begin(operation->inventory().registry_hosts, ops::Need::kShim);
  return operation;
}

Json changeJson(const ops::ChangeRecord& change) {
  return {{"who", change.identity.text()},
          {"login", change.identity.login},
          {"machine", change.identity.machine},
          {"pid", change.identity.pid},
          {"ci_job", change.identity.ci_job},
          {"command", change.command},
          {"action", change.action},
          {"since", formatTime(change.began)},
          {"from", change.from},
          {"to", change.to},
          {"signed_by", change.signed_by},
          {"operation", change.id}};
}

// ---- lock ------------------------------------------------------------------------------------

bool isGone(const ops::LockState& lock) {
  return ops::holderIsGone(lock.holder.identity, ops::currentIdentity());
}

Json lockJson(const ops::LockState& lock) {
  Json json = changeJson(lock.holder);
  json["service"] = lock.service;
  json["age_ms"] = lock.age.count();
  json["expired"] = lock.expired();
  json["expires_in_ms"] = std::max(Millis(0), ops::kLeaseDuration - lock.age).count();
  json["holder_gone"] = isGone(lock);
  return json;
}

std::string lockText(const ops::LockState& lock, WallTime now) {
  const ops::ChangeRecord& holder = lock.holder;
  std::string text =
      fmt::format("{}: {}@{}, pid {}, for {} (since {})\n  {}\n", lock.service,
                  printable(holder.identity.login), printable(holder.identity.machine),
                  holder.identity.pid, humanDuration(std::max(Millis(0), now - holder.began)),
                  formatTime(holder.began), printable(holder.command));
  if (!holder.identity.ci_job.empty())
    text += fmt::format("  CI job: {}\n", printable(holder.identity.ci_job));
  if (lock.expired())
    return text + fmt::format("  expired: last heard of {} ago; the next command takes it over\n",
                              humanDuration(lock.age));
  if (isGone(lock))
    return text +
           "  this process of this machine is gone; the next command takes the lock over at once\n";
  return text + fmt::format("  last heard of {} ago; expires in {} unless renewed\n",
                            humanDuration(lock.age), humanDuration(ops::kLeaseDuration - lock.age));
}

Result<std::vector<ops::LockState>> locksOf(ops::Operation& operation, const std::string& service) {
  if (service.empty()) return ops::readAllLocks(operation.registers);
  CCTL_TRY(const ServiceName name, asUsage(parseServiceName(service)));
  CCTL_TRY(auto lock, ops::readLock(operation.registers, name.str()));
  std::vector<ops::LockState> locks;
  if (lock) locks.push_back(std::move(*lock));
  // A lock may be of a service that left the inventory.
  if (locks.empty()) CCTL_CHECK(operation.inventory().service(service));
  return locks;
}

Result<int> runLockShow(Context& context, const std::string& service) {
  CCTL_TRY(ops::Operation * operation, registersOnly(context));
  CCTL_TRY(const auto locks, locksOf(*operation, service));
  if (context.json()) {
    Json list = Json::array();
    for (const ops::LockState& lock : locks) list.push_back(lockJson(lock));
    context.printJson(Json{{"format", 1}, {"locks", list}});
    return kExitOk;
  }
  std::string text;
  for (const ops::LockState& lock : locks) text += lockText(lock, SystemClock().wall());
  context.print(text.empty() ? "no operation is in progress\n" : text);
  return kExitOk;
}

Run defineLockShow(CLI::App& app) {
  auto service = std::make_shared<std::string>();
  app.add_option("SERVICE", *service, "Only the lock of this service");
  return [service](Context& context) { return runLockShow(context, *service); };
}

Result<int> runLockBreak(Context& context, const std::string& text) {
  CCTL_TRY(const ServiceName service, asUsage(parseServiceName(text)));
  CCTL_TRY(ops::Operation * operation, registersOnly(context));
  const auto lock = ops::readLock(operation->registers, service.str());
  if (lock && !*lock) return fail(Code::kNotFound, "{}: no operation is in progress", service);
  // One that cannot be read must still be broken.
  const std::string whose = lock ? ops::describeLock(**lock) : lock.error().message;
  if (!lock && lock.error().code != Code::kCorrupt) return fail(lock.error());
  if (context.globals().dry_run) {
    context.printDryRun(fmt::format("break the lock of {}: {}", service, whose));
    return kExitOk;
  }
  CCTL_CHECK(context.confirm(fmt::format(
      "Break the lock of {}, held by {}? Whatever it is doing stops half-way.", service, whose)));
  ops::ChangeRequest request{"lock break", {service}, Millis(0), "", true, true};
  CCTL_CHECK(ops::runChange(*operation, request,
                            [](ops::Change&) -> Result<ops::ChangeEnd> { return {}; }));
  if (context.json())
    context.printJson(Json{{"format", 1}, {"service", service.str()}, {"broken", whose}});
  else
    context.print(fmt::format("{}: the lock is free; see 'clusterctl status {}' for what stands\n",
                              service, service));
  return kExitOk;
}

Run defineLockBreak(CLI::App& app) {
  auto service = std::make_shared<std::string>();
  app.add_option("SERVICE", *service, "Service")->required();
  return [service](Context& context) { return runLockBreak(context, *service); };
}

// ---- history -----------------------------------------------------------------------------------

struct HistoryOptions {
  std::string service;
  uint64_t limit = 20;
};

struct ServiceHistory {
  ServiceName service;
  ops::History history;
};

Result<std::vector<ServiceHistory>> readHistories(Context& context, const HistoryOptions& options) {
  CCTL_TRY(ops::Operation * operation, registersOnly(context));
  std::vector<ServiceName> services;
  if (options.service.empty()) {
    CCTL_TRY(services, ops::servicesWithHistory(operation->registers));
  } else {
    CCTL_TRY(const ServiceName service, asUsage(parseServiceName(options.service)));
    services = {service};
  }
  std::vector<ServiceHistory> all;
  for (const ServiceName& service : services) {
    CCTL_TRY(ops::History history, ops::readHistory(operation->registers, service, options.limit));
    all.push_back({service, std::move(history)});
  }
  // What was retired has a history still.
  if (!options.service.empty() && all.front().history.entries.empty() &&
      all.front().history.problems.empty())
    CCTL_CHECK(operation->inventory().service(options.service));
  return all;
}

std::vector<const ops::HistoryEntry*> byTime(const std::vector<ServiceHistory>& all) {
  std::vector<const ops::HistoryEntry*> entries;
  for (const ServiceHistory& one : all)
    for (const ops::HistoryEntry& entry : one.history.entries) entries.push_back(&entry);
  std::stable_sort(entries.begin(), entries.end(),
                   [](const ops::HistoryEntry* a, const ops::HistoryEntry* b) {
                     return a->change.began < b->change.began;
                   });
  return entries;
}

std::string versionsText(const ops::ChangeRecord& change) {
  if (change.to.empty()) return "";
  return change.from.empty() || change.from == change.to
             ? " " + change.to
             : fmt::format(" {} → {}", change.from, change.to);
}

Style styleOf(ops::Ending ending) {
  if (ending == ops::Ending::kDone) return Style::kGood;
  return ending == ops::Ending::kRolledBack ? Style::kWarn : Style::kBad;
}

std::string entryText(const ops::HistoryEntry& entry, const Painter& painter) {
  const ops::ChangeRecord& change = entry.change;
  std::string text = fmt::format(
      "{} {}#{} {}{}: {} after {}, by {}\n", formatTime(change.began), entry.service, entry.number,
      change.action, printable(versionsText(change)),
      painter.paint(styleOf(entry.end.ending), std::string(ops::endingName(entry.end.ending))),
      humanDuration(std::max(Millis(0), entry.ended - change.began)),
      printable(change.identity.text()));
  text += fmt::format("  {}\n", printable(change.command));
  if (!entry.end.detail.empty()) text += fmt::format("  {}\n", printable(entry.end.detail));
  if (!change.signed_by.empty())
    text += fmt::format("  signed by {}\n",
                        printable(fmt::format("{}", fmt::join(change.signed_by, ", "))));
  if (!entry.recorded_by.empty())
    text += fmt::format("  recorded by {}\n", printable(entry.recorded_by));
  return text;
}

Json entryJson(const ops::HistoryEntry& entry) {
  Json json = changeJson(entry.change);
  json.erase("since");
  json["service"] = entry.service.str();
  json["number"] = entry.number;
  json["began"] = formatTime(entry.change.began);
  json["ended"] = formatTime(entry.ended);
  json["outcome"] = ops::endingName(entry.end.ending);
  json["detail"] = entry.end.detail;
  json["recorded_by"] = entry.recorded_by;
  json["digest"] = entry.digest;
  json["previous"] = entry.previous;
  return json;
}

void printHistoryJson(Context& context, const std::vector<ServiceHistory>& all) {
  Json entries = Json::array(), problems = Json::array();
  for (const ops::HistoryEntry* entry : byTime(all)) entries.push_back(entryJson(*entry));
  for (const ServiceHistory& one : all)
    for (const std::string& problem : one.history.problems)
      problems.push_back({{"service", one.service.str()}, {"problem", problem}});
  context.printJson(Json{
      {"format", 1}, {"entries", entries}, {"intact", problems.empty()}, {"problems", problems}});
}

std::string historyText(const std::vector<ServiceHistory>& all, const Painter& painter) {
  std::string text;
  const auto entries = byTime(all);
  for (const ops::HistoryEntry* entry : entries) text += entryText(*entry, painter);
  size_t problems = 0;
  for (const ServiceHistory& one : all)
    for (const std::string& problem : one.history.problems) {
      ++problems;
      text += painter.paint(Style::kBad,
                            fmt::format("{}: TAMPERED: {}", one.service, printable(problem))) +
              "\n";
    }
  if (entries.empty() && problems == 0) return "nothing was done yet\n";
  return text + fmt::format("{} {}, {}\n", entries.size(),
                            entries.size() == 1 ? "entry" : "entries",
                            problems == 0 ? "the chain holds" : "the chain is BROKEN");
}

// The chain is always checked; one that does not hold is not a success.
Result<int> runHistory(Context& context, const HistoryOptions& options) {
  CCTL_TRY(const auto all, readHistories(context, options));
  if (context.json())
    printHistoryJson(context, all);
  else
    context.print(historyText(all, context.painter()));
  const bool intact = std::all_of(all.begin(), all.end(), [](const ServiceHistory& one) {
    return one.history.problems.empty();
  });
  return intact ? kExitOk : kExitRefused;
}

Run defineHistory(CLI::App& app) {
  auto options = std::make_shared<HistoryOptions>();
  app.add_option("SERVICE", options->service, "Only this service");
  app.add_option("-n,--number", options->limit, "Newest entries of each service (default: 20)")
      ->check(CLI::Range(1, 1000));
  return [options](Context& context) { return runHistory(context, *options); };
}

// ---- deps ------------------------------------------------------------------------------------

struct DepsOptions {
  std::string service;
  bool reverse = false;
  bool dot = false;
};

Json namesJson(const std::vector<ServiceName>& names) {
  Json list = Json::array();
  for (const ServiceName& name : names) list.push_back(name.str());
  return list;
}

std::string namesText(const std::vector<ServiceName>& names) {
  std::vector<std::string> texts;
  for (const ServiceName& name : names) texts.push_back(name.str());
  return fmt::format("{}", fmt::join(texts, ", "));
}

std::vector<ServiceName> directOf(const ServiceMap& services, const ServiceName& name,
                                  bool reverse) {
  return reverse ? directDependants(services, name) : services.at(name).depends_on;
}

// The services that are shown: all, or one with everything that its arrows lead to.
std::set<ServiceName> shownServices(const ServiceMap& services, const DepsOptions& options) {
  std::set<ServiceName> shown;
  if (options.service.empty()) {
    for (const auto& [name, manifest] : services) shown.insert(name);
    return shown;
  }
  const ServiceName name(options.service);
  const auto reached =
      options.reverse ? allDependants(services, name) : allDependencies(services, name);
  shown.insert(reached.begin(), reached.end());
  shown.insert(name);
  return shown;
}

Json depsJson(const ServiceMap& services, const DepsOptions& options) {
  Json list = Json::array();
  const std::set<ServiceName> shown = shownServices(services, options);
  for (const ServiceName& name : shown) {
    Json on_change = Json::object();
    for (const auto& [other, action] : services.at(name).on_change)
      on_change[other.str()] = onChangeName(action);
    list.push_back({{"service", name.str()},
                    {"depends_on", namesJson(services.at(name).depends_on)},
                    {"dependants", namesJson(directDependants(services, name))},
                    {"on_change", on_change}});
  }
  return {{"format", 1},
          {"services", list},
          {"start_order", namesJson(startOrder(services, shown))},
          {"stop_order", namesJson(stopOrder(services, shown))}};
}

// An arrow goes from a service to what it needs.
std::string depsDot(const ServiceMap& services, const DepsOptions& options) {
  const std::set<ServiceName> shown = shownServices(services, options);
  std::string text = "digraph services {\n  rankdir=LR;\n";
  for (const ServiceName& name : shown) text += fmt::format("  \"{}\";\n", name);
  for (const ServiceName& name : shown)
    for (const ServiceName& needed : services.at(name).depends_on)
      if (shown.count(needed) != 0) text += fmt::format("  \"{}\" -> \"{}\";\n", name, needed);
  return text + "}\n";
}

// One branch of the tree. A service that was shown with its own branches before is not opened
// again: a diamond of diamonds would have no end.
void addBranches(const ServiceMap& services, const ServiceName& name, bool reverse,
                 const std::string& indent, std::set<ServiceName>& opened, std::string& text) {
  const auto next = directOf(services, name, reverse);
  const bool again = !next.empty() && !opened.insert(name).second;
  if (again) {
    text.insert(text.size() - 1, " (as above)");
    return;
  }
  for (size_t i = 0; i < next.size(); ++i) {
    const bool last = i + 1 == next.size();
    text += fmt::format("{}{} {}\n", indent, last ? "└─" : "├─", next[i]);
    addBranches(services, next[i], reverse, indent + (last ? "   " : "│  "), opened, text);
  }
}

std::string depsText(const ServiceMap& services, const DepsOptions& options) {
  if (!options.service.empty()) {
    const ServiceName name(options.service);
    if (directOf(services, name, options.reverse).empty())
      return options.reverse ? fmt::format("nothing depends on {}\n", name)
                             : fmt::format("{} depends on nothing\n", name);
    std::string text = fmt::format("{}{}\n", name, options.reverse ? ", needed by" : " needs");
    std::set<ServiceName> opened;
    addBranches(services, name, options.reverse, "", opened, text);
    return text;
  }
  if (services.empty()) return "no services\n";
  std::string text;
  for (const ServiceName& name : startOrder(services)) {
    const auto next = directOf(services, name, options.reverse);
    const char* verb = options.reverse ? "needed by" : "needs";
    text += next.empty() ? fmt::format("{}\n", name)
                         : fmt::format("{}: {} {}\n", name, verb, namesText(next));
  }
  return text + "in the order in which they start; they stop in reverse\n";
}

Result<int> runDeps(Context& context, const DepsOptions& options) {
  CCTL_TRY(const Inventory* inventory, context.inventory());
  if (!options.service.empty()) CCTL_CHECK(inventory->service(options.service));
  const ServiceMap& services = inventory->services;
  if (options.dot)
    context.print(depsDot(services, options));
  else if (context.json())
    context.printJson(depsJson(services, options));
  else
    context.print(depsText(services, options));
  return kExitOk;
}

Run defineDeps(CLI::App& app) {
  auto options = std::make_shared<DepsOptions>();
  app.add_option("SERVICE", options->service, "Only this service and what it needs");
  app.add_flag("--reverse", options->reverse, "Who needs it");
  app.add_flag("--dot", options->dot, "For Graphviz");
  return [options](Context& context) { return runDeps(context, *options); };
}

}  // namespace

std::vector<Command> recordCommands() {
  return {
      {"deps", "Declared dependencies", "Watch", defineDeps, {}},
      {"history", "Who did what, when, and how it ended", "Watch", defineHistory, {}},
      {"lock",
       "Operations in progress",
       "Watch",
       {},
       {{"show", "Who is at work on what", "", defineLockShow, {}},
        {"break", "Take a lock from its holder", "", defineLockBreak, {}}}},
  };
}

}  // namespace cctl::cli
