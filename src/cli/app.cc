#include "cli/app.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/version.h"
#include "cli/exit_codes.h"
#include "cli/help_format.h"
#include "cli/leave.h"
#include "cli/report.h"
#include "model/problem.h"
#include "transport/shell_quote.h"

namespace cctl::cli {
namespace {

// "--lock-wait" → "CLUSTERCTL_LOCK_WAIT"
std::string variableOf(const std::string& option) {
  std::string name = "CLUSTERCTL_";
  for (const char c : option.substr(2))
    name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

void addGlobals(CLI::App& app, Globals& globals, std::string& output) {
  // Of several the last counts: one that is typed after what an alias or a script gives.
  const auto option = [&](const std::string& names, const std::string& long_name, auto& value,
                          const std::string& help) {
    return app.add_option(names, value, help)
        ->envname(variableOf(long_name))
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
        ->group("Global options");
  };
  const auto flag = [&](const std::string& names, const std::string& long_name, auto& value,
                        const std::string& help) {
    return app.add_flag(names, value, help)
        ->envname(variableOf(long_name))
        ->group("Global options");
  };
  // First, since they are understood in this order: mistakes in the others are told in its format.
  option("-o,--output", "--output", output, "text, json or jsonl (default: text)")
      ->check(CLI::IsMember({"text", "json", "jsonl"}));
  option("-i,--inventory", "--inventory", globals.inventory,
         "Inventory directory (default: inventory)");
  option("-l,--limit", "--limit", globals.limit,
         "Only these hosts: names, groups, node sets, !excluded");
  option("--forks", "--forks", globals.forks, "Hosts at one time (default: 64)")
      ->check(CLI::Range(1, 4096));
  flag("--dry-run,--check", "--dry-run", globals.dry_run, "Say what would be done; change nothing");
  flag("--diff", "--diff", globals.diff, "Show what changes in generated files");
  flag("-y,--yes", "--yes", globals.yes, "Do not ask");
  flag("--accept-new", "--accept-new", globals.accept_new,
       "Add the keys of hosts that are not known yet");
  option("--timeout", "--timeout", globals.timeout,
         "Give up on commands run by exec after this long, e.g. 30s");
  option("--lock-wait", "--lock-wait", globals.lock_wait,
         "Wait this long for another operation to end (default: 0s)");
  flag("-q,--quiet", "--quiet", globals.quiet, "No progress on standard error");
  flag("-v,--verbose", "--verbose", globals.verbose, "More on standard error");
  option("--color", "--color", globals.colour, "auto, always or never (NO_COLOR is honoured)")
      ->check(CLI::IsMember({"auto", "always", "never"}));
}

struct Registered {
  const Command* command;
  CLI::App* app;
  Run run;
  std::vector<Registered> children;
};

std::vector<Registered> registerAll(CLI::App& parent, const std::vector<Command>& table) {
  std::vector<Registered> all;
  for (const Command& command : table) {
    CLI::App* app = parent.add_subcommand(command.name, command.summary);
    app->group(command.group.empty() ? "Commands" : command.group);
    app->fallthrough();
    app->allow_extras();
    Registered registered{&command, app, {}, {}};
    if (command.define) registered.run = command.define(*app);
    registered.children = registerAll(*app, command.children);
    all.push_back(std::move(registered));
  }
  return all;
}

const Registered* parsedOne(const std::vector<Registered>& all) {
  for (const Registered& one : all)
    if (one.app->parsed()) return &one;
  return nullptr;
}

std::vector<std::string> optionNames(const CLI::App* app) {
  std::vector<std::string> names;
  for (; app != nullptr; app = app->get_parent())
    for (const CLI::Option* option : app->get_options())
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  return names;
}

// CLI11 reports an unknown command as a missing one, and what is too much in reverse order.
Error unexpected(const CLI::App& app, const std::vector<std::string>& extras,
                 const std::vector<std::string>& commands) {
  const std::string& word = extras.front();
  const std::string where = app.get_parent() == nullptr ? "" : fmt::format("{}: ", app.get_name());
  if (word.size() > 1 && word[0] == '-')
    return {Code::kUsage, fmt::format("{}unknown option {}; {}", where, word,
                                      spellingHint(word, optionNames(&app), "see --help"))};
  if (!commands.empty())
    return {Code::kUsage, fmt::format("{}unknown command \"{}\"; {}", where, word,
                                      spellingHint(word, commands, "see --help"))};
  return {Code::kUsage, fmt::format("{}unexpected argument \"{}\"; see 'clusterctl {} --help'",
                                    where, word, app.get_name())};
}

std::vector<std::string> namesOf(const std::vector<Registered>& all) {
  std::vector<std::string> names;
  for (const Registered& one : all) names.push_back(one.command->name);
  return names;
}

// What was not understood. CLI11 counts the "--" itself among it.
std::vector<std::string> extrasOf(const CLI::App& app) {
  std::vector<std::string> extras = app.remaining();
  std::erase(extras, "--");
  return extras;
}

// The innermost command that was named.
Result<Run> chosen(const CLI::App& app, const std::vector<Registered>& all) {
  const Registered* one = parsedOne(all);
  const std::vector<std::string> extras = extrasOf(app);
  if (one == nullptr) {
    if (!extras.empty()) return fail(unexpected(app, extras, namesOf(all)));
    return Run{};
  }
  // What a child did not understand falls through to here.
  if (!extras.empty()) {
    const bool chose_child = parsedOne(one->children) != nullptr;
    return fail(unexpected(*one->app, extras,
                           chose_child ? std::vector<std::string>{} : namesOf(one->children)));
  }
  if (!one->children.empty()) {
    CCTL_TRY(Run run, chosen(*one->app, one->children));
    if (!run && one->run) return one->run;
    if (!run)
      return fail(Code::kUsage, "say what to do with '{}': {}", one->command->name,
                  fmt::join(namesOf(one->children), ", "));
    return run;
  }
  const std::vector<std::string> own = extrasOf(*one->app);
  if (!own.empty()) return fail(unexpected(*one->app, own, {}));
  return one->run;
}

// Without it, options of the remote command would be taken for ours: exec web1 ls -la.
Result<void> checkSeparator(const std::vector<Registered>& all,
                            const std::vector<std::string>& arguments) {
  const Registered* one = parsedOne(all);
  if (one == nullptr || !one->command->needs_separator) return {};
  if (std::find(arguments.begin(), arguments.end(), "--") != arguments.end()) return {};
  return fail(Code::kUsage, "{}: put -- in front of the command: clusterctl {} HOSTS -- CMD",
              one->command->name, one->command->name);
}

OutputFormat formatFrom(const std::string& name) {
  if (name == "json") return OutputFormat::kJson;
  return name == "jsonl" ? OutputFormat::kJsonLines : OutputFormat::kText;
}

std::string helpOf(const CLI::App& app) {
  std::string above;
  for (const CLI::App* parent = app.get_parent(); parent != nullptr; parent = parent->get_parent())
    above = parent->get_name() + (above.empty() ? "" : " ") + above;
  return app.help(above, CLI::AppFormatMode::Normal);
}

constexpr const char* kAbout =
    "Runs services on many Linux hosts over SSH: releases, configs, supervision, naming.";

std::vector<Registered> buildApp(CLI::App& app, const std::vector<Command>& table, Globals& globals,
                                 std::string& output) {
  app.formatter(helpFormatter());
  app.allow_extras();
  app.set_version_flag("--version", std::string("clusterctl ") + kVersion);
  addGlobals(app, globals, output);
  return registerAll(app, table);
}

// "{text,json,jsonl}" → those three
std::vector<std::string> choicesOf(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t open = type.find('{'), close = type.find('}');
  if (open == std::string::npos || close == std::string::npos) return {};
  return CLI::detail::split(type.substr(open + 1, close - open - 1), ',');
}

CommandShape shapeOf(const CLI::App& app) {
  CommandShape shape{app.get_name(), app.get_description(), {}, {}, {}};
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional()) {
      shape.arguments.push_back(
          {option->get_name(true),
           option->get_expected_max() == CLI::detail::expected_max_vector_size});
      continue;
    }
    OptionShape one{
        {}, option->get_description(), option->get_items_expected_max() > 0, choicesOf(*option)};
    for (const std::string& name : option->get_snames()) one.names.push_back("-" + name);
    for (const std::string& name : option->get_lnames()) one.names.push_back("--" + name);
    shape.options.push_back(std::move(one));
  }
  for (const CLI::App* child : app.get_subcommands({})) shape.children.push_back(shapeOf(*child));
  return shape;
}

std::string typedText(const std::vector<std::string>& arguments) {
  return "clusterctl " + ssh::shellJoin(arguments);
}

Json errorJson(const Error& error) {
  return {{"format", 1}, {"error", error.message}, {"exit", exitCodeOf(error.code)}};
}

Result<ParsedLine> parseLine(const std::vector<Command>& table,
                             const std::vector<std::string>& arguments, std::string& output) {
  CLI::App app(kAbout, "clusterctl");
  ParsedLine parsed;
  const std::vector<Registered> all = buildApp(app, table, parsed.globals, output);
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
  try {
    app.parse(reversed);
  } catch (const CLI::CallForHelp&) {
    const CLI::App* innermost = &app;
    while (!innermost->get_subcommands().empty()) innermost = innermost->get_subcommands().front();
    parsed.text = helpOf(*innermost);
    return parsed;
  } catch (const CLI::CallForVersion& version) {
    parsed.text = std::string(version.what()) + "\n";
    return parsed;
  } catch (const CLI::ArgumentMismatch& mismatch) {
    const std::string text = mismatch.what();
    const size_t twice = text.find(": At Most 1 required");
    if (twice == std::string::npos) return fail(Code::kUsage, "{}", text);
    return fail(Code::kUsage, "{} was given more than once", text.substr(0, twice));
  } catch (const CLI::Error& error) {
    return fail(Code::kUsage, "{}", error.what());
  }
  CCTL_TRY(parsed.run, chosen(app, all));
  CCTL_CHECK(checkSeparator(all, arguments));
  if (!parsed.run) parsed.text = helpOf(app);
  return parsed;
}

}  // namespace

Result<ParsedLine> parseCommandLine(const std::vector<Command>& table,
                                    const std::vector<std::string>& arguments,
                                    OutputFormat* output) {
  std::string asked = "text";
  auto parsed = parseLine(table, arguments, asked);
  if (parsed) parsed->globals.output = formatFrom(asked);
  if (output != nullptr) *output = formatFrom(asked);
  return parsed;
}

CommandShape shapeOf(const std::vector<Command>& table) {
  CLI::App app(kAbout, "clusterctl");
  Globals globals;
  std::string output;
  const std::vector<Registered> all = buildApp(app, table, globals, output);
  return shapeOf(app);
}

int reportResult(Context& context, const Result<int>& code) {
  if (code) return *code;
  context.progress().finish();
  fmt::print(
      stderr, "{}\n",
      context.painter().paint(Style::kBad, "clusterctl: " + printable(code.error().message)));
  if (context.json()) context.printJsonLine(errorJson(code.error()));
  return exitCodeOf(code.error().code);
}

int runCommandLine(const std::vector<std::string>& arguments, const ops::ShimImage& shim,
                   CancelToken& cancel, const StepHook& on_step) {
  OutputFormat output = OutputFormat::kText;
  auto parsed = parseCommandLine(commandTable(), arguments, &output);
  if (!parsed) {
    fmt::print(stderr, "clusterctl: {}\n", printable(parsed.error().message));
    if (output != OutputFormat::kText) fmt::print("{}\n", dumpJson(errorJson(parsed.error())));
    return exitCodeOf(parsed.error().code);
  }
  if (!parsed->run) {
    fmt::print("{}", parsed->text);
    return arguments.empty() ? kExitUsage : kExitOk;
  }
  if (output != OutputFormat::kText)
    setLastWords(dumpJson(errorJson({Code::kCancelled, "interrupted again, and left at once"})) +
                 "\n");
  Context context(parsed->globals, typedText(arguments), shim, cancel, on_step);
  return reportResult(context, parsed->run(context));
}

}  // namespace cctl::cli
