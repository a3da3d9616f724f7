// logs, events, resolve
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

// ---- logs ------------------------------------------------------------------------------------

struct LogsOptions {
  std::string target;
  int lines = 100;
  bool follow = false;
};

// A line "TIME STREAM TEXT" of a log as an object.
Json lineJson(const Placed& placed, const std::string& line) {
  const size_t stream = line.find(' ') + 1, text = line.find(' ', stream) + 1;
  Json json = {{"format", 1}, {"instance", placed.instance.text()}, {"host", placed.host.str()}};
  const bool whole = stream != 0 && text == stream + 2;
  json["time"] = whole ? Json(line.substr(0, stream - 1)) : Json();
  json["stream"] = !whole ? Json() : Json(line[stream] == 'E' ? "stderr" : "stdout");
  json["text"] = whole ? line.substr(text) : line;
  return json;
}

// Whole lines of one instance, with its name in front when there are several; thread-safe as a set.
class LinePrinter {
 public:
  LinePrinter(Context& context, const Placed& placed, bool several, std::mutex& mutex)
      : context_(context), placed_(placed), several_(several), mutex_(mutex) {}
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
    const std::string prefix = several_ ? placed_.instance.text() + ": " : "";
    context_.print(
        (context_.json() ? dumpJson(lineJson(placed_, line)) : prefix + printable(line)) + "\n");
  }
  Context& context_;
  const Placed& placed_;
  const bool several_;
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
  CCTL_TRY(const Target target, asUsage(parseTarget(options.target)));
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
        LinePrinter printer(context, placed[i], placed.size() > 1, mutex);
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
  json["format"] = 1, json["host"] = host.str();
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
  CCTL_TRY(const ServiceName service, asUsage(parseServiceName(options.name)));
  CCTL_TRY(ops::Operation * operation, context.operation());
  CCTL_TRY(const ServiceEndpoints endpoints, resolve(*operation, service, options.consistent));
  if (endpoints.revision == 0)
    return fail(Code::kNotFound, "{}: no such name in the registry of {}", service,
                operation->inventory().cluster);
  if (context.json()) {
    Json json = toJson(endpoints);
    json["format"] = 1, json["service"] = service.str();
    context.printJson(json);
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
