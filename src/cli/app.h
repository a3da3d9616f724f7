// The command line as a whole: arguments → the command to run, or what is wrong with them.
#pragma once

#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/program.h"

namespace cctl::cli {

// What the arguments ask for: a text to print (help, version), or a command.
struct ParsedLine {
  Globals globals;
  Run run;           // empty when there is only something to print
  std::string text;  // help
};

// Never connects and reads no files. kUsage for what is wrong, with the nearest command or option.
// `output`, where given, is set to the format that was asked for, also when something is wrong.
[[nodiscard]] Result<ParsedLine> parseCommandLine(const std::vector<Command>& table,
                                                  const std::vector<std::string>& arguments,
                                                  OutputFormat* output = nullptr);

// The command line as it is parsed, for completion.
struct OptionShape {
  std::vector<std::string> names;  // "-i", "--inventory"
  std::string help;
  bool takes_value = false;
  std::vector<std::string> choices;  // all the values that there are; empty: any
};
struct ArgumentShape {
  std::string name;   // "SERVICE"
  bool many = false;  // this and all that follow
};
struct CommandShape {
  std::string name, summary;
  std::vector<OptionShape> options;  // its own; those of the commands above it are taken, too
  std::vector<ArgumentShape> arguments;
  std::vector<CommandShape> children;
};
CommandShape shapeOf(const std::vector<Command>& table);

// The exit code of a command that ran; its error goes to standard error and, with JSON, also to
// standard output, as {"format": 1, "error": what, "exit": code}.
int reportResult(Context& context, const Result<int>& code);

// Parses, runs and reports an error; returns the exit code. `arguments` without the program name.
int runCommandLine(const std::vector<std::string>& arguments, const ops::ShimImage& shim,
                   CancelToken& cancel, const StepHook& on_step = {});

}  // namespace cctl::cli
