// deploy, start, stop, restart, reload, signal
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/exit_codes.h"
#include "cli/plan_text.h"
#include "cli/report.h"
#include "model/signals.h"
#include "ops/change.h"
#include "ops/deploy.h"
#include "ops/lifecycle.h"
#include "ops/release_source.h"
#include "ops/rollback.h"
#include "ops/without_quorum.h"

namespace cctl::cli {
namespace {

// ---- deploy ----------------------------------------------------------------------------------

Json deployJson(const ops::DeployRequest& request, const ops::DeployOutcome& outcome, int exit_code,
                bool diff) {
  Json failures = Json::array(), skipped = Json::array(), missed = Json::array(),
       waves = Json::array(), held = Json::array();
  for (const auto& failure : outcome.failures) failures.push_back(failureJson(failure));
  for (const HostName& host : outcome.skipped) skipped.push_back(host.str());
  for (const auto& [host, error] : outcome.missed)
    missed.push_back({{"host", host.str()}, {"error", error.message}});
  for (const Wave& wave : outcome.plan.waves) waves.push_back(wave.title);
  for (const InstanceId& id : outcome.plan.held) held.push_back(id.text());
  Json json = {{"format", 1},
               {"service", request.service.str()},
               {"version", request.version.str()},
               {"previous_version", outcome.previous_version},
               {"dry_run", request.dry_run},
               {"instances", outcome.instances},
               {"ready", outcome.ready},
               {"changes", waves},
               {"held", held},
               {"unfinished", outcome.unfinished},
               {"failures", failures},
               {"skipped_hosts", skipped},
               {"missed_hosts", missed},
               {"evidence", outcome.evidence},
               {"error", outcome.error ? Json(outcome.error->message) : Json()},
               {"exit", exit_code},
               {"milliseconds", outcome.took.count()}};
  if (request.dry_run) json["dependants"] = dependantsJson(outcome.dependants);
  if (diff) json["plan"] = planJson(outcome.planned, outcome.plan, true);
  return json;
}

// After all was put back. Something else than the version before may have run, too.
std::string asBefore(const ops::DeployOutcome& outcome) {
  const std::string& before = outcome.previous_version;
  if (before.empty()) return "nothing of it runs, as before";
  std::string others;
  const auto& observed = outcome.planned.observed;
  const auto runs_before = [&](const InstanceId& id) {
    return std::any_of(observed.begin(), observed.end(), [&](const ObservedInstance& one) {
      return one.id == id && one.running && one.version.str() == before;
    });
  };
  for (const ObservedInstance& one : observed)
    if (one.current && one.running && !runs_before(one.id))
      others += fmt::format("{}{} at {}", others.empty() ? "" : ", ", one.id, one.version);
  return others.empty() ? before + " is back"
                        : fmt::format("all is as before: {}, but {}", before, others);
}

// The last line of a deploy: what stands now.
std::string deployResult(const ops::DeployRequest& request, const ops::DeployOutcome& outcome) {
  const std::string what = fmt::format("{} {}", request.service, request.version);
  const std::string took = humanDuration(outcome.took);
  if (request.dry_run) return fmt::format("{}: dry run, nothing was changed\n", what);
  if (!outcome.error) {
    std::string text =
        fmt::format("{}: {} of {} ready in {}", what, outcome.ready,
                    counted(static_cast<size_t>(outcome.instances), "instance"), took);
    if (outcome.plan.empty())
      text = fmt::format("{}: nothing to do, {} of {} ready", what, outcome.ready,
                         counted(static_cast<size_t>(outcome.instances), "instance"));
    if (!outcome.plan.held.empty())
      text += fmt::format(", {} stopped by hand", outcome.plan.held.size());
    if (!outcome.failures.empty())
      text += fmt::format(", {} failed and stay as they were", outcome.failures.size());
    if (!outcome.skipped.empty()) text += fmt::format("; left out: {}", foldHosts(outcome.skipped));
    return text + "\n";
  }
  if (outcome.unrecorded)
    return fmt::format("{}: {} of {} ready, but {}\nrun the same command again to record it\n",
                       what, outcome.ready,
                       counted(static_cast<size_t>(outcome.instances), "instance"),
                       outcome.error->message);
  switch (outcome.error->code) {
    case Code::kRolledBack:
      return fmt::format("{}: failed after {}; {}\n", what, took, asBefore(outcome));
    case Code::kCancelled:
      return fmt::format(
          "{}: interrupted after {}; what was under way was put back, instances done before stay: "
          "see "
          "'clusterctl status {}', run the same command to go on\n",
          what, took, request.service);
    case Code::kFailed:
      return fmt::format(
          "{}: failed after {} and stopped there, not rolled back: instances done stay: see "
          "'clusterctl status {}'\n",
          what, took, request.service);
    default:
      return fmt::format("{}: NOT put back: {}\nsee 'clusterctl status {}'\n", what,
                         outcome.error->message, request.service);
  }
}

std::string deployPlanText(const ServiceName& service, const ops::DeployOutcome& outcome,
                           const Painter& painter) {
  std::string text;
  if (!outcome.unfinished.empty())
    text = fmt::format("{}: a roll-out of {} did not end; this one goes on from what it left\n",
                       service, outcome.unfinished);
  return text + planText(outcome.planned, outcome.plan, painter) +
         dependantsText(outcome.dependants);
}

int deployExitCode(const ops::DeployOutcome& outcome) {
  if (outcome.error)
    return exitCodeOf(outcome.error->code == Code::kRolledBack ||
                              outcome.error->code == Code::kCancelled
                          ? outcome.error->code
                          : Code::kPartial);
  return failuresExitCode(outcome.failures, outcome.skipped);
}

struct DeployOptions {
  std::string service, version;
  bool skip_unreachable = false;
  bool force = false;
  bool no_rollback = false;
  std::string evidence;
};

// $XDG_STATE_HOME/clusterctl/evidence; empty without a home.
std::string evidenceDirectory(const DeployOptions& options) {
  if (!options.evidence.empty()) return options.evidence;
  const char* state = std::getenv("XDG_STATE_HOME");
  if (state && *state == '/') return std::string(state) + "/clusterctl/evidence";
  const char* home = std::getenv("HOME");
  return home && *home ? std::string(home) + "/.local/state/clusterctl/evidence" : "";
}

Result<ops::DeployRequest> deployRequest(Context& context, const DeployOptions& options) {
  ops::DeployRequest request;
  CCTL_TRY(request.service, asUsage(parseServiceName(options.service)));
  CCTL_TRY(const Inventory* inventory, context.inventory());
  CCTL_CHECK(inventory->service(options.service));
  CCTL_TRY(request.lock_wait, context.lockWait());
  request.skip_unreachable = options.skip_unreachable;
  request.dry_run = context.globals().dry_run;
  request.force = options.force;
  request.roll_back = !options.no_rollback;
  request.evidence = evidenceDirectory(options);
  return request;
}

int showDeploy(Context& context, const ops::DeployRequest& request,
               const ops::DeployOutcome& outcome) {
  const int exit_code = deployExitCode(outcome);
  warnMissed(context, outcome.missed);
  if (context.json()) {
    context.printJson(deployJson(request, outcome, exit_code, context.globals().diff));
    return exit_code;
  }
  std::string text =
      request.dry_run ? deployPlanText(request.service, outcome, context.painter()) : "";
  if (context.globals().diff)
    text += diffText(changesOf(outcome.planned, outcome.plan), context.painter());
  for (const ops::InstanceFailure& failure : outcome.failures) text += failureText(failure);
  for (const std::string& path : outcome.evidence) text += fmt::format("evidence: {}\n", path);
  context.print(text + deployResult(request, outcome));
  return exit_code;
}

Result<int> runDeploy(Context& context, const DeployOptions& options) {
  CCTL_TRY(ops::DeployRequest request, deployRequest(context, options));
  CCTL_TRY(request.version, asUsage(parseVersion(options.version)));
  CCTL_TRY(const Inventory* inventory, context.inventory());
  CCTL_TRY(const ops::ReleaseSource release,
           ops::loadRelease(*inventory, request.service, request.version, SystemClock().wall()));
  CCTL_TRY(ops::Operation * operation, context.operation());
  CCTL_TRY(const ops::DeployOutcome outcome, ops::deploy(*operation, request, release));
  if (request.dry_run)
    CCTL_CHECK(ops::checkUnlocked(*operation, {request.service}, request.lock_wait));
  return showDeploy(context, request, outcome);
}

void addDeployOptions(CLI::App& app, DeployOptions& options) {
  app.add_flag("--skip-unreachable", options.skip_unreachable,
               "Leave out hosts that cannot be reached");
  app.add_flag("--no-rollback", options.no_rollback,
               "When it fails, leave the instances that are done as they are");
  app.add_option("--evidence", options.evidence,
                 "Where what tells why it failed is kept ($XDG_STATE_HOME/clusterctl/evidence)");
}

Run defineDeploy(CLI::App& app) {
  auto options = std::make_shared<DeployOptions>();
  app.add_option("SERVICE", options->service, "Service")->required();
  app.add_option("VERSION", options->version, "A version of the release store")->required();
  addDeployOptions(app, *options);
  app.add_flag("--force", options->force, "Replace also instances that are as they should be");
  return [options](Context& context) { return runDeploy(context, *options); };
}

// ---- rollback --------------------------------------------------------------------------------

Result<int> runRollback(Context& context, const DeployOptions& options) {
  CCTL_TRY(ops::DeployRequest request, deployRequest(context, options));
  std::optional<Version> version;
  if (!options.version.empty()) {
    CCTL_TRY(version, asUsage(parseVersion(options.version)));
  }
  CCTL_TRY(ops::Operation * operation, context.operation());
  CCTL_TRY(const ops::RollbackOutcome outcome, ops::rollback(*operation, request, version));
  request.version = outcome.version;
  if (request.dry_run)
    CCTL_CHECK(ops::checkUnlocked(*operation, {request.service}, request.lock_wait));
  if (outcome.differs && !outcome.deploy.error)
    context.progress().warning(
        request.service.str(),
        fmt::format("runs as it was with {}; the inventory says otherwise by now, and the next "
                    "deploy or apply follows the inventory",
                    outcome.version));
  return showDeploy(context, request, outcome.deploy);
}

Run defineRollback(CLI::App& app) {
  auto options = std::make_shared<DeployOptions>();
  app.add_option("SERVICE", options->service, "Service")->required();
  app.add_option("VERSION", options->version, "A version that was good (default: the last one)");
  addDeployOptions(app, *options);
  return [options](Context& context) { return runRollback(context, *options); };
}

// ---- start, stop, restart, reload, signal ------------------------------------------------------

struct LifecycleOptions {
  std::vector<std::string> targets;
  std::string host;
  std::string signal;
  bool skip_unreachable = false;
  bool without_quorum = false;
};

Json lifecycleJson(const ops::LifecycleRequest& request, const ops::LifecycleOutcome& outcome,
                   int exit_code) {
  Json done = Json::array(), failures = Json::array(), skipped = Json::array(),
       selected = Json::array(), held = Json::array();
  for (const InstanceId& id : outcome.held) held.push_back(id.text());
  for (const Placed& placed : outcome.selected)
    selected.push_back({{"instance", placed.instance.text()}, {"host", placed.host.str()}});
  for (const InstanceId& id : outcome.done) done.push_back(id.text());
  for (const auto& failure : outcome.failures) failures.push_back(failureJson(failure));
  for (const HostName& host : outcome.skipped) skipped.push_back(host.str());
  Json json = {{"format", 1},
               {"action", ops::actionName(request.action)},
               {"dry_run", request.dry_run},
               {"selected", selected},
               {"held", held},
               {"done", done},
               {"failures", failures},
               {"skipped_hosts", skipped},
               {"error", outcome.error ? Json(outcome.error->message) : Json()},
               {"exit", exit_code},
               {"milliseconds", outcome.took.count()}};
  if (request.dry_run) json["dependants"] = dependantsJson(outcome.dependants);
  return json;
}

int lifecycleExitCode(const ops::LifecycleOutcome& outcome) {
  if (outcome.error)
    return outcome.error->code == Code::kCancelled ? kExitInterrupted : kExitPartial;
  return failuresExitCode(outcome.failures, outcome.skipped);
}

Result<ops::LifecycleRequest> lifecycleRequest(Context& context, ops::Action action,
                                               const LifecycleOptions& options) {
  ops::LifecycleRequest request;
  request.action = action;
  for (const std::string& text : options.targets) {
    CCTL_TRY(const Target target, asUsage(parseTarget(text)));
    request.targets.push_back(target);
  }
  CCTL_TRY(const Inventory* inventory, context.inventory());
  if (!options.host.empty()) {
    CCTL_TRY(const Host* host, inventory->host(options.host));
    request.host = host->name;
  }
  if (request.targets.empty() && !request.host)
    return fail(Code::kUsage,
                "say what to {}: SERVICE, SERVICE/INDEX, or --host H for all on one host",
                ops::actionName(action));
  if (action == ops::Action::kSignal) {
    const std::optional<int> number = signalFromName(options.signal);
    if (!number)
      return fail(Code::kUsage, "\"{}\" is not a signal like HUP or USR1", options.signal);
    request.signal = *number;
  }
  CCTL_TRY(request.lock_wait, context.lockWait());
  request.skip_unreachable = options.skip_unreachable;
  request.dry_run = context.globals().dry_run;
  return request;
}

std::string selectionText(const ops::LifecycleRequest& request) {
  std::string text;
  for (const Target& target : request.targets) text += (text.empty() ? "" : ", ") + target.text();
  if (!request.host) return text;
  return text.empty() ? fmt::format("everything on {}", *request.host)
                      : fmt::format("{} on {}", text, *request.host);
}

Result<int> runLifecycle(Context& context, ops::Action action, const LifecycleOptions& options) {
  CCTL_TRY(const ops::LifecycleRequest request, lifecycleRequest(context, action, options));
  if (action == ops::Action::kStop && !request.dry_run)
    CCTL_CHECK(context.confirm(
        fmt::format("Stop {}? It stays so until started.", selectionText(request))));
  CCTL_TRY(ops::Operation * operation, context.operation());
  CCTL_TRY(const ops::LifecycleOutcome outcome,
           options.without_quorum ? ops::lifecycleWithoutQuorum(*operation, request)
                                  : ops::lifecycle(*operation, request));
  const int exit_code = lifecycleExitCode(outcome);
  warnMissed(context, outcome.missed);
  if (context.json()) {
    context.printJson(lifecycleJson(request, outcome, exit_code));
    return exit_code;
  }
  std::string text;
  if (request.dry_run)
    for (const Placed& placed : outcome.selected)
      text += fmt::format("{} {} on {}\n", ops::actionName(action), placed.instance, placed.host);
  text += dependantsText(outcome.dependants);
  for (const InstanceId& id : outcome.held)
    text += fmt::format("{}: stays stopped until 'clusterctl start {}'\n", id, id);
  for (const ops::InstanceFailure& failure : outcome.failures) text += failureText(failure);
  if (outcome.error) text += outcome.error->message + "\n";
  text += request.dry_run ? fmt::format("{} {}: dry run, nothing was changed\n",
                                        ops::actionName(action), selectionText(request))
                          : fmt::format("{} {}: {} of {} done in {}\n", ops::actionName(action),
                                        selectionText(request), outcome.done.size(),
                                        counted(outcome.selected.size(), "instance"),
                                        humanDuration(outcome.took));
  context.print(text);
  return exit_code;
}

std::function<Run(CLI::App&)> defineLifecycle(ops::Action action) {
  return [action](CLI::App& app) -> Run {
    auto options = std::make_shared<LifecycleOptions>();
    if (action == ops::Action::kSignal)
      app.add_option("SIGNAL", options->signal, "HUP, USR1, …")->required();
    app.add_option("TARGET", options->targets, "SERVICE or SERVICE/INDEX");
    app.add_option("--host", options->host, "Only what runs on this host");
    app.add_flag("--skip-unreachable", options->skip_unreachable,
                 "Leave out hosts that cannot be reached");
    if (action == ops::Action::kStart || action == ops::Action::kStop ||
        action == ops::Action::kRestart)
      app.add_flag("--without-quorum", options->without_quorum,
                   "Order the hosts about while the registry cannot decide; 'sync' tells it later");
    return [options, action](Context& context) { return runLifecycle(context, action, *options); };
  };
}

}  // namespace

std::vector<Command> changeCommands() {
  using ops::Action;
  return {
      {"deploy",
       "Push, start, gate on health, publish, stop the old; undo by itself on failure",
       "Change",
       defineDeploy,
       {}},
      {"rollback", "Back to the last good version, as it was", "Change", defineRollback, {}},
      {"start", "Start what was stopped", "Change", defineLifecycle(Action::kStart), {}},
      {"stop", "Stop; it stays so until started", "Change", defineLifecycle(Action::kStop), {}},
      {"restart", "Restart, batch by batch", "Change", defineLifecycle(Action::kRestart), {}},
      {"reload", "Send SIGHUP", "Change", defineLifecycle(Action::kReload), {}},
      {"signal", "Send a signal", "Change", defineLifecycle(Action::kSignal), {}},
  };
}

}  // namespace cctl::cli
