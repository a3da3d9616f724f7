// migrate, drain, undrain
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/exit_codes.h"
#include "cli/plan_text.h"
#include "cli/report.h"
#include "ops/migrate.h"

namespace cctl::cli {
namespace {

// ---- what was moved ----------------------------------------------------------------------------

Json movesJson(const ops::MigrateOutcome& outcome) {
  Json services = Json::array();
  for (const ops::ServiceMoves& one : outcome.services) {
    Json moves = Json::array(), failures = Json::array();
    for (const Move& move : one.moves)
      moves.push_back(
          {{"instance", move.id.text()}, {"from", move.from.str()}, {"to", move.to.str()}});
    if (one.outcome)
      for (const auto& failure : one.outcome->failures) failures.push_back(failureJson(failure));
    const bool done = one.outcome && !one.outcome->error;
    services.push_back(
        {{"service", one.service.str()},
         {"version", one.version.str()},
         {"moves", moves},
         {"done", done},
         {"dependants", one.outcome ? dependantsJson(one.outcome->dependants) : Json::array()},
         {"failures", failures}});
  }
  return services;
}

std::string movesText(const ops::MigrateOutcome& outcome, bool dry_run, const Painter& painter) {
  std::string text;
  for (const ops::ServiceMoves& one : outcome.services) {
    if (dry_run && one.outcome)
      text += planText(one.outcome->planned, one.outcome->plan, painter) +
              dependantsText(one.outcome->dependants);
    if (one.outcome)
      for (const auto& failure : one.outcome->failures) text += failureText(failure);
    const bool done = one.outcome && !one.outcome->error;
    for (const Move& move : one.moves)
      text += fmt::format("{} {}: {} → {}\n", move.id,
                          dry_run ? "would move"
                          : done  ? "moved"
                                  : "NOT moved",
                          move.from, move.to);
  }
  return text;
}

size_t movedCount(const ops::MigrateOutcome& outcome) {
  size_t count = 0;
  for (const ops::ServiceMoves& one : outcome.services)
    if (one.outcome && !one.outcome->error) count += one.moves.size();
  return count;
}

bool leftHostsOut(const ops::MigrateOutcome& outcome) {
  return std::any_of(
      outcome.services.begin(), outcome.services.end(),
      [](const ops::ServiceMoves& one) { return one.outcome && !one.outcome->skipped.empty(); });
}

// After something was moved, a failure is "partly", whatever became of the rest.
int movesExitCode(const ops::MigrateOutcome& outcome) {
  if (!outcome.error) return leftHostsOut(outcome) ? kExitUnreachable : kExitOk;
  if (outcome.error->code == Code::kCancelled) return kExitInterrupted;
  if (movedCount(outcome) > 0) return kExitPartial;
  const int code = exitCodeOf(outcome.error->code);
  const bool begun = !outcome.services.empty() && outcome.services.front().outcome;
  return begun && code != kExitRolledBack ? kExitPartial : code;
}

// ---- migrate -----------------------------------------------------------------------------------

struct MigrateOptions {
  std::string target, from, to;
  bool skip_unreachable = false;
};

Result<std::optional<HostName>> hostNamed(Context& context, const std::string& name) {
  if (name.empty()) return std::nullopt;
  CCTL_TRY(const Inventory* inventory, context.inventory());
  CCTL_TRY(const Host* host, inventory->host(name));
  return host->name;
}

Result<int> runMigrate(Context& context, const MigrateOptions& options) {
  ops::MigrateRequest request;
  CCTL_TRY(request.target, asUsage(parseTarget(options.target)));
  CCTL_TRY(request.from, hostNamed(context, options.from));
  CCTL_TRY(request.to, hostNamed(context, options.to));
  CCTL_TRY(request.lock_wait, context.lockWait());
  request.skip_unreachable = options.skip_unreachable;
  request.dry_run = context.globals().dry_run;
  CCTL_TRY(ops::Operation * operation, context.operation());
  CCTL_TRY(const ops::MigrateOutcome outcome, ops::migrate(*operation, request));
  const int exit_code = movesExitCode(outcome);
  warnMissed(context, outcome.missed);
  if (context.json()) {
    context.printJson({{"format", 1},
                       {"services", movesJson(outcome)},
                       {"dry_run", request.dry_run},
                       {"error", outcome.error ? Json(outcome.error->message) : Json()},
                       {"exit", exit_code},
                       {"milliseconds", outcome.took.count()}});
    return exit_code;
  }
  std::string text = movesText(outcome, request.dry_run, context.painter());
  if (outcome.error) text += outcome.error->message + "\n";
  text += request.dry_run
              ? fmt::format("{}: dry run, nothing was changed\n", request.target)
              : fmt::format("{}: {} moved in {}\n", request.target,
                            counted(movedCount(outcome), "instance"), humanDuration(outcome.took));
  context.print(text);
  return exit_code;
}

Run defineMigrate(CLI::App& app) {
  auto options = std::make_shared<MigrateOptions>();
  app.add_option("TARGET", options->target, "SERVICE or SERVICE/INDEX")->required();
  app.add_option("--from", options->from, "The host it leaves");
  app.add_option("--to", options->to, "The host it goes to (default: as `place` says)");
  app.add_flag("--skip-unreachable", options->skip_unreachable,
               "Also when the host it leaves cannot be reached");
  return [options](Context& context) { return runMigrate(context, *options); };
}

// ---- drain -------------------------------------------------------------------------------------

struct DrainOptions {
  std::string host;
  bool stop = false, leave = false, skip_unreachable = false;
};

Json idsJson(const std::vector<InstanceId>& ids) {
  Json json = Json::array();
  for (const InstanceId& id : ids) json.push_back(id.text());
  return json;
}

Json drainJson(const ops::DrainRequest& request, const ops::DrainOutcome& outcome, int exit_code) {
  Json stuck = Json::array(), failures = Json::array();
  for (const ops::Stuck& one : outcome.stuck)
    stuck.push_back({{"instance", one.id.text()}, {"why", one.why}});
  for (const auto& failure : outcome.failures) failures.push_back(failureJson(failure));
  return {{"format", 1},
          {"host", request.host.str()},
          {"dry_run", request.dry_run},
          {"drained", outcome.marked},
          {"services", movesJson(outcome.moved)},
          {"stuck", stuck},
          {"stopped", idsJson(outcome.stopped)},
          {"dependants", dependantsJson(outcome.dependants)},
          {"held", idsJson(outcome.held)},
          {"failures", failures},
          {"error", outcome.moved.error ? Json(outcome.moved.error->message) : Json()},
          {"exit", exit_code},
          {"milliseconds", outcome.moved.took.count()}};
}

int drainExitCode(const ops::DrainOutcome& outcome) {
  const int code = movesExitCode(outcome.moved);
  return code == kExitOk ? failuresExitCode(outcome.failures, {}) : code;
}

std::string stuckText(const ops::DrainRequest& request, const ops::DrainOutcome& outcome) {
  std::string text;
  for (const InstanceId& id : outcome.stopped)
    text += fmt::format("{}: {}\n", id,
                        request.dry_run ? "would be stopped, until undrain" : "stopped");
  text += dependantsText(outcome.dependants);
  if (request.on_stuck == ops::OnStuck::kLeave)
    for (const ops::Stuck& one : outcome.stuck)
      text += fmt::format("{}: {}left running\n", one.id, request.dry_run ? "would be " : "");
  for (const InstanceId& id : outcome.held)
    text += fmt::format("{}: was stopped before, stays as it is\n", id);
  for (const auto& failure : outcome.failures) text += failureText(failure);
  return text;
}

std::string drainResult(const ops::DrainRequest& request, const ops::DrainOutcome& outcome) {
  if (request.dry_run) return fmt::format("{}: dry run, nothing was changed\n", request.host);
  if (outcome.moved.error && !outcome.marked)
    return fmt::format("{}: not drained; all is as before\n", request.host);
  if (outcome.moved.error)
    return fmt::format(
        "{0}: drained in part; run 'clusterctl drain {0}' again to go on, or 'clusterctl undrain "
        "{0}'\n",
        request.host);
  return fmt::format("{}: drained, {} moved in {}; 'clusterctl undrain {}' opens it again\n",
                     request.host, counted(movedCount(outcome.moved), "instance"),
                     humanDuration(outcome.moved.took), request.host);
}

Result<int> runDrain(Context& context, const DrainOptions& options) {
  if (options.stop && options.leave)
    return fail(Code::kUsage, "--stop and --leave exclude each other");
  CCTL_TRY(const auto host, hostNamed(context, options.host));
  ops::DrainRequest request;
  request.host = *host;
  if (options.stop) request.on_stuck = ops::OnStuck::kStop;
  if (options.leave) request.on_stuck = ops::OnStuck::kLeave;
  CCTL_TRY(request.lock_wait, context.lockWait());
  request.skip_unreachable = options.skip_unreachable;
  request.dry_run = context.globals().dry_run;
  if (!request.dry_run)
    CCTL_CHECK(context.confirm(fmt::format("Move everything off {}{}?", request.host,
                                           options.stop ? ", and stop what cannot be moved" : "")));
  CCTL_TRY(ops::Operation * operation, context.operation());
  CCTL_TRY(const ops::DrainOutcome outcome, ops::drain(*operation, request));
  const int exit_code = drainExitCode(outcome);
  warnMissed(context, outcome.moved.missed);
  if (context.json()) {
    context.printJson(drainJson(request, outcome, exit_code));
    return exit_code;
  }
  std::string text = movesText(outcome.moved, request.dry_run, context.painter());
  text += stuckText(request, outcome);
  if (outcome.moved.error) text += outcome.moved.error->message + "\n";
  context.print(text + drainResult(request, outcome));
  return exit_code;
}

Run defineDrain(CLI::App& app) {
  auto options = std::make_shared<DrainOptions>();
  app.add_option("HOST", options->host, "Host")->required();
  app.add_flag("--stop", options->stop, "Stop what cannot be moved, until undrain");
  app.add_flag("--leave", options->leave, "Leave running what cannot be moved");
  app.add_flag("--skip-unreachable", options->skip_unreachable,
               "Also when the host cannot be reached: start its instances elsewhere");
  return [options](Context& context) { return runDrain(context, *options); };
}

// ---- undrain -----------------------------------------------------------------------------------

int undrainExitCode(const ops::UndrainOutcome& outcome) {
  if (outcome.error)
    return outcome.error->code == Code::kCancelled ? kExitInterrupted : kExitPartial;
  const int code = failuresExitCode(outcome.failures, {});
  if (code != kExitOk) return code;
  const int moved = movesExitCode(outcome.back);
  // The host was opened all the same.
  return moved == kExitOk || moved == kExitInterrupted || !outcome.was_drained ? moved
                                                                               : kExitPartial;
}

Json undrainJson(const ops::UndrainRequest& request, const ops::UndrainOutcome& outcome,
                 int exit_code) {
  Json failures = Json::array();
  for (const auto& failure : outcome.failures) failures.push_back(failureJson(failure));
  const auto& error = outcome.error ? outcome.error : outcome.back.error;
  return {{"format", 1},
          {"host", request.host.str()},
          {"dry_run", request.dry_run},
          {"was_drained", outcome.was_drained},
          {"started", idsJson(outcome.started)},
          {"dependants", dependantsJson(outcome.dependants)},
          {"services", movesJson(outcome.back)},
          {"failures", failures},
          {"error", error ? Json(error->message) : Json()},
          {"exit", exit_code}};
}

std::string couldComeBackText(const ops::MigrateOutcome& back) {
  std::string text;
  for (const ops::ServiceMoves& one : back.services)
    for (const Move& move : one.moves)
      text += fmt::format("{} could come back: {} → {}\n", move.id, move.from, move.to);
  return text;
}

// The last line.
std::string undrainResult(const ops::UndrainRequest& request, const ops::UndrainOutcome& outcome) {
  if (request.dry_run) return fmt::format("{}: dry run, nothing was changed\n", request.host);
  std::string text =
      fmt::format("{}: {}", request.host, outcome.was_drained ? "open again" : "was not drained");
  if (request.back)
    text += fmt::format("; {} moved there in {}", counted(movedCount(outcome.back), "instance"),
                        humanDuration(outcome.back.took));
  else if (outcome.was_drained && !outcome.back.services.empty())
    text += fmt::format("; what was moved stays where it is until 'clusterctl undrain --back {}'",
                        request.host);
  else if (outcome.was_drained)
    text += "; what was moved stays where it is";
  return text + "\n";
}

Result<int> runUndrain(Context& context, const std::string& name, bool back) {
  CCTL_TRY(const auto host, hostNamed(context, name));
  ops::UndrainRequest request;
  request.host = *host;
  request.back = back;
  CCTL_TRY(request.lock_wait, context.lockWait());
  request.dry_run = context.globals().dry_run;
  CCTL_TRY(ops::Operation * operation, context.operation());
  CCTL_TRY(const ops::UndrainOutcome outcome, ops::undrain(*operation, request));
  warnMissed(context, outcome.missed);
  warnMissed(context, outcome.back.missed);
  const int exit_code = undrainExitCode(outcome);
  if (context.json()) {
    context.printJson(undrainJson(request, outcome, exit_code));
    return exit_code;
  }
  std::string text;
  for (const InstanceId& id : outcome.started)
    text += fmt::format("{}: {}\n", id, request.dry_run ? "would start" : "started");
  text += dependantsText(outcome.dependants);
  for (const auto& failure : outcome.failures) text += failureText(failure);
  text += back ? movesText(outcome.back, request.dry_run, context.painter())
               : couldComeBackText(outcome.back);
  for (const auto& error : {outcome.error, outcome.back.error})
    if (error) text += error->message + "\n";
  context.print(text + undrainResult(request, outcome));
  return exit_code;
}

Run defineUndrain(CLI::App& app) {
  auto host = std::make_shared<std::string>();
  auto back = std::make_shared<bool>(false);
  app.add_option("HOST", *host, "Host")->required();
  app.add_flag("--back", *back, "Move instances there until their services are spread evenly");
  return [host, back](Context& context) { return runUndrain(context, *host, *back); };
}

}  // namespace

std::vector<Command> moveCommands() {
  return {
      {"migrate",
       "Move instances to another host without interruption",
       "Change",
       defineMigrate,
       {}},
      {"drain",
       "Move everything off a host, and place nothing new there",
       "Change",
       defineDrain,
       {}},
      {"undrain", "Open a drained host again", "Change", defineUndrain, {}},
  };
}

}  // namespace cctl::cli
