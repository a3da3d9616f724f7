// play
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/app.h"
#include "cli/command.h"
#include "cli/exit_codes.h"
#include "cli/report.h"
#include "model/disk_files.h"
#include "model/playbook.h"
#include "ops/condition.h"
#include "ops/release_source.h"
#include "transport/shell_quote.h"

namespace cctl::cli {
namespace {

struct PlayOptions {
  std::string file;
  std::vector<std::string> values;
};

// ---- before the first step -------------------------------------------------------------------

Result<PlayValues> givenValues(const std::vector<std::string>& texts) {
  PlayValues values;
  for (const std::string& text : texts) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0)
      return fail(Code::kUsage, "-e {}: write NAME=VALUE", printable(text));
    if (!values.emplace(text.substr(0, equals), text.substr(equals + 1)).second)
      return fail(Code::kUsage, "-e {}: given twice", printable(text.substr(0, equals)));
  }
  return values;
}

// Every step, those of on_failure too.
void forEachStep(const std::vector<PlayStep>& steps,
                 const std::function<void(const PlayStep&)>& visit) {
  for (const PlayStep& step : steps) {
    visit(step);
    forEachStep(step.rescue, visit);
  }
}

// Every step is one that this build can run.
void checkCommands(const Playbook& playbook, Problems& problems) {
  const std::vector<Command> table = commandTable();
  forEachStep(playbook.steps, [&](const PlayStep& step) {
    if (step.condition) return;
    const bool known = std::any_of(table.begin(), table.end(), [&](const Command& command) {
      return command.name == step.operation;
    });
    const auto parsed = parseCommandLine(table, step.arguments);
    if (!known)
      problems.add(step.where,
                   fmt::format("{} is known, but this build cannot do it", step.operation),
                   "remove it until a later version can");
    else if (!parsed)
      problems.add(step.where, fmt::format("{}: {}", step.operation, parsed.error().message));
  });
}

Result<Playbook> loadPlaybook(Context& context, const PlayOptions& options) {
  CCTL_TRY(const Inventory* inventory, context.inventory());
  CCTL_TRY(const PlayValues given, givenValues(options.values));
  CCTL_TRY(const std::string text, DiskFiles().read(options.file));
  Problems problems;
  Node node;
  if (!parseYaml(text, options.file, node, problems)) return fail(toError(problems.sorted()));
  const std::vector<PlayVariable> variables = readPlayVariables(node, problems);
  if (!problems.empty()) return fail(toError(problems.sorted()));
  CCTL_TRY(const PlayValues values, playValues(variables, given));
  Playbook playbook = readPlaybook(node, values, *inventory, problems);
  if (problems.empty()) checkCommands(playbook, problems);
  if (!problems.empty()) return fail(toError(problems.sorted()));
  return playbook;
}

// What a later step would be refused for is refused before the first one: releases that are
// missing, changed or not signed off.
Result<void> checkReleases(Context& context, const Playbook& playbook) {
  CCTL_TRY(const Inventory* inventory, context.inventory());
  Result<void> checked;
  forEachStep(playbook.steps, [&](const PlayStep& step) {
    if (!checked || !step.release_service || !step.release_version) return;
    const auto release = ops::loadRelease(*inventory, *step.release_service, *step.release_version,
                                          SystemClock().wall());
    // A roll-back can bring back from the hosts what the store no longer has.
    const bool fetches =
        step.operation == "rollback" && !release && release.error().code == Code::kNotFound;
    if (!release && !fetches) checked = fail(release.error().context(step.where.text()));
  });
  return checked;
}

Result<void> confirmPlay(Context& context, const Playbook& playbook) {
  std::string asks;
  forEachStep(playbook.steps, [&](const PlayStep& step) {
    if (step.asks)
      asks += (asks.empty() ? "" : ", ") + fmt::format("{}", fmt::join(step.arguments, " "));
  });
  if (asks.empty() || context.globals().dry_run) return {};
  return context.confirm(fmt::format("Play \"{}\", with {}?", playbook.name, asks));
}

// ---- the steps -------------------------------------------------------------------------------

struct StepResult {
  const PlayStep* step = nullptr;
  bool rescue = false;  // of an on_failure
  int exit = 0;
  std::string output;  // JSON, when that was asked for
  Millis took{0};
};

class Player {
 public:
  Player(Context& context, const Playbook& playbook)
      : context_(context), playbook_(playbook), table_(commandTable()) {}

  // The exit code of the first step that failed.
  int play() {
    for (size_t i = 0; i < playbook_.steps.size(); ++i) {
      const PlayStep& step = playbook_.steps[i];
      const int code =
          run(step, fmt::format("step {} of {}", i + 1, playbook_.steps.size()), false);
      if (code == kExitOk) continue;
      if (exit_ == kExitOk) exit_ = code, failed_ = &step;
      if (code != kExitInterrupted && step.goes_on) continue;
      if (code != kExitInterrupted) rescue(step);
      break;
    }
    return exit_;
  }

  Json json() const {
    Json steps = Json::array(), not_run = Json::array();
    for (const StepResult& result : results_) steps.push_back(stepJson(result));
    for (size_t i = begun_; i < playbook_.steps.size(); ++i)
      not_run.push_back(playbook_.steps[i].name);
    return {{"format", 1},    {"playbook", playbook_.name}, {"dry_run", context_.globals().dry_run},
            {"steps", steps}, {"not_run", not_run},         {"exit", exit_}};
  }

  std::string summary() const {
    const size_t all = playbook_.steps.size();
    std::string text = fmt::format("{}: ", playbook_.name);
    if (failed_ == nullptr)
      return text + (context_.globals().dry_run
                         ? fmt::format("dry run of {}, nothing was changed\n", counted(all, "step"))
                         : fmt::format("{} done\n", counted(all, "step")));
    text += fmt::format("\"{}\" ({}) failed with exit status {}", failed_->name,
                        failed_->where.text(), exit_);
    if (rescued_)
      text += *rescued_ == kExitOk ? "; its on_failure is done" : "; its on_failure failed too";
    if (begun_ < all)
      text += fmt::format("; not done: {} of {}", all - begun_, counted(all, "step"));
    return text + "\n";
  }

 private:
  int run(const PlayStep& step, const std::string& place, bool rescue) {
    if (!rescue) ++begun_;
    context_.progress().phase(fmt::format("{}: {}", place, step.name));
    context_.progress().finish();
    StepResult& result = results_.emplace_back();
    result.step = &step, result.rescue = rescue;
    const auto before = std::chrono::steady_clock::now();
    result.exit = step.condition ? runCondition(step, result) : runCommand(step, result);
    result.took = std::chrono::duration_cast<Millis>(std::chrono::steady_clock::now() - before);
    return result.exit;
  }

  void rescue(const PlayStep& step) {
    if (step.rescue.empty()) return;
    rescued_ = kExitOk;
    for (const PlayStep& one : step.rescue) {
      const int code = run(one, "on failure", true);
      if (code != kExitOk) rescued_ = code;
      if (code != kExitOk && !one.goes_on) return;
    }
  }

  // A step has connections of its own: those of the one before may be gone.
  std::unique_ptr<Context> stepContext(const PlayStep& step, StepResult& result) {
    Globals globals = context_.globals();
    globals.yes = true;  // asked before the first step
    auto own =
        std::make_unique<Context>(globals, fmt::format("{}: {}", context_.typed(), step.name),
                                  context_.shim(), context_.cancel());
    if (context_.json()) own->capture(&result.output);
    return own;
  }

  int runCommand(const PlayStep& step, StepResult& result) {
    const auto own = stepContext(step, result);
    const auto parsed = parseCommandLine(table_, step.arguments);
    if (!parsed) return reportResult(*own, fail(parsed.error()));
    return reportResult(*own, parsed->run(*own));
  }

  int runCondition(const PlayStep& step, StepResult& result) {
    const PlayCondition& condition = *step.condition;
    auto own = stepContext(step, result);
    const bool waits = step.operation == "wait";
    if (context_.globals().dry_run) {
      if (!context_.json())
        own->print(fmt::format(
            "would {} {}{}\n", waits ? "wait until" : "check that", condition.text,
            waits ? fmt::format(", at most {}", formatDuration(condition.timeout)) : ""));
      return kExitOk;
    }
    const Deadline deadline = Deadline::in(waits ? condition.timeout : Millis(0));
    while (true) {
      auto problem = lookOnce(*own, condition);
      if (problem && problem->empty()) return done(*own, condition);
      if (context_.cancel().cancelled())
        return reportResult(*own, fail(Code::kCancelled, "interrupted"));
      if (deadline.passed()) return reportResult(*own, unmet(condition, waits, problem));
      const auto rest = static_cast<int64_t>(deadline.pollTimeout());
      const auto paused =
          ops::pauseFor(std::min(condition.interval, Millis(rest)), &context_.cancel());
      if (!paused) return reportResult(*own, fail(paused.error()));
      if (!problem) own = stepContext(step, result);
    }
  }

  static Result<std::string> lookOnce(Context& own, const PlayCondition& condition) {
    CCTL_TRY(ops::Operation * operation, own.operation());
    return ops::conditionProblem(*operation, condition);
  }

  int done(Context& own, const PlayCondition& condition) {
    if (!context_.json()) own.print(condition.text + "\n");
    return kExitOk;
  }

  static Result<int> unmet(const PlayCondition& condition, bool waits,
                           const Result<std::string>& problem) {
    const std::string what = waits ? fmt::format("not so within {}: {}",
                                                 formatDuration(condition.timeout), condition.text)
                                   : fmt::format("not so: {}", condition.text);
    if (!problem) return fail(problem.error().context(what));
    return fail(Code::kFailed, "{}: {}", what, *problem);
  }

  static Json stepJson(const StepResult& result) {
    const Json parsed = Json::parse(result.output, nullptr, false);
    Json output;
    if (!parsed.is_discarded())
      output = parsed;
    else if (!result.output.empty())
      output = result.output;
    return {{"name", result.step->name},
            {"operation", result.step->operation},
            {"arguments", result.step->arguments},
            {"exit", result.exit},
            {"on_failure", result.rescue},
            {"milliseconds", result.took.count()},
            {"result", output}};
  }

  Context& context_;
  const Playbook& playbook_;
  const std::vector<Command> table_;
  std::deque<StepResult> results_;
  size_t begun_ = 0;
  int exit_ = kExitOk;
  const PlayStep* failed_ = nullptr;
  std::optional<int> rescued_;
};

Result<int> runPlay(Context& context, const PlayOptions& options) {
  CCTL_TRY(const Playbook playbook, loadPlaybook(context, options));
  CCTL_CHECK(checkReleases(context, playbook));
  CCTL_CHECK(confirmPlay(context, playbook));
  Player player(context, playbook);
  const int code = player.play();
  context.printEither(player.json(), player.summary());
  return code;
}

Run definePlay(CLI::App& app) {
  auto options = std::make_shared<PlayOptions>();
  app.add_option("FILE", options->file, "The playbook")->required();
  app.add_option("-e,--extra", options->values,
                 "NAME=VALUE of one of its variables; may be repeated")
      ->allow_extra_args(false);
  return [options](Context& context) { return runPlay(context, *options); };
}

}  // namespace

std::vector<Command> playCommands() {
  return {
      {"play", "Run a playbook: named steps, checked before the first", "Change", definePlay, {}}};
}

}  // namespace cctl::cli
