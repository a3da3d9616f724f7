// `start`, `stop`, `restart`, `reload` and `signal`: what runs, by order and on the record.
#pragma once

#include <optional>
#include <set>

#include "model/names.h"
#include "ops/dependants.h"
#include "ops/rollout.h"

namespace cctl::ops {

enum class Action { kStart, kStop, kRestart, kReload, kSignal };
std::string_view actionName(Action action);  // "start"

struct LifecycleRequest {
  Action action = Action::kRestart;
  std::vector<Target> targets;   // with `host`: may be empty for all that is placed there
  std::optional<HostName> host;  // only instances on this host
  int signal = 0;                // for kSignal
  Millis lock_wait{0};
  bool skip_unreachable = false;
  bool dry_run = false;
};

struct LifecycleOutcome {
  std::vector<Placed> selected;  // what the order was for
  std::vector<InstanceId> held;  // stopped by a person: a restart leaves them so
  std::vector<InstanceId> done;
  std::vector<InstanceFailure> failures;
  std::vector<HostName> skipped;
  HostErrors missed;
  std::vector<DependantChange> dependants;  // of a dry run: those that would follow
  std::optional<Error> error;               // why it ended early: kLocked, kCancelled, …
  Millis took{0};
};

// A restart is rolling, as each service's `upgrade` says, and stops where its budgets are spent;
// all else is done at once. Instances leave the registry before they are stopped and enter it again
// when ready. What was stopped while another version was deployed starts as it was, with a warning.
[[nodiscard]] Result<LifecycleOutcome> lifecycle(Operation& operation,
                                                 const LifecycleRequest& request);

}  // namespace cctl::ops
