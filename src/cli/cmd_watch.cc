// status, logs, events, resolve
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/exit_codes.h"
#include "cli/report.h"
#include "ops/inspect.h"
#include "ops/known_names.h"
#include "ops/probe.h"
#include "transport/fan_out.h"

namespace cctl::cli {
namespace {

// ---- status ----------------------------------------------------------------------------------

struct StatusView {
  std::vector<HostName> hosts;
  std::map<HostName, Result<ops::HostReport>> reports;
  std::map<ServiceName, ops::Desired> desired;
  std::map<HostName, ops::HostMark> marks;
  std::optional<Error> registry;  // why `desired` is not known
  WallTime now{};
};

std::optional<Target> parseOptionalTarget(const std::string& text, std::optional<Error>& error) {
  if (text.empty()) return std::nullopt;
  auto target = parseTarget(text);
  if (!target) error = target.error();
  return target ? std::optional<Target>(*target) : std::nullopt;
}

void readAllDesired(ops::Operation& operation, StatusView& view) {
  for (const auto& [service, manifest] : operation.inventory().services) {
    auto desired = ops::readDesired(operation.registers, service);
    if (!desired) {
      view.registry = desired.error();
      return;
    }
    view.desired[service] = std::move(*desired);
  }
  auto marks = ops::readHostMarks(operation.registers);
  if (marks)
    view.marks = std::move(*marks);
  else
    view.registry = marks.error();
}

Result<StatusView> probeStatus(Context& context, const std::optional<Target>& target) {
  StatusView view;
  CCTL_TRY(view.hosts, context.limitedHosts());
  CCTL_TRY(ops::Operation * operation, context.operation());
  operation->fleet.begin(operation->inventory().registry_hosts, ops::Need::kShim);
  operation->fleet.begin(view.hosts, ops::Need::kShim);
  ops::HostErrors errors;
  const auto connections = ops::connectedOf(operation->fleet, view.hosts, errors);
  view.reports = ops::probeAll(*operation, connections, target ? target->service.str() : "");
  for (auto& [host, error] : errors) view.reports.emplace(host, fail(std::move(error)));
  readAllDesired(*operation, view);
  view.now = SystemClock().wall();
  return view;
}

// What a person should know beside the state: stopped by whom, left over, last exit.
std::string noteOf(const StatusView& view, const HostName& host,
                   const protocol::InstanceStatus& status) {
  std::vector<std::string> notes;
  const auto desired = view.desired.find(ServiceName(status.service));
  if (!view.registry && desired != view.desired.end()) {
    const auto placed = desired->second.placement.find(status.index);
    const bool placed_here =
        placed != desired->second.placement.end() && placed->second == host.str();
    if (!placed_here || (!status.current && status.wanted)) notes.push_back("stray");
    const auto held = desired->second.held.find(status.index);
    if (placed_here && held != desired->second.held.end())
      notes.push_back("stopped by " + held->second.by);
  }
  if (!status.note.empty() && notes.empty()) notes.push_back(status.note);
  if (status.last_exit && (status.restarts > 0 || status.pid == 0))
    notes.push_back(fmt::format("last {}", exitText(*status.last_exit)));
  std::string text;
  for (const std::string& note : notes) text += (text.empty() ? "" : "; ") + note;
  return text;
}

Style styleOf(protocol::InstanceState state) {
  using S = protocol::InstanceState;
  if (state == S::kReady) return Style::kPlain;
  return state == S::kFailed || state == S::kBackoff ? Style::kBad : Style::kWarn;
}

std::string agoText(WallTime now, WallTime since) {
  if (since == WallTime{}) return "-";
  return humanDuration(std::max(Millis(0), now - since));
}

bool isShown(const protocol::InstanceStatus& status, const std::optional<Target>& target) {
  // Generations that came and went are history, not state.
  if (!status.current && !status.wanted && status.pid == 0) return false;
  return !target || target->covers({ServiceName(status.service), status.index});
}

struct ShownInstance {
  HostName host;
  std::string address;
  protocol::InstanceStatus status;
};

std::vector<ShownInstance> shownInstances(const StatusView& view,
                                          const std::optional<Target>& target) {
  std::vector<ShownInstance> shown;
  for (const auto& [host, report] : view.reports) {
    if (!report) continue;
    for (const protocol::InstanceStatus& status : report->instances)
      if (isShown(status, target)) shown.push_back({host, "", status});
  }
  std::sort(shown.begin(), shown.end(), [](const ShownInstance& a, const ShownInstance& b) {
    return std::tie(a.status.service, a.status.index, a.host, a.status.generation) <
           std::tie(b.status.service, b.status.index, b.host, b.status.generation);
  });
  return shown;
}

// Placed instances that no host shows.
std::vector<std::pair<std::string, std::string>> missingInstances(
    const StatusView& view, const std::vector<ShownInstance>& shown,
    const std::optional<Target>& target) {
  std::vector<std::pair<std::string, std::string>> missing;
  for (const auto& [service, desired] : view.desired) {
    for (const auto& [index, host] : desired.placement) {
      const InstanceId id{service, index};
      if (target && !target->covers(id)) continue;
      if (std::find(view.hosts.begin(), view.hosts.end(), HostName(host)) == view.hosts.end())
        continue;
      const Placed placed{id, HostName(host)};  // clang 14 cannot capture structured bindings
      const bool seen = std::any_of(shown.begin(), shown.end(), [&](const ShownInstance& s) {
        return s.status.service == placed.instance.service.str() &&
               s.status.index == placed.instance.index && s.host == placed.host;
      });
      if (!seen) missing.emplace_back(id.text(), host);
    }
  }
  return missing;
}

std::string statusText(const StatusView& view, const std::optional<Target>& target,
                       const Painter& painter) {
  const auto shown = shownInstances(view, target);
  Table table({"INSTANCE", "HOST", "VERSION", "STATE", "SINCE", "PID", "PORTS", "RESTARTS", "CPU",
               "MEMORY", "NOTE"});
  size_t ready = 0;
  for (const ShownInstance& one : shown) {
    const protocol::InstanceStatus& s = one.status;
    ready += s.state == protocol::InstanceState::kReady ? 1 : 0;
    table.add({fmt::format("{}/{}", s.service, s.index), one.host.str(), s.version,
               protocol::stateName(s.state), agoText(view.now, s.since),
               s.pid ? std::to_string(s.pid) : "-", portsText(s.ports), std::to_string(s.restarts),
               s.pid ? humanDuration(s.cpu) : "-", s.pid ? humanSize(s.rss) : "-",
               noteOf(view, one.host, s)},
              styleOf(s.state));
  }
  const auto missing = missingInstances(view, shown, target);
  for (const auto& [instance, host] : missing)
    table.add({instance, host, "-", view.reports.at(HostName(host)) ? "missing" : "unknown", "-",
               "-", "-", "-", "-", "-", ""},
              Style::kBad);
  std::string text = table.empty() ? "" : table.text(painter);
  size_t unreachable = 0;
  for (const auto& [host, report] : view.reports) {
    if (report) continue;
    ++unreachable;
    text += painter.paint(Style::kBad, printable(report.error().message)) + "\n";
  }
  for (const auto& [service, desired] : view.desired)
    if (!desired.rolling_to.empty() && (!target || target->service == service))
      text += painter.paint(Style::kWarn,
                            fmt::format("{}: a roll-out of {} by {} is under way or did not end\n",
                                        service, desired.rolling_to, desired.rolling_by));
  for (const auto& [host, mark] : view.marks)
    if (mark.drained)
      text += fmt::format("{}: drained by {} at {}\n", host, mark.by, formatTime(mark.at));
  if (view.registry)
    text += painter.paint(Style::kWarn, "what should run is not known: " + view.registry->message) +
            "\n";
  text += fmt::format("{} of {} ready on {} of {}\n", ready,
                      counted(shown.size() + missing.size(), "instance"),
                      view.reports.size() - unreachable, counted(view.reports.size(), "host"));
  return text;
}

Json statusJson(Context& context, const StatusView& view, const std::optional<Target>& target) {
  Json instances = Json::array(), hosts = Json::array(), services = Json::object();
  for (const ShownInstance& one : shownInstances(view, target)) {
    Json json = protocol::encode(one.status);
    json["instance"] = fmt::format("{}/{}", one.status.service, one.status.index);
    json["host"] = one.host.str();
    auto connection = (*context.fleet())->await(one.host);
    json["address"] = connection ? (*connection)->published_address : "";
    json["note"] = noteOf(view, one.host, one.status);
    instances.push_back(json);
  }
  for (const auto& [host, report] : view.reports) {
    Json json = report ? protocol::encode(report->status) : Json{{"error", report.error().message}};
    json["host"] = host.str(), json["reachable"] = report.has_value();
    const auto mark = view.marks.find(host);
    json["drained"] = mark != view.marks.end() && mark->second.drained;
    hosts.push_back(json);
  }
  for (const auto& [service, desired] : view.desired)
    if (!target || target->service == service)
      services[service.str()] = {{"version", desired.version},
                                 {"last_good", desired.last_good},
                                 {"rolling_to", desired.rolling_to}};
  return {{"format", 1},
          {"instances", instances},
          {"hosts", hosts},
          {"services", services},
          {"registry", view.registry ? Json(view.registry->message) : Json()}};
}

Result<int> runStatus(Context& context, const std::string& text) {
  std::optional<Error> problem;
  const std::optional<Target> target = parseOptionalTarget(text, problem);
  if (problem) return fail(*problem);
  if (target) CCTL_CHECK((*context.inventory())->service(target->service.str()));
  CCTL_TRY(const StatusView view, probeStatus(context, target));
  if (context.json())
    context.print(dumpJsonPretty(statusJson(context, view, target)) + "\n");
  else
    context.print(statusText(view, target, context.painter()));
  if (context.cancel().cancelled()) return kExitInterrupted;
  for (const auto& [host, report] : view.reports)
    if (!report) return kExitUnreachable;
  return kExitOk;
}

Run defineStatus(CLI::App& app) {
  auto target = std::make_shared<std::string>();
  app.add_option("TARGET", *target, "SERVICE or SERVICE/INDEX (default: everything)");
  return [target](Context& context) { return runStatus(context, *target); };
}

// ---- logs ------------------------------------------------------------------------------------

struct LogsOptions {
  std::string target;
  int lines = 100;
  bool follow = false;
};

// Whole lines of one instance, with its name in front when there are several; thread-safe as a set.
class LinePrinter {
 public:
  LinePrinter(std::string prefix, std::mutex& mutex) : prefix_(std::move(prefix)), mutex_(mutex) {}
  ~LinePrinter() {
    if (!rest_.empty()) print(rest_);
  }
  void add(std::string_view bytes) {
    rest_ += bytes;
    for (size_t end; (end = rest_.find('\n')) != std::string::npos; rest_.erase(0, end + 1))
      print(rest_.substr(0, end));
  }

 private:
  void print(const std::string& line) {
    const std::lock_guard lock(mutex_);
    fmt::print("{}{}\n", prefix_, printable(line));
    std::fflush(stdout);
  }
  const std::string prefix_;
  std::mutex& mutex_;
  std::string rest_;
};

// Ctrl-C is how a person ends following. A host that fails outweighs one that is unreachable.
int reportStreams(Context& context, const std::vector<Result<protocol::Empty>>& results,
                  bool follow) {
  if (context.cancel().cancelled()) return follow ? kExitOk : kExitInterrupted;
  int code = kExitOk;
  for (const auto& result : results) {
    if (result) continue;
    context.progress().onEvent({ops::OpEventKind::kFailure, "", result.error().message, {}});
    const bool unreachable = result.error().code == Code::kUnreachable;
    if (!unreachable) code = kExitFailed;
    if (unreachable && code == kExitOk) code = kExitUnreachable;
  }
  return code;
}

Result<std::vector<Placed>> placedInstances(ops::Operation& operation, const Target& target) {
  operation.fleet.begin(operation.inventory().registry_hosts, ops::Need::kShim);
  std::vector<Placed> found;
  const auto desired = ops::readDesired(operation.registers, target.service);
  if (desired) {
    for (const Placed& placed : ops::placementOf(target.service, *desired))
      if (target.covers(placed.instance)) found.push_back(placed);
    if (!found.empty()) return found;
  }
  // Without the registry, or for what it does not know (any more): ask every host.
  operation.fleet.begin(operation.inventory().host_order, ops::Need::kShim);
  ops::HostErrors errors;
  const auto hosts = ops::connectedOf(operation.fleet, operation.inventory().host_order, errors);
  for (const auto& [host, report] : ops::probeAll(operation, hosts, target.service.str())) {
    if (!report) continue;
    for (const auto& status : report->instances) {
      const Placed placed{{target.service, status.index}, host};
      if (target.covers(placed.instance) &&
          std::find(found.begin(), found.end(), placed) == found.end())
        found.push_back(placed);
    }
  }
  if (found.empty())
    return fail(Code::kNotFound, "{}: no instance of it is known on any host that answers", target);
  return found;
}

Result<int> runLogs(Context& context, const LogsOptions& options) {
  CCTL_TRY(const Target target, parseTarget(options.target));
  CCTL_CHECK((*context.inventory())->service(target.service.str()));
  CCTL_TRY(ops::Operation * operation, context.operation());
  CCTL_TRY(const std::vector<Placed> placed, placedInstances(*operation, target));
  for (const Placed& one : placed) operation->fleet.begin({one.host}, ops::Need::kShim);
  context.progress().finish();
  std::mutex mutex;
  ssh::FanOutOptions fan_out;
  fan_out.forks = options.follow ? placed.size() : 1;  // in order, unless they all go on
  const auto results = ssh::forEachHost<protocol::Empty>(
      placed.size(), fan_out, [&](size_t i) -> Result<protocol::Empty> {
        LinePrinter printer(placed.size() == 1 ? "" : placed[i].instance.text() + ": ", mutex);
        protocol::LogsRequest request;
        request.instance = operation->ref(placed[i].instance);
        request.lines = options.lines;
        request.follow = options.follow;
        CCTL_CHECK(ops::streamLogs(operation->fleet, placed[i].host, std::move(request),
                                   [&](std::string_view bytes) { printer.add(bytes); }));
        return protocol::Empty{};
      });
  return reportStreams(context, results, options.follow);
}

Run defineLogs(CLI::App& app) {
  auto options = std::make_shared<LogsOptions>();
  app.add_option("TARGET", options->target, "SERVICE or SERVICE/INDEX")->required();
  app.add_option("-n,--lines", options->lines, "Lines from the end (default: 100)")
      ->check(CLI::Range(0, 1'000'000));
  app.add_flag("-f,--follow", options->follow, "Go on with what comes, until Ctrl-C");
  return [options](Context& context) { return runLogs(context, *options); };
}

// ---- events ----------------------------------------------------------------------------------

struct EventsOptions {
  std::string since;
  bool follow = false;
};

// "10m" ago, or a time.
Result<std::optional<WallTime>> parseSince(const std::string& text) {
  if (text.empty()) return std::nullopt;
  if (const auto ago = parseDuration(text)) return SystemClock().wall() - *ago;
  auto time = parseTime(text);
  if (!time)
    return fail(
        Code::kUsage,
        "--since: \"{}\" is neither a duration like 10m nor a time like 2026-11-23T10:00:00Z",
        text);
  return *time;
}

std::string eventText(const HostName& host, const protocol::Event& event) {
  const std::string subject = event.index >= 0 ? fmt::format(" {}/{}", event.service, event.index)
                              : event.service.empty() ? ""
                                                      : " " + event.service;
  std::string text = fmt::format("{} {}{} {}: {}", formatTime(event.at), host, subject,
                                 protocol::eventName(event.kind), event.text);
  if (!event.by.empty())
    text += fmt::format(" (by {}{})", event.by, event.reason.empty() ? "" : ": " + event.reason);
  if (event.exit)
    for (const std::string& line : event.exit->last_lines) text += "\n    " + line;
  return printable(text) + "\n";
}

Json eventJson(const HostName& host, const protocol::Event& event) {
  Json json = protocol::encode(event);
  json["host"] = host.str();
  return json;
}

class EventPrinter {
 public:
  explicit EventPrinter(Context& context) : context_(context) {}
  void show(const HostName& host, const protocol::Event& event) {
    const std::lock_guard lock(mutex_);
    context_.print(context_.json() ? dumpJson(eventJson(host, event)) + "\n"
                                   : eventText(host, event));
  }

 private:
  Context& context_;
  std::mutex mutex_;
};

Result<int> runEvents(Context& context, const EventsOptions& options) {
  CCTL_TRY(const std::optional<WallTime> since, parseSince(options.since));
  CCTL_TRY(const std::vector<HostName> hosts, context.limitedHosts());
  CCTL_TRY(ops::Fleet * fleet, context.fleet());
  fleet->begin(hosts, ops::Need::kShim);
  EventPrinter printer(context);
  std::mutex mutex;
  std::vector<std::pair<HostName, protocol::Event>> past;
  ssh::FanOutOptions fan_out;
  fan_out.forks = options.follow ? hosts.size() : fleet->forks();
  const auto results = ssh::forEachHost<protocol::Empty>(
      hosts.size(), fan_out, [&](size_t i) -> Result<protocol::Empty> {
        const auto on_event = [&](const protocol::Event& event) {
          if (options.follow) return printer.show(hosts[i], event);
          const std::lock_guard lock(mutex);
          past.emplace_back(hosts[i], event);
        };
        CCTL_CHECK(ops::streamEvents(*fleet, hosts[i], {0, since, options.follow}, on_event));
        return protocol::Empty{};
      });
  std::stable_sort(past.begin(), past.end(),
                   [](const auto& a, const auto& b) { return a.second.at < b.second.at; });
  for (const auto& [host, event] : past) printer.show(host, event);
  return reportStreams(context, results, options.follow);
}

Run defineEvents(CLI::App& app) {
  auto options = std::make_shared<EventsOptions>();
  app.add_option("--since", options->since, "A duration (10m) or a time (2026-11-23T10:00:00Z)");
  app.add_flag("-f,--follow", options->follow, "Go on with what comes, until Ctrl-C");
  return [options](Context& context) { return runEvents(context, *options); };
}

// ---- resolve ---------------------------------------------------------------------------------

struct ResolveOptions {
  std::string name;
  bool consistent = false;
};

// Hosts that keep the registry are asked first: they are told of every change like all others, and
// there are few of them.
Result<ServiceEndpoints> resolve(ops::Operation& operation, const ServiceName& service,
                                 bool consistent) {
  const Inventory& inventory = operation.inventory();
  operation.fleet.begin(inventory.registry_hosts, ops::Need::kShim);
  if (consistent) return ops::readEndpoints(operation.registers, service);
  auto known = ops::knownEndpoints(operation, service, inventory.registry_hosts);
  if (known) return known;
  return ops::knownEndpoints(operation, service, ops::allHosts(inventory));
}

Result<int> runResolve(Context& context, const ResolveOptions& options) {
  CCTL_TRY(const ServiceName service, parseServiceName(options.name));
  CCTL_TRY(ops::Operation * operation, context.operation());
  CCTL_TRY(const ServiceEndpoints endpoints, resolve(*operation, service, options.consistent));
  if (endpoints.revision == 0)
    return fail(Code::kNotFound, "{}: no such name in the registry of {}", service,
                operation->inventory().cluster);
  if (context.json()) {
    Json json = toJson(endpoints);
    json["format"] = 1, json["service"] = service.str();
    context.print(dumpJsonPretty(json) + "\n");
    return 0;
  }
  Table table({"INSTANCE", "HOST", "ADDRESS", "PORTS", "VERSION", "STATE"});
  for (const Endpoint& endpoint : endpoints.endpoints) {
    std::map<std::string, int> ports(endpoint.ports.begin(), endpoint.ports.end());
    table.add({endpoint.instance.text(), endpoint.host.str(), endpoint.address, portsText(ports),
               endpoint.version.str(), std::string(endpointStateName(endpoint.state))});
  }
  context.print(table.empty() ? "" : table.text(context.painter()));
  context.print(fmt::format("{}: {}, revision {}\n", service,
                            counted(endpoints.endpoints.size(), "endpoint"), endpoints.revision));
  return 0;
}

Run defineResolve(CLI::App& app) {
  auto options = std::make_shared<ResolveOptions>();
  app.add_option("NAME", options->name, "Service")->required();
  app.add_flag("--consistent", options->consistent,
               "What the registry's quorum says, not what its hosts were told last");
  return [options](Context& context) { return runResolve(context, *options); };
}

}  // namespace

std::vector<Command> watchCommands() {
  return {
      {"status",
       "What runs where, since when, with which version, ports and restarts",
       "Watch",
       defineStatus,
       {}},
      {"logs", "Output of instances", "Watch", defineLogs, {}},
      {"events", "Crash reports and every start and stop", "Watch", defineEvents, {}},
      {"resolve",
       "The addresses of a service, as the registry has them",
       "Watch",
       defineResolve,
       {}},
  };
}

}  // namespace cctl::cli
