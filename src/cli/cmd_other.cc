// completion, version
#include <CLI/CLI.hpp>

#include "base/version.h"
#include "cli/command.h"
#include "cli/completion.h"
#include "model/disk_files.h"
#include "model/load.h"
#include "release/release_store.h"
#include "transport/ssh_config.h"

namespace cctl::cli {
namespace {

// ---- completion ------------------------------------------------------------------------------

std::function<Run(CLI::App&)> defineScript(Shell shell) {
  return [shell](CLI::App&) -> Run {
    return [shell](Context& context) -> Result<int> {
      context.print(completionScript(shell));
      return 0;
    };
  };
}

std::vector<std::string> versionsOf(const Inventory& inventory, const std::string& service) {
  std::vector<std::string> versions;
  const auto name = parseServiceName(service);
  if (!name) return versions;
  const release::ReleaseStore store(ssh::expandTilde(inventory.releases, ssh::homeDirectory()));
  if (const auto found = store.list(*name))
    for (const ReleaseInfo& info : found->releases) versions.push_back(info.version.str());
  return versions;
}

// Whatever is wrong with the user's files, the shell is not to hear of it: then only commands and
// options are offered.
Result<int> runWords(Context& context, const std::vector<std::string>& words) {
  const CommandShape shape = shapeOf(commandTable());
  const std::string directory = inventoryAmong(shape, words, context.globals().inventory);
  const LoadedInventory loaded =
      loadInventory(DiskFiles(), ssh::expandTilde(directory, ssh::homeDirectory()));
  CompletionNames names;
  if (loaded.inventory) {
    names.inventory = &*loaded.inventory;
    names.versions = [&](const std::string& service) {
      return versionsOf(*loaded.inventory, service);
    };
  }
  context.print(completionText(complete(shape, words, names)));
  return 0;
}

Run defineWords(CLI::App& app) {
  auto words = std::make_shared<std::vector<std::string>>();
  app.add_option("WORDS", *words, "The words behind the program's name, the last one unfinished");
  return [words](Context& context) { return runWords(context, *words); };
}

// ---- version ---------------------------------------------------------------------------------

Result<int> runVersion(Context& context) {
  if (context.json())
    context.print(fmt::format("{{\"format\":1,\"version\":\"{}\"}}\n", kVersion));
  else
    context.print(fmt::format("clusterctl {}\n", kVersion));
  return 0;
}

}  // namespace

std::vector<Command> otherCommands() {
  const std::vector<Command> shells = {
      {"bash",
       "The script: source <(clusterctl completion bash)",
       "",
       defineScript(Shell::kBash),
       {}},
      {"zsh", "The script: source <(clusterctl completion zsh)", "", defineScript(Shell::kZsh), {}},
      {"fish",
       "The script: clusterctl completion fish | source",
       "",
       defineScript(Shell::kFish),
       {}},
      {"words", "What the scripts ask: candidates for the last word", "", defineWords, {}},
  };
  return {
      {"completion", "Completion of the command line, for a shell", "Other", {}, shells},
      {"version", "Print the version", "Other", [](CLI::App&) { return Run(runVersion); }, {}},
  };
}

}  // namespace cctl::cli
