// Playbooks: named steps over the operations that the commands have, as values. Reading one knows
// the inventory and the variables, so that a playbook is whole and checked before its first step.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "model/inventory.h"
#include "model/node.h"
#include "model/problem.h"

namespace cctl {

struct PlayVariable {
  std::string name;
  std::optional<std::string> value;  // the default; nullopt: must be given
  std::string help;
};

using PlayValues = std::map<std::string, std::string>;

// What `wait` waits for and `check` looks at.
struct PlayCondition {
  enum class Kind { kInstances, kTcp, kHttp, kCommand };
  Kind kind = Kind::kInstances;
  // kInstances: all of these, on `hosts` (everywhere when empty), are in the state.
  std::vector<Target> targets;  // empty: every service
  std::string state = "ready";  // a state of `status`, or "none": nothing runs
  std::string version;          // and of this version; empty: any
  // kTcp, kHttp: one address, or every published endpoint of a service.
  std::optional<ServiceName> service;
  std::string address;  // host, or the service's port name
  int port = 0;         // of an address
  std::string path;     // kHttp
  int status = 200;     // kHttp
  // kCommand: exits 0 on each host. A file is a command too.
  std::vector<HostName> hosts;
  std::string command;

  Millis timeout{60'000};
  Millis interval{1'000};
  std::string text;  // for people: "web is ready"
};

struct PlayStep {
  std::string name;
  Location where;
  std::string operation;               // "deploy", "wait"; a command, but for wait and check
  std::vector<std::string> arguments;  // of the command, itself first
  std::optional<PlayCondition> condition;
  bool goes_on = false;                        // on_failure: continue
  std::vector<PlayStep> rescue;                // on_failure: these, and then the play ends
  std::optional<ServiceName> release_service;  // what it pushes, so that this can be checked first
  std::optional<Version> release_version;
  bool asks = false;  // the command asks on a terminal
};

struct Playbook {
  std::string name;
  std::vector<PlayStep> steps;  // blocks unrolled: each host's in turn
};

constexpr size_t kMaxPlaySteps = 10'000;

// `vars` of a playbook; what is wrong is added to `problems`.
std::vector<PlayVariable> readPlayVariables(const Node& node, Problems& problems);

// Defaults, overridden by what was given. kUsage for a name that the playbook does not have, with
// the nearest, and for one that must be given, with its help.
[[nodiscard]] Result<PlayValues> playValues(const std::vector<PlayVariable>& variables,
                                            const PlayValues& given);

// Checks every step against the inventory. What is wrong is added to `problems`.
Playbook readPlaybook(const Node& node, const PlayValues& values, const Inventory& inventory,
                      Problems& problems);

}  // namespace cctl
