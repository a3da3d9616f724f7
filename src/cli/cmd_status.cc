// status, top
#include <CLI/CLI.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/exit_codes.h"
#include "cli/live.h"
#include "cli/report.h"
#include "ops/status_feed.h"

namespace cctl::cli {
namespace {

// ---- status ----------------------------------------------------------------------------------

struct StatusView {
  std::vector<HostName> hosts;
  std::map<HostName, Result<ops::HostReport>> reports;
  ops::WantedView wanted;
  WallTime now{};
};

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
  view.wanted = ops::readWanted(*operation);
  view.now = SystemClock().wall();
  return view;
}

std::string firstLine(const std::string& text) { return text.substr(0, text.find('\n')); }

// "limits.memory: no memory controller is mounted" of each: doctor has the reasons.
std::string notLimitedText(const std::vector<std::string>& reasons) {
  std::string names;
  for (const std::string& reason : reasons)
    names += (names.empty() ? "" : ", ") + reason.substr(0, reason.find(':'));
  return "not applied: " + names;
}

// What a person should know beside the state: stopped by whom, left over, last exit, limits that
// the host cannot apply, and what the service says of itself.
std::string noteOf(const StatusView& view, const HostName& host,
                   const protocol::InstanceStatus& status) {
  std::vector<std::string> notes;
  const auto desired = view.wanted.desired.find(ServiceName(status.service));
  if (!view.wanted.error && desired != view.wanted.desired.end()) {
    const auto placed = desired->second.placement.find(status.index);
    const bool placed_here =
        placed != desired->second.placement.end() && placed->second == host.str();
    if (!placed_here || (!status.current && status.wanted))
      notes.push_back(desired->second.rolling_to.empty()             ? "stray"
                      : desired->second.rolling_to == status.version ? "of the roll-out"
                                                                     : "until the roll-out ends");
    const auto held = desired->second.held.find(status.index);
    if (placed_here && held != desired->second.held.end())
      notes.push_back("stopped by " + held->second.by);
  }
  const bool told = !status.note.empty() && notes.empty();
  if (told) notes.push_back(status.note);
  // A failure or a back-off tells of the last exit itself.
  const std::string last = status.last_exit && (status.restarts > 0 || status.pid == 0)
                               ? exitText(*status.last_exit)
                               : "";
  const bool failing = status.state == protocol::InstanceState::kFailed ||
                       status.state == protocol::InstanceState::kBackoff;
  const bool told_why =
      told && failing && status.last_exit && !status.last_exit->stopped_for.empty();
  if (!last.empty() && !told_why && !(told && status.note.find(last) != std::string::npos))
    notes.push_back("last " + last);
  if (!status.not_limited.empty()) notes.push_back(notLimitedText(status.not_limited));
  if (const auto said = firstLine(status.status_text); !said.empty())
    notes.push_back("says: " + said);
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
  for (const auto& [service, desired] : view.wanted.desired) {
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
  for (const auto& [service, desired] : view.wanted.desired)
    if (!desired.rolling_to.empty() && (!target || target->service == service))
      text += painter.paint(
          Style::kWarn, fmt::format("{}: a roll-out of {} is under way or did not end\n", service,
                                    desired.unfinished()));
  for (const auto& [host, mark] : view.wanted.marks)
    if (mark.drained)
      text += fmt::format("{}: drained by {} at {}\n", host, mark.by, formatTime(mark.at));
  if (view.wanted.error)
    text +=
        painter.paint(Style::kWarn, "what should run is not known: " + view.wanted.error->message) +
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
    const auto mark = view.wanted.marks.find(host);
    json["drained"] = mark != view.wanted.marks.end() && mark->second.drained;
    hosts.push_back(json);
  }
  for (const auto& [service, desired] : view.wanted.desired)
    if (!target || target->service == service)
      services[service.str()] = {{"version", desired.version},
                                 {"last_good", desired.last_good},
                                 {"rolling_to", desired.rolling_to}};
  return {{"format", 1},
          {"instances", instances},
          {"hosts", hosts},
          {"services", services},
          {"registry", view.wanted.error ? Json(view.wanted.error->message) : Json()}};
}

Result<std::optional<Target>> parseOptionalTarget(Context& context, const std::string& text) {
  if (text.empty()) return std::optional<Target>();
  CCTL_TRY(const Target target, asUsage(parseTarget(text)));
  CCTL_TRY(const Inventory* inventory, context.inventory());
  CCTL_CHECK(inventory->service(target.service.str()));
  return std::optional<Target>(target);
}

// An instance that was asked for by its number, and that neither any host nor the registry knows.
bool isNowhere(const StatusView& view, const Target& target) {
  const bool all_known =
      !view.wanted.error && std::all_of(view.reports.begin(), view.reports.end(),
                                        [](const auto& one) { return one.second.has_value(); });
  if (!target.index || !all_known) return false;
  const auto shown = shownInstances(view, target);
  return shown.empty() && missingInstances(view, shown, target).empty();
}

int exitCodeOfView(const StatusView& view) {
  for (const auto& [host, report] : view.reports)
    if (!report) return kExitUnreachable;
  return kExitOk;
}

// ---- again and again -------------------------------------------------------------------------

constexpr Millis kRegistryPatience{3'000};

struct WatchOptions {
  std::string target;
  bool watch = false;
  std::string interval = "2s";
  int number = 0;  // how many times; 0: until Ctrl-C
};

struct WatchedView {
  StatusView status;
  std::map<HostName, ops::HostReport> before;  // of hosts that answered twice in a row
};

WatchedView viewOf(const ops::StatusFeed& feed, const std::vector<HostName>& hosts) {
  WatchedView view;
  view.status.hosts = hosts;
  for (auto& [host, one] : feed.hosts()) {
    view.status.reports.emplace(
        host, one.latest ? *one.latest
                         : Result<ops::HostReport>(
                               fail(Code::kUnreachable, "{}: has not answered yet", host)));
    if (one.before) view.before.emplace(host, *one.before);
  }
  view.status.wanted = feed.wanted();
  view.status.now = SystemClock().wall();
  return view;
}

struct Shower {
  std::function<std::string(const WatchedView&)> text;
  std::function<Json(const WatchedView&)> json;
  int answers = 1;  // that each host must have given before the first view says much
};

// On a terminal until q or Ctrl-C.
void showLive(Context& context, const ops::StatusFeed& feed, const std::vector<HostName>& hosts,
              const Shower& shower, Millis interval, int number) {
  context.progress().hush();
  LiveScreen screen;
  for (int i = 1;; ++i) {
    screen.draw(shower.text(viewOf(feed, hosts)) +
                context.painter().paint(Style::kDim, "q or Ctrl-C to end") + "\n");
    if (i == number || !screen.wait(interval, context.cancel())) return;
  }
}

// Elsewhere: one view after the other, each under its time; JSON as an object a line.
void showBlocks(Context& context, const ops::StatusFeed& feed, const std::vector<HostName>& hosts,
                const Shower& shower, Millis interval, int number) {
  for (int i = 1;; ++i) {
    const WatchedView view = viewOf(feed, hosts);
    if (context.json())
      context.printJsonLine(shower.json(view));
    else
      context.print(fmt::format("{}{}\n{}", i == 1 ? "" : "\n", formatTime(view.status.now),
                                shower.text(view)));
    if (i == number || !ops::pauseFor(interval, &context.cancel())) return;
  }
}

Result<int> runAgain(Context& context, const std::optional<Target>& target,
                     const WatchOptions& options, const Shower& shower) {
  const auto interval = parseDuration(options.interval);
  if (!interval) return fail(Code::kUsage, "--interval: {}", interval.error().message);
  if (*interval < Millis(100)) return fail(Code::kUsage, "--interval: 100ms is the least");
  CCTL_TRY(const std::vector<HostName> hosts, context.limitedHosts());
  CCTL_TRY(ops::Operation * operation, context.operation());
  // Of its own: whoever wants to leave is not to wait until a quorum that is lost is given up.
  registry::QuorumOptions patience = ops::quorumOptionsOf(operation->inventory());
  patience.operation = kRegistryPatience;
  ops::FleetAcceptors acceptors(operation->fleet);
  registry::QuorumRegisters registers(acceptors, patience);
  ops::FencedRegisters fenced(registers);
  ops::Operation watching{operation->fleet,    fenced,
                          operation->events,   operation->cancel,
                          operation->identity, operation->reason};
  StatusView last;
  {
    ops::StatusFeed feed(watching, hosts, target ? target->service.str() : "", *interval);
    feed.await(shower.answers, *interval * shower.answers + Millis(1'000));
    if (!context.json() && LiveScreen::isPossible())
      showLive(context, feed, hosts, shower, *interval, options.number);
    else if (!context.cancel().cancelled())
      showBlocks(context, feed, hosts, shower, *interval, options.number);
    last = viewOf(feed, hosts).status;
    const bool ended_by_person = options.number == 0 || context.cancel().cancelled();
    context.cancel().cancel();  // what is being asked need not be waited for
    if (ended_by_person) return kExitOk;
  }
  return exitCodeOfView(last);
}

void addWatchOptions(CLI::App& app, WatchOptions& options) {
  app.add_option("TARGET", options.target, "SERVICE or SERVICE/INDEX (default: everything)");
  app.add_option("--interval", options.interval, "Time between two looks (default: 2s)");
  app.add_option("-n,--number", options.number, "End after so many looks (default: at Ctrl-C)")
      ->check(CLI::Range(1, 1'000'000));
}

// ---- status: the command -----------------------------------------------------------------------

Result<int> runStatus(Context& context, const WatchOptions& options) {
  CCTL_TRY(const std::optional<Target> target, parseOptionalTarget(context, options.target));
  if (options.watch) {
    const Shower shower{
        [&](const WatchedView& view) { return statusText(view.status, target, context.painter()); },
        [&](const WatchedView& view) { return statusJson(context, view.status, target); }, 1};
    return runAgain(context, target, options, shower);
  }
  if (options.number != 0) return fail(Code::kUsage, "-n goes with --watch");
  CCTL_TRY(const StatusView view, probeStatus(context, target));
  if (target && isNowhere(view, *target))
    return fail(Code::kUsage, "there is no {}; see 'clusterctl status {}'", target->text(),
                target->service);
  if (context.json())
    context.printJson(statusJson(context, view, target));
  else
    context.print(statusText(view, target, context.painter()));
  if (context.cancel().cancelled()) return kExitInterrupted;
  return exitCodeOfView(view);
}

Run defineStatus(CLI::App& app) {
  auto options = std::make_shared<WatchOptions>();
  addWatchOptions(app, *options);
  app.add_flag("-w,--watch", options->watch, "Look again and again, until Ctrl-C");
  return [options](Context& context) { return runStatus(context, *options); };
}

// ---- top -------------------------------------------------------------------------------------

// What a process used between two looks.
struct Usage {
  ShownInstance instance;
  std::optional<double> cpu;      // processors
  std::optional<double> read;     // bytes a second
  std::optional<double> written;  // the same
};

const protocol::InstanceStatus* sameProcess(const ops::HostReport& report,
                                            const protocol::InstanceStatus& status) {
  for (const protocol::InstanceStatus& one : report.instances)
    if (one.service == status.service && one.index == status.index && one.pid == status.pid &&
        one.generation == status.generation)
      return &one;
  return nullptr;
}

// Counters of a host between two looks, by its own clock since boot; nullopt: no two looks.
template <typename Count>
std::optional<double> perSecond(const WatchedView& view, const HostName& host, Count before,
                                Count now) {
  const auto old = view.before.find(host);
  const auto& report = view.status.reports.at(host);
  if (old == view.before.end() || !report || now < before) return std::nullopt;
  const auto elapsed = report->status.uptime - old->second.status.uptime;
  if (elapsed.count() <= 0) return std::nullopt;
  return static_cast<double>(now - before) * 1000.0 / static_cast<double>(elapsed.count());
}

std::vector<Usage> usagesOf(const WatchedView& view, const std::optional<Target>& target) {
  std::vector<Usage> usages;
  for (const ShownInstance& shown : shownInstances(view.status, target)) {
    Usage usage{shown, {}, {}, {}};
    const protocol::InstanceStatus& now = shown.status;
    const auto old = view.before.find(shown.host);
    const auto* before = old == view.before.end() ? nullptr : sameProcess(old->second, now);
    if (before && now.pid != 0) {
      usage.cpu = perSecond(view, shown.host, before->cpu.count(), now.cpu.count());
      if (usage.cpu) *usage.cpu /= 1000.0;
      usage.read = perSecond(view, shown.host, before->io_read, now.io_read);
      usage.written = perSecond(view, shown.host, before->io_written, now.io_written);
    }
    usages.push_back(std::move(usage));
  }
  std::stable_sort(usages.begin(), usages.end(), [](const Usage& a, const Usage& b) {
    const double x = a.cpu.value_or(0), y = b.cpu.value_or(0);
    return x != y ? x > y : a.instance.status.rss > b.instance.status.rss;
  });
  return usages;
}

std::string percentText(const std::optional<double>& share) {
  return share ? fmt::format("{:.1f}%", *share * 100) : "-";
}

std::string rateText(const std::optional<double>& bytes) {
  return bytes ? humanSize(static_cast<uint64_t>(std::llround(*bytes))) + "/s" : "-";
}

std::string instancesText(const std::vector<Usage>& usages, const Painter& painter) {
  Table table({"INSTANCE", "HOST", "STATE", "PID", "CPU", "MEMORY", "THREADS", "FILES", "READ",
               "WRITTEN", "RESTARTS", "SAYS"});
  for (const Usage& usage : usages) {
    const protocol::InstanceStatus& s = usage.instance.status;
    const bool runs = s.pid != 0;
    table.add(
        {fmt::format("{}/{}", s.service, s.index), usage.instance.host.str(),
         protocol::stateName(s.state), runs ? std::to_string(s.pid) : "-", percentText(usage.cpu),
         runs ? humanSize(s.rss) : "-", runs ? std::to_string(s.threads) : "-",
         runs ? std::to_string(s.fds) : "-", rateText(usage.read), rateText(usage.written),
         std::to_string(s.restarts), firstLine(s.status_text)},
        styleOf(s.state));
  }
  return table.empty() ? "" : table.text(painter);
}

struct Rates {
  std::optional<double> received, sent;  // bytes a second
};

Rates networkOf(const WatchedView& view, const HostName& host) {
  const auto old = view.before.find(host);
  const auto& report = view.status.reports.at(host);
  if (old == view.before.end() || !report) return {};
  const protocol::HostStatus &before = old->second.status, &now = report->status;
  return {perSecond(view, host, before.net_received, now.net_received),
          perSecond(view, host, before.net_sent, now.net_sent)};
}

std::string hostsText(const WatchedView& view, const Painter& painter) {
  Table table(
      {"HOST", "LOAD", "CPUS", "MEMORY", "OF", "DISK FREE", "OF", "RECEIVED", "SENT", "UP"});
  std::string errors;
  for (const auto& [host, report] : view.status.reports) {
    if (!report) {
      errors += painter.paint(Style::kBad, printable(report.error().message)) + "\n";
      continue;
    }
    const protocol::HostStatus& s = report->status;
    const Rates rates = networkOf(view, host);
    table.add({host.str(), fmt::format("{:.2f}", s.load1), std::to_string(s.cpus),
               humanSize(s.memory_total - std::min(s.memory_total, s.memory_available)),
               humanSize(s.memory_total), humanSize(s.disk_free), humanSize(s.disk_total),
               rateText(rates.received), rateText(rates.sent), humanDuration(s.uptime)});
  }
  return (table.empty() ? "" : table.text(painter)) + errors;
}

std::string topText(const WatchedView& view, const std::optional<Target>& target,
                    const Painter& painter) {
  const std::vector<Usage> usages = usagesOf(view, target);
  const std::string instances = instancesText(usages, painter);
  return instances + (instances.empty() ? "" : "\n") + hostsText(view, painter);
}

Json numberOrNull(const std::optional<double>& number) { return number ? Json(*number) : Json(); }

Json topJson(const WatchedView& view, const std::optional<Target>& target) {
  Json instances = Json::array(), hosts = Json::array();
  for (const Usage& usage : usagesOf(view, target)) {
    Json json = protocol::encode(usage.instance.status);
    json["instance"] =
        fmt::format("{}/{}", usage.instance.status.service, usage.instance.status.index);
    json["host"] = usage.instance.host.str();
    json["processors"] = numberOrNull(usage.cpu);
    json["read_per_second"] = numberOrNull(usage.read);
    json["written_per_second"] = numberOrNull(usage.written);
    instances.push_back(std::move(json));
  }
  for (const auto& [host, report] : view.status.reports) {
    Json json = report ? protocol::encode(report->status) : Json{{"error", report.error().message}};
    const Rates rates = networkOf(view, host);
    json["host"] = host.str(), json["reachable"] = report.has_value();
    json["received_per_second"] = numberOrNull(rates.received);
    json["sent_per_second"] = numberOrNull(rates.sent);
    hosts.push_back(std::move(json));
  }
  return {{"format", 1},
          {"at", formatTime(view.status.now)},
          {"instances", instances},
          {"hosts", hosts}};
}

Result<int> runTop(Context& context, const WatchOptions& options) {
  CCTL_TRY(const std::optional<Target> target, parseOptionalTarget(context, options.target));
  const Shower shower{
      [&](const WatchedView& view) { return topText(view, target, context.painter()); },
      [&](const WatchedView& view) { return topJson(view, target); }, 2};
  return runAgain(context, target, options, shower);
}

Run defineTop(CLI::App& app) {
  auto options = std::make_shared<WatchOptions>();
  addWatchOptions(app, *options);
  return [options](Context& context) { return runTop(context, *options); };
}

}  // namespace

std::vector<Command> statusCommands() {
  return {
      {"status",
       "What runs where, since when, with which version, ports and restarts",
       "Watch",
       defineStatus,
       {}},
      {"top",
       "Processor, memory and disk use of instances and hosts, live",
       "Watch",
       defineTop,
       {}},
  };
}

}  // namespace cctl::cli
