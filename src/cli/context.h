// What a command is given: the global options, and the inventory, hosts and registers on demand.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/json.h"
#include "cli/program.h"
#include "cli/terminal.h"
#include "model/inventory.h"
#include "ops/fleet.h"
#include "ops/fleet_acceptors.h"
#include "ops/operation.h"

namespace cctl::cli {

enum class OutputFormat { kText, kJson, kJsonLines };

struct Globals {
  std::string inventory = "inventory";
  std::string limit;
  int forks = 64;
  OutputFormat output = OutputFormat::kText;
  bool dry_run = false;
  bool diff = false;
  bool yes = false;
  bool accept_new = false;
  std::string timeout;
  std::string lock_wait = "0s";
  bool quiet = false;
  int verbose = 0;
  std::string colour = "auto";
};

class Context {
 public:
  // `typed` is the command line as typed, for records. `cancel` must outlive this.
  Context(Globals globals, std::string typed, ops::ShimImage shim, CancelToken& cancel,
          StepHook on_step = {});

  const Globals& globals() const { return globals_; }
  bool json() const { return globals_.output != OutputFormat::kText; }
  CancelToken& cancel() { return cancel_; }
  const std::string& typed() const { return typed_; }
  const ops::ShimImage& shim() const { return shim_; }
  const Painter& painter() const { return painter_; }
  Progress& progress() { return progress_; }

  // Loaded and checked once; kBadInput with every problem otherwise. Warnings go to standard error.
  [[nodiscard]] Result<const Inventory*> inventory();
  // The hosts of --limit, or all; in the order of the inventory.
  [[nodiscard]] Result<std::vector<HostName>> limitedHosts();
  [[nodiscard]] Result<Millis> lockWait() const;
  [[nodiscard]] Result<ops::Fleet*> fleet(bool force_bootstrap = false);
  // The hosts are looked at as by a dry run: no shim is placed or started. Before fleet().
  void onlyLook() { only_looks_ = true; }
  // The registers of the cluster, decided by its quorum.
  [[nodiscard]] Result<registry::QuorumRegisters*> registers();
  // Everything that operations need.
  [[nodiscard]] Result<ops::Operation*> operation();

  // Asks for the passphrase of a key; empty without a terminal.
  ssh::PassphrasePrompt passphrasePrompt() const;

  // Asks on a terminal unless --yes; elsewhere refuses without it: kUsage.
  [[nodiscard]] Result<void> confirm(const std::string& question);

  // From now on print() appends to `into`, which must outlive this.
  void capture(std::string* into) { captured_ = into; }

  // Results on standard output; ends the living progress line first.
  void print(const std::string& text);
  // A result as an object: over several lines with json, on one with jsonl.
  void printJson(const Json& result);
  // One of a stream of objects: on one line with both.
  void printJsonLine(const Json& object);
  // The one or the other, as was asked for.
  void printEither(const Json& result, const std::string& text);
  // What a dry run would do, "run on host1: ls": a sentence, or {format, dry_run, would}.
  void printDryRun(const std::string& what);

 private:
  ssh::SshPolicy sshPolicy();

  const Globals globals_;
  const std::string typed_;
  const ops::ShimImage shim_;
  CancelToken& cancel_;
  const StepHook on_step_;
  const Painter painter_;
  Progress progress_;
  bool only_looks_ = false;
  std::string* captured_ = nullptr;
  std::optional<Inventory> inventory_;
  std::unique_ptr<ops::Fleet> fleet_;
  std::unique_ptr<ops::FleetAcceptors> acceptors_;
  std::unique_ptr<registry::QuorumRegisters> registers_;
  std::unique_ptr<ops::FencedRegisters> fenced_registers_;
  std::unique_ptr<ops::Operation> operation_;
};

}  // namespace cctl::cli
