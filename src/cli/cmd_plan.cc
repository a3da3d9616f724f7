// plan, apply
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "cli/command.h"
#include "cli/exit_codes.h"
#include "cli/plan_text.h"
#include "cli/report.h"
#include "ops/change.h"
#include "ops/saved_plan.h"

namespace cctl::cli {
namespace {

struct PlanOptions {
  std::string service;
  std::string out;   // plan
  std::string file;  // apply
  bool skip_unreachable = false;
};

// ---- texts -----------------------------------------------------------------------------------

std::string leftoverText(const ops::ServicePlan& plan, const Painter& painter) {
  std::string text;
  const auto line = [&](const std::string& what) {
    text +=
        painter.paint(Style::kWarn, printable(fmt::format("{}: {}", plan.service, what))) + "\n";
  };
  if (!plan.left_behind.empty())
    line(fmt::format("an operation that did not end left its lock: {}; 'apply' takes it over",
                     plan.left_behind));
  if (!plan.unfinished.empty() && plan.version.empty())
    line(fmt::format(
        "its first roll-out, of {0}, did not end; finish it with 'clusterctl deploy {1} "
        "{0}', or take it off with 'clusterctl retire {1}'",
        plan.unfinished, plan.service));
  else if (!plan.unfinished.empty())
    line(fmt::format("a roll-out of {} {}{}", plan.unfinished,
                     plan.under_way.empty() ? "did not end" : "is under way: " + plan.under_way,
                     plan.unfinished == plan.version.str()
                         ? std::string()
                         : fmt::format("; {} was deployed before", plan.version)));
  return text;
}

std::string serviceText(const ops::ServicePlan& plan, bool diff, const Painter& painter) {
  std::string text = leftoverText(plan, painter);
  if (plan.version.empty() && !plan.gone) {
    if (!plan.unfinished.empty()) return text;
    return text + fmt::format("{}: never deployed; 'clusterctl deploy {} VERSION' does\n",
                              plan.service, plan.service);
  }
  const std::string name =
      plan.version.empty() ? plan.service.str() : fmt::format("{} {}", plan.service, plan.version);
  if (plan.gone)
    text += painter.paint(Style::kBold, name + ": no longer in the inventory") + "\n";
  else
    text +=
        painter.paint(Style::kBold, fmt::format("{}: {}", name, countsText(plan.changes()))) + "\n";
  text += planText(plan.planned, plan.plan, painter) + dependantsText(plan.dependants);
  if (diff) text += diffText(plan.changes(), painter);
  for (const HostName& host : plan.skipped)
    text += fmt::format("    {}: unreachable, left out\n", host);
  return text;
}

std::vector<PlannedChange> allChanges(const ops::ClusterPlan& plan) {
  std::vector<PlannedChange> all;
  for (const ops::ServicePlan& service : plan.services)
    for (PlannedChange& change : service.changes()) all.push_back(std::move(change));
  return all;
}

std::string clusterText(const Context& context, const ops::ClusterPlan& plan) {
  std::string text;
  for (const ops::ServicePlan& service : plan.services)
    text += serviceText(service, context.globals().diff, context.painter());
  if (!plan.drained.empty())
    text += fmt::format("drained: {}\n",
                        foldHosts(std::vector<HostName>(plan.drained.begin(), plan.drained.end())));
  return text;
}

Json serviceJson(const ops::ServicePlan& plan, bool diff) {
  Json json = planJson(plan.planned, plan.plan, diff), skipped = Json::array();
  for (const HostName& host : plan.skipped) skipped.push_back(host.str());
  json["service"] = plan.service.str();
  json["version"] = plan.version.str();
  json["gone"] = plan.gone;
  json["unfinished"] = plan.unfinished;
  json["under_way"] = plan.under_way.empty() ? Json() : Json(plan.under_way);
  json["left_behind"] = plan.left_behind.empty() ? Json() : Json(plan.left_behind);
  json["dependants"] = dependantsJson(plan.dependants);
  json["skipped_hosts"] = skipped;
  return json;
}

Json clusterJson(const Context& context, const ops::ClusterPlan& plan) {
  Json services = Json::array(), drained = Json::array();
  for (const ops::ServicePlan& service : plan.services)
    services.push_back(serviceJson(service, context.globals().diff));
  for (const HostName& host : plan.drained) drained.push_back(host.str());
  return {{"format", 1},
          {"services", services},
          {"drained", drained},
          {"empty", plan.empty()},
          {"removals", plan.hasRemovals()}};
}

// ---- plan ------------------------------------------------------------------------------------

Result<ops::ApplyRequest> applyRequest(Context& context, const PlanOptions& options) {
  ops::ApplyRequest request;
  if (!options.service.empty()) {
    CCTL_TRY(request.service, asUsage(parseServiceName(options.service)));
  }
  CCTL_TRY(request.lock_wait, context.lockWait());
  request.skip_unreachable = options.skip_unreachable;
  return request;
}

ops::PlanOrigin originOf(const ops::Operation& operation, const ops::ApplyRequest& request) {
  return {operation.inventory().cluster, operation.inventory().digest,
          request.service ? request.service->str() : "", operation.identity.text(),
          SystemClock().wall()};
}

bool leavesOut(const ops::ClusterPlan& plan) {
  return std::any_of(plan.services.begin(), plan.services.end(),
                     [](const ops::ServicePlan& service) { return !service.skipped.empty(); });
}

Result<int> runPlan(Context& context, const PlanOptions& options) {
  CCTL_TRY(const ops::ApplyRequest request, applyRequest(context, options));
  context.onlyLook();
  CCTL_TRY(ops::Operation * operation, context.operation());
  CCTL_TRY(const ops::ClusterPlan plan, ops::planCluster(*operation, request));
  const bool dry_run = context.globals().dry_run;
  if (!options.out.empty() && !dry_run) {
    auto written =
        replaceFile(options.out, ops::encodePlan(plan, originOf(*operation, request)), 0644);
    if (!written) return fail(written.error().context("the plan was not saved"));
  }
  if (context.json()) {
    context.printJson(clusterJson(context, plan));
  } else {
    std::string text = clusterText(context, plan);
    text += fmt::format("plan: {}\n", countsText(allChanges(plan)));
    if (!options.out.empty() && dry_run)
      text += fmt::format("would be saved in {}\n", options.out);
    else if (!options.out.empty())
      text += fmt::format("saved; carry it out with 'clusterctl apply --plan {}'\n", options.out);
    context.print(text);
  }
  return leavesOut(plan) ? kExitUnreachable : kExitOk;
}

Run definePlan(CLI::App& app) {
  auto options = std::make_shared<PlanOptions>();
  app.add_option("SERVICE", options->service, "Only this service (default: all)");
  app.add_option("--out", options->out, "Save the plan for 'apply --plan'");
  app.add_flag("--skip-unreachable", options->skip_unreachable,
               "Leave out hosts that cannot be reached");
  return [options](Context& context) { return runPlan(context, *options); };
}

// ---- apply -----------------------------------------------------------------------------------

// The text of the saved plan, and the service it was made for.
Result<std::string> loadSaved(PlanOptions& options) {
  auto saved = readFile(options.file);
  if (!saved) return fail(saved.error());
  auto scope = ops::scopeOfSaved(*saved);
  if (!scope) return fail(scope.error().context(options.file));
  if (!options.service.empty() && options.service != *scope)
    return fail(Code::kUsage, "{} is a plan for {}, not for {}", options.file,
                scope->empty() ? "all services" : *scope, options.service);
  options.service = *scope;
  return saved;
}

Result<void> checkHolds(const std::string& file, const std::string& saved,
                        const ops::ClusterPlan& now, const ops::PlanOrigin& origin) {
  CCTL_TRY(const std::vector<std::string> changed, ops::changedSince(saved, now, origin));
  if (changed.empty()) return {};
  return fail(Code::kStalePlan,
              "nothing was changed: {} does not hold any more, since these changed meanwhile:\n  "
              "{}\nlook at a new one: clusterctl plan --out {}",
              file, fmt::join(changed, "\n  "), file);
}

Json appliedJson(const Context& context, const ops::ApplyOutcome& outcome,
                 const ops::ClusterPlan& plan, int exit_code) {
  Json services = Json::array(), missed = Json::array();
  for (const ops::AppliedService& one : outcome.services) {
    Json failures = Json::array();
    for (const auto& failure : one.outcome.failures) failures.push_back(failureJson(failure));
    services.push_back({{"service", one.service.str()},
                        {"version", one.version.str()},
                        {"removed", one.gone},
                        {"instances", one.outcome.instances},
                        {"ready", one.outcome.ready},
                        {"failures", failures},
                        {"error", one.outcome.error ? Json(one.outcome.error->message) : Json()}});
  }
  for (const auto& [host, error] : outcome.missed)
    missed.push_back({{"host", host.str()}, {"error", error.message}});
  Json json = clusterJson(context, plan);
  json["applied"] = services;
  json["missed_hosts"] = missed;
  json["error"] = outcome.error ? Json(outcome.error->message) : Json();
  json["exit"] = exit_code;
  json["milliseconds"] = outcome.took.count();
  return json;
}

std::string appliedText(const ops::AppliedService& one) {
  const std::string name = fmt::format("{} {}", one.service, one.version);
  if (one.outcome.error)
    return fmt::format(
        "{}: {}{}\n", name,
        one.outcome.error->code == Code::kRolledBack ? "failed and put back: " : "NOT as planned: ",
        one.outcome.error->message);
  if (one.gone) return fmt::format("{}: removed\n", name);
  if (one.version.empty()) return fmt::format("{}: there is nothing to apply yet\n", one.service);
  std::string text = fmt::format("{}: {} of {} ready", name, one.outcome.ready,
                                 counted(static_cast<size_t>(one.outcome.instances), "instance"));
  if (!one.outcome.skipped.empty())
    text += fmt::format("; left out: {}", foldHosts(one.outcome.skipped));
  return text + "\n";
}

// What one service's end means when it was the first; after others were changed it is "partly".
int applyExitCode(const ops::ApplyOutcome& outcome, const ops::ClusterPlan& plan) {
  if (!outcome.error) return leavesOut(plan) ? kExitUnreachable : kExitOk;
  if (outcome.error->code == Code::kCancelled) return kExitInterrupted;
  const bool first = outcome.services.size() == 1;
  return first && outcome.error->code == Code::kRolledBack ? kExitRolledBack : kExitPartial;
}

Result<int> reportApplied(Context& context, const ops::ApplyOutcome& outcome,
                          const ops::ClusterPlan& plan) {
  const int exit_code = applyExitCode(outcome, plan);
  warnMissed(context, outcome.missed);
  if (context.json()) {
    context.printJson(appliedJson(context, outcome, plan, exit_code));
    return exit_code;
  }
  std::string text;
  for (const ops::AppliedService& one : outcome.services)
    for (const ops::InstanceFailure& failure : one.outcome.failures) text += failureText(failure);
  for (const ops::AppliedService& one : outcome.services) text += appliedText(one);
  if (outcome.error && (outcome.services.empty() || !outcome.services.back().outcome.error))
    text += outcome.error->message + "\n";
  const bool all_deployed =
      std::none_of(plan.services.begin(), plan.services.end(),
                   [](const ops::ServicePlan& one) { return one.version.empty() && !one.gone; });
  text += fmt::format("apply: {} in {}\n",
                      outcome.error  ? "'clusterctl plan' says what is left; ended early"
                      : all_deployed ? "all is as the inventory says"
                                     : "done, but for what was never deployed",
                      humanDuration(outcome.took));
  context.print(text);
  return exit_code;
}

int reportNothing(Context& context, const ops::ClusterPlan& plan) {
  const int exit_code = leavesOut(plan) ? kExitUnreachable : kExitOk;
  if (context.json()) {
    context.printJson(appliedJson(context, {}, plan, exit_code));
    return exit_code;
  }
  std::string text = clusterText(context, plan);
  context.print(text + "apply: nothing to do\n");
  return exit_code;
}

Result<int> runApply(Context& context, PlanOptions options) {
  std::string saved;
  if (!options.file.empty()) {
    CCTL_TRY(saved, loadSaved(options));
  }
  CCTL_TRY(const ops::ApplyRequest request, applyRequest(context, options));
  CCTL_TRY(ops::Operation * operation, context.operation());
  CCTL_TRY(const ops::ClusterPlan plan, ops::planCluster(*operation, request));
  if (!options.file.empty())
    CCTL_CHECK(checkHolds(options.file, saved, plan, originOf(*operation, request)));
  if (plan.empty() && !plan.hasLeftovers()) return reportNothing(context, plan);
  if (context.globals().dry_run) {
    CCTL_CHECK(ops::checkApply(*operation, request, plan));
    if (context.json())
      context.printJson(clusterJson(context, plan));
    else
      context.print(
          clusterText(context, plan) +
          fmt::format("apply: {}{}; dry run, nothing was changed\n", countsText(allChanges(plan)),
                      plan.hasLeftovers() ? ", what was left would be brought to its end" : ""));
    return leavesOut(plan) ? kExitUnreachable : kExitOk;
  }
  if (!context.json()) context.print(clusterText(context, plan));
  if (plan.hasRemovals())
    CCTL_CHECK(context.confirm("This takes instances away for good. Carry it out?"));
  CCTL_TRY(const ops::ApplyOutcome outcome, ops::applyPlan(*operation, request, plan));
  return reportApplied(context, outcome, plan);
}

Run defineApply(CLI::App& app) {
  auto options = std::make_shared<PlanOptions>();
  app.add_option("SERVICE", options->service, "Only this service (default: all)");
  app.add_option("--plan", options->file, "Exactly what this saved plan says, or nothing (7)");
  app.add_flag("--skip-unreachable", options->skip_unreachable,
               "Leave out hosts that cannot be reached");
  return [options](Context& context) { return runApply(context, *options); };
}

}  // namespace

std::vector<Command> planCommands() {
  return {
      {"plan",
       "What 'apply' would change: the inventory against what runs",
       "Change",
       definePlan,
       {}},
      {"apply",
       "Bring what runs to what the inventory says, at the versions last deployed",
       "Change",
       defineApply,
       {}},
  };
}

}  // namespace cctl::cli
