#include "cli/context.h"

#include <termios.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>

#include "model/disk_files.h"
#include "model/load.h"
#include "transport/ssh_config.h"

namespace cctl::cli {
namespace {

bool wantsColour(const std::string& setting) {
  if (setting == "always") return true;
  if (setting == "never" || ::getenv("NO_COLOR") != nullptr) return false;
  return ::isatty(STDERR_FILENO) != 0 && ::isatty(STDOUT_FILENO) != 0;
}

Verbosity verbosityOf(const Globals& globals) {
  if (globals.quiet) return Verbosity::kQuiet;
  return globals.verbose > 0 ? Verbosity::kVerbose : Verbosity::kNormal;
}

// From the terminal itself, with echo off; nullopt when there is none or nothing was typed.
std::optional<std::string> askPassphrase(const std::string& key_file) {
  std::FILE* terminal = std::fopen("/dev/tty", "r+e");
  if (terminal == nullptr) return std::nullopt;
  termios before{};
  ::tcgetattr(::fileno(terminal), &before);
  termios silent = before;
  silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
  ::tcsetattr(::fileno(terminal), TCSAFLUSH, &silent);
  fmt::print(terminal, "Passphrase for {}: ", key_file);
  std::fflush(terminal);
  char line[1024] = "";
  const bool read = std::fgets(line, sizeof line, terminal) != nullptr;
  ::tcsetattr(::fileno(terminal), TCSAFLUSH, &before);
  fmt::print(terminal, "\n");
  std::fclose(terminal);
  std::string text(line);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return read && !text.empty() ? std::optional<std::string>(text) : std::nullopt;
}

}  // namespace

Context::Context(Globals globals, std::string typed, ops::ShimImage shim, CancelToken& cancel,
                 StepHook on_step)
    : globals_(std::move(globals)),
      typed_(std::move(typed)),
      shim_(std::move(shim)),
      cancel_(cancel),
      on_step_(std::move(on_step)),
      painter_(wantsColour(globals_.colour)),
      progress_(stderr, ::isatty(STDERR_FILENO) != 0 && ::isatty(STDOUT_FILENO) != 0, painter_,
                verbosityOf(globals_)) {}

Result<const Inventory*> Context::inventory() {
  if (inventory_) return &*inventory_;
  LoadedInventory loaded = loadInventory(DiskFiles(), globals_.inventory);
  // What is merely untidy is told by `validate`, not by every command.
  if (!loaded.ok()) return fail(toError(loaded.problems));
  inventory_ = std::move(loaded.inventory);
  // The model knows no environment.
  const std::string home = ssh::homeDirectory();
  inventory_->releases = ssh::expandTilde(inventory_->releases, home);
  inventory_->sign_off.allowed_signers =
      ssh::expandTilde(inventory_->sign_off.allowed_signers, home);
  return &*inventory_;
}

Result<std::vector<HostName>> Context::limitedHosts() {
  CCTL_TRY(const Inventory* inventory, this->inventory());
  if (globals_.limit.empty()) return inventory->host_order;
  return selectHosts(*inventory, globals_.limit);
}

Result<Millis> Context::lockWait() const {
  auto wait = parseDuration(globals_.lock_wait);
  if (!wait) return fail(Code::kUsage, "--lock-wait: {}", wait.error().message);
  return wait;
}

ssh::PassphrasePrompt Context::passphrasePrompt() const {
  return ::isatty(STDIN_FILENO) ? ssh::PassphrasePrompt(askPassphrase) : nullptr;
}

ssh::SshPolicy Context::sshPolicy() {
  ssh::SshPolicy policy;
  policy.accept_new = globals_.accept_new;
  policy.dry_run = globals_.dry_run;
  policy.passphrase_prompt = passphrasePrompt();
  policy.on_notice = [this](const std::string& notice) { progress_.step("", notice); };
  return policy;
}

Result<ops::Fleet*> Context::fleet(bool force_bootstrap) {
  if (fleet_) return fleet_.get();
  CCTL_TRY(const Inventory* inventory, this->inventory());
  ops::FleetOptions options;
  options.forks = static_cast<size_t>(globals_.forks);
  options.shim = shim_;
  options.policy = sshPolicy();
  options.force_bootstrap = force_bootstrap;
  options.dry_run = globals_.dry_run || only_looks_;
  CCTL_TRY(fleet_, ops::Fleet::create(*inventory, std::move(options), progress_, &cancel_));
  return fleet_.get();
}

Result<registry::QuorumRegisters*> Context::registers() {
  if (registers_) return registers_.get();
  CCTL_TRY(ops::Fleet * fleet, this->fleet());
  acceptors_ = std::make_unique<ops::FleetAcceptors>(*fleet);
  registers_ = std::make_unique<registry::QuorumRegisters>(
      *acceptors_, ops::quorumOptionsOf(fleet->inventory()));
  return registers_.get();
}

Result<ops::Operation*> Context::operation() {
  if (operation_) return operation_.get();
  CCTL_TRY(ops::Fleet * fleet, this->fleet());
  CCTL_CHECK(registers());
  fenced_registers_ = std::make_unique<ops::FencedRegisters>(*registers_);
  operation_.reset(new ops::Operation{*fleet, *fenced_registers_, progress_, &cancel_,
                                      ops::currentIdentity(), typed_, on_step_});
  return operation_.get();
}

Result<void> Context::confirm(const std::string& question) {
  if (globals_.yes) return {};
  if (!::isatty(STDIN_FILENO) || !::isatty(STDERR_FILENO))
    return fail(Code::kUsage, "{} There is no terminal to ask on: say yes with -y", question);
  progress_.finish();
  fmt::print(stderr, "{} [y/N] ", question);
  std::fflush(stderr);
  std::string answer;
  std::getline(std::cin, answer);
  if (answer == "y" || answer == "Y" || answer == "yes") return {};
  return fail(Code::kCancelled, "nothing was changed");
}

void Context::print(const std::string& text) {
  progress_.finish();
  if (captured_ != nullptr) {
    *captured_ += text;
    return;
  }
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

void Context::printJson(const Json& result) {
  if (globals_.output == OutputFormat::kJsonLines) return printJsonLine(result);
  print(dumpJsonPretty(result) + "\n");
}

void Context::printJsonLine(const Json& object) { print(dumpJson(object) + "\n"); }

void Context::printEither(const Json& result, const std::string& text) {
  if (json())
    printJson(result);
  else
    print(text);
}

void Context::printDryRun(const std::string& what) {
  printEither({{"format", 1}, {"dry_run", true}, {"would", what}}, fmt::format("would {}\n", what));
}

}  // namespace cctl::cli
