// The one table of commands. Help, completion and man pages derive from it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cli/context.h"

namespace CLI {
class App;
}

namespace cctl::cli {

// Runs a parsed command and returns its exit code. An Error is printed by the caller, who exits
// with exitCodeOf(error.code).
using Run = std::function<Result<int>(Context&)>;

struct Command {
  std::string name;
  std::string summary;  // one line, no full stop
  std::string group;    // heading in the help
  // Declares arguments and options; what it returns runs the command after parsing. Empty for a
  // command that only has children; one that has both runs when no child is named.
  std::function<Run(CLI::App&)> define;
  std::vector<Command> children;
  bool needs_separator = false;  // a "--" must stand among its arguments
};

// In the order of the help.
std::vector<Command> commandTable();

// One file cmd_*.cc each.
std::vector<Command> inventoryCommands();  // init, validate, hosts, render
std::vector<Command> hostCommands();       // ping, bootstrap, unbootstrap, exec
std::vector<Command> doctorCommands();     // doctor
std::vector<Command> releaseCommands();    // release …, verify
std::vector<Command> signOffCommands();    // children of release: sign, verify
std::vector<Command> planCommands();       // plan, apply
std::vector<Command> moveCommands();       // migrate, drain, undrain
std::vector<Command> changeCommands();     // deploy, start, stop, restart, reload, signal
std::vector<Command> playCommands();       // play
std::vector<Command> statusCommands();     // status, top
std::vector<Command> watchCommands();      // logs, events, resolve
std::vector<Command> nameCommands();       // watch
std::vector<Command> coreCommands();       // cores
std::vector<Command> recordCommands();     // deps, history, lock …
std::vector<Command> retireCommands();     // clients, retire
std::vector<Command> registryCommands();   // registry …, sync
std::vector<Command> otherCommands();      // completion …, version

}  // namespace cctl::cli
