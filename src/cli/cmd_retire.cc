// clients, retire: who uses a service, and taking it away when nobody does
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/exit_codes.h"
#include "cli/plan_text.h"
#include "cli/report.h"
#include "ops/retire.h"

namespace cctl::cli {
namespace {

// ---- clients -----------------------------------------------------------------------------------

// "web/0 (server, pid 7) on host1", "a process outside of the inventory at 10.0.0.7"
std::string clientName(const ops::Client& client) {
  if (client.host.empty()) return fmt::format("somebody at {}", printable(client.peer_address));
  const std::string process =
      client.pid == 0 ? std::string("a process that may not be seen")
                      : fmt::format("{}, pid {}", printable(client.command), client.pid);
  return client.as ? fmt::format("{} ({}) on {}", client.as->text(), process, client.host)
                   : fmt::format("{} on {}", process, client.host);
}

Json clientJson(const ops::SeenClient& seen) {
  const ops::Client& client = seen.client;
  return {{"host", client.host.str()},
          {"address", client.peer_address},
          {"pid", client.pid},
          {"command", client.command},
          {"instance", client.as ? Json(client.as->text()) : Json()},
          {"connected_to", client.instance},
          {"port", client.port},
          {"server_host", client.server.str()},
          {"connections", seen.connections},
          {"first_seen", formatTime(seen.first)},
          {"last_seen", formatTime(seen.last)}};
}

Json clientsJson(const ops::ClientsOutcome& outcome) {
  Json clients = Json::array(), unknown = Json::array();
  for (const ops::SeenClient& seen : outcome.clients) clients.push_back(clientJson(seen));
  for (const auto& [host, error] : outcome.unknown)
    unknown.push_back({{"host", host.str()}, {"error", error.message}});
  return {{"clients", clients}, {"unknown_hosts", unknown}};
}

std::string clientsTable(const std::vector<ops::SeenClient>& clients, const Painter& painter) {
  Table table({"HOST", "ADDRESS", "PID", "COMMAND", "INSTANCE", "CONNECTED TO", "PORT", "COUNT",
               "LAST SEEN"});
  for (const ops::SeenClient& seen : clients) {
    const ops::Client& client = seen.client;
    table.add({client.host.empty() ? "-" : client.host.str(), printable(client.peer_address),
               client.pid == 0 ? "-" : std::to_string(client.pid),
               client.command.empty() ? "-" : printable(client.command),
               client.as ? client.as->text() : "-",
               fmt::format("{} on {}", printable(client.instance), client.server), client.port,
               std::to_string(seen.connections), formatTime(seen.last)},
              Style::kPlain);
  }
  return table.empty() ? "" : table.text(painter);
}

struct ClientsOptions {
  std::string service;
  std::string watch = "0s";
};

Result<ops::ClientsRequest> clientsRequest(const ClientsOptions& options) {
  ops::ClientsRequest request;
  CCTL_TRY(request.service, asUsage(parseServiceName(options.service)));
  auto watch = parseDuration(options.watch);
  if (!watch) return fail(Code::kUsage, "--for: {}", watch.error().message);
  request.watch = *watch;
  return request;
}

// New clients of a long watch are told at once.
std::function<void(const ops::SeenClient&)> tellNew(Context& context,
                                                    const ops::ClientsRequest& request) {
  if (context.globals().output == OutputFormat::kJsonLines)
    return [&context](const ops::SeenClient& seen) {
      Json json = clientJson(seen);
      json["format"] = 1;
      context.printJson(json);
    };
  if (request.watch == Millis(0)) return {};
  return [&context](const ops::SeenClient& seen) {
    context.progress().step(seen.client.instance, "connected: " + clientName(seen.client));
  };
}

std::string clientsSummary(const ops::ClientsRequest& request, const ops::ClientsOutcome& outcome) {
  std::string text =
      fmt::format("{}: {}{}", request.service, counted(outcome.clients.size(), "client"),
                  request.watch == Millis(0) ? std::string(" now")
                                             : fmt::format(" in {}", humanDuration(request.watch)));
  if (outcome.interrupted) text += " (interrupted)";
  if (!outcome.unknown.empty())
    text += fmt::format("; could not be asked: {}", foldHosts(outcome.unknown));
  return text + "\n";
}

// A name that was mistyped has no clients either, which would pass as good news.
Result<void> checkKnown(ops::Operation& operation, const ServiceName& service) {
  if (operation.inventory().findService(service)) return {};
  CCTL_TRY(const ops::Desired desired, ops::readDesired(operation.registers, service));
  if (desired.revision != 0) return {};  // taken out of the inventory since
  return operation.inventory().service(service.str()).map([](const Manifest*) {});
}

Result<int> runClients(Context& context, const ClientsOptions& options) {
  CCTL_TRY(const ops::ClientsRequest request, clientsRequest(options));
  CCTL_TRY(ops::Operation * operation, context.operation());
  CCTL_CHECK(checkKnown(*operation, request.service));
  if (request.watch > Millis(0))
    context.progress().phase(fmt::format("watching who connects to {} for {}", request.service,
                                         humanDuration(request.watch)));
  CCTL_TRY(const ops::ClientsOutcome outcome,
           ops::findClients(*operation, request, tellNew(context, request)));
  const int exit_code = outcome.interrupted       ? kExitInterrupted
                        : outcome.unknown.empty() ? kExitOk
                                                  : kExitUnreachable;
  if (context.globals().output == OutputFormat::kJsonLines) return exit_code;
  if (context.json()) {
    Json json = clientsJson(outcome);
    json["format"] = 1, json["service"] = request.service.str();
    context.printJson(json);
    return exit_code;
  }
  context.print(clientsTable(outcome.clients, context.painter()) +
                clientsSummary(request, outcome));
  return exit_code;
}

Run defineClients(CLI::App& app) {
  auto options = std::make_shared<ClientsOptions>();
  app.add_option("SERVICE", options->service, "Service")->required();
  app.add_option("--for", options->watch, "Keep looking for so long, e.g. 10m (default: once)");
  return [options](Context& context) { return runClients(context, *options); };
}

// ---- retire ------------------------------------------------------------------------------------

struct RetireOptions {
  std::string service;
  bool force = false;
  bool skip_unreachable = false;
};

// What would break, for people.
std::string obstaclesText(const ServiceName& service, const ops::RetireView& view) {
  std::string text;
  for (const ServiceName& dependant : view.dependants)
    text += fmt::format("  {} depends on it (depends_on in its manifest)\n", dependant);
  for (const ops::SeenClient& seen : view.clients.clients)
    text += fmt::format("  connected to {}: {}\n", printable(seen.client.instance),
                        clientName(seen.client));
  return text.empty() ? text : fmt::format("{} is in use:\n{}", service, text);
}

std::string placesText(const ops::RetireView& view) {
  std::vector<HostName> hosts;
  for (const Placed& placed : view.placement)
    if (std::find(hosts.begin(), hosts.end(), placed.host) == hosts.end())
      hosts.push_back(placed.host);
  return fmt::format("{} on {}", counted(view.placement.size(), "instance"),
                     hosts.empty() ? "no host" : foldHosts(hosts));
}

Json retireJson(const ServiceName& service, const ops::RetireView& view,
                const ops::RetireOutcome& outcome, bool dry_run, int exit_code) {
  Json dependants = Json::array(), removed = Json::array(), skipped = Json::array(),
       failed = Json::array(), missed = Json::array();
  for (const ServiceName& name : view.dependants) dependants.push_back(name.str());
  for (const Placed& placed : outcome.removed)
    removed.push_back({{"instance", placed.instance.text()}, {"host", placed.host.str()}});
  for (const HostName& host : outcome.skipped) skipped.push_back(host.str());
  for (const auto& [host, error] : outcome.failed)
    failed.push_back({{"host", host.str()}, {"error", error.message}});
  for (const auto& [host, error] : outcome.missed)
    missed.push_back({{"host", host.str()}, {"error", error.message}});
  Json json = clientsJson(view.clients);
  json["format"] = 1, json["service"] = service.str(), json["version"] = view.version;
  json["dependants"] = dependants, json["removed"] = removed, json["skipped_hosts"] = skipped;
  json["failed_hosts"] = failed, json["missed_hosts"] = missed, json["dry_run"] = dry_run;
  if (dry_run) json["would_follow"] = dependantsJson(outcome.dependants);
  json["exit"] = exit_code;
  return json;
}

int retireExitCode(const ops::RetireOutcome& outcome) {
  if (!outcome.failed.empty()) return kExitPartial;
  return outcome.skipped.empty() ? kExitOk : kExitUnreachable;
}

std::string retireText(const ServiceName& service, const ops::RetireOutcome& outcome) {
  std::string text;
  for (const auto& [host, error] : outcome.failed) text += printable(error.message) + "\n";
  text += fmt::format("{}: {} removed in {}", service, counted(outcome.removed.size(), "instance"),
                      humanDuration(outcome.took));
  if (!outcome.skipped.empty()) text += fmt::format("; left out: {}", foldHosts(outcome.skipped));
  if (retireExitCode(outcome) != kExitOk)
    return text + "; run the same command again to remove the rest\n";
  return text + "; its history, logs, data and releases stay\n";
}

// Refused, or agreed to. `obstacles` is shown either way.
Result<void> mayRetire(Context& context, const ServiceName& service, const RetireOptions& options,
                       const ops::RetireView& view) {
  const std::string obstacles = obstaclesText(service, view);
  const bool in_use = !obstacles.empty() && (view.exists() || !view.clients.clients.empty());
  if (in_use && !options.force)
    return fail(Code::kRefused, "{}nothing was changed; --force retires it all the same",
                obstacles);
  if (context.globals().dry_run) return {};
  if (in_use) context.progress().warning("", obstacles);
  return context.confirm(fmt::format("Retire {}: stop {} for good and forget where it runs?",
                                     service, placesText(view)));
}

Result<int> runRetire(Context& context, const RetireOptions& options) {
  CCTL_TRY(const ServiceName service, asUsage(parseServiceName(options.service)));
  CCTL_TRY(const Inventory* inventory, context.inventory());
  CCTL_TRY(ops::Operation * operation, context.operation());
  CCTL_TRY(const ops::RetireView view, ops::examineRetire(*operation, service));
  if (!view.exists() && !view.retired) {
    CCTL_CHECK(inventory->service(options.service));
    return fail(Code::kNotFound, "{} is not deployed: there is nothing to retire", service);
  }
  if (!view.clients.unknown.empty())
    context.progress().warning(foldHosts(view.clients.unknown),
                               "could not be asked who is connected");
  CCTL_CHECK(mayRetire(context, service, options, view));
  ops::RetireRequest request{service, Millis(0), options.skip_unreachable,
                             context.globals().dry_run};
  CCTL_TRY(request.lock_wait, context.lockWait());
  CCTL_TRY(const ops::RetireOutcome outcome, ops::retire(*operation, request));
  const int exit_code = retireExitCode(outcome);
  warnMissed(context, outcome.missed);
  if (context.json())
    context.printJson(retireJson(service, view, outcome, context.globals().dry_run, exit_code));
  else if (context.globals().dry_run)
    context.print(obstaclesText(service, view) + dependantsText(outcome.dependants) +
                  fmt::format("would retire {} {}: {}; dry run, nothing was changed\n", service,
                              view.version, placesText(view)));
  else
    context.print(retireText(service, outcome));
  return exit_code;
}

Run defineRetire(CLI::App& app) {
  auto options = std::make_shared<RetireOptions>();
  app.add_option("SERVICE", options->service, "Service")->required();
  app.add_flag("--force", options->force,
               "Although services depend on it or something is connected to it");
  app.add_flag("--skip-unreachable", options->skip_unreachable,
               "Leave out hosts that cannot be reached");
  return [options](Context& context) { return runRetire(context, *options); };
}

}  // namespace

std::vector<Command> retireCommands() {
  return {
      {"clients", "Processes that are connected to a service", "Watch", defineClients, {}},
      {"retire", "Take a service away for good, when nothing uses it", "Change", defineRetire, {}},
  };
}

}  // namespace cctl::cli
