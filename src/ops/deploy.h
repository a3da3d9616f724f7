// `deploy SERVICE VERSION`: from the store of releases to running, ready and published.
#pragma once

#include <functional>
#include <map>
#include <optional>

#include "ops/dependants.h"
#include "ops/push.h"
#include "ops/rollout.h"

namespace cctl::ops {

struct DeployRequest {
  std::string action = "deploy";  // what the history calls it
  ServiceName service;
  Version version;
  Millis lock_wait{0};
  bool skip_unreachable = false;
  bool dry_run = false;                  // ends after the plan: places, pushes and locks nothing
  bool force = false;                    // replaces also what is up to date
  const Inventory* inventory = nullptr;  // that is rolled out; nullptr: the operation's
  std::string evidence;   // directory for what tells why it failed; empty: none is kept
  bool roll_back = true;  // false: stop where it failed, and leave what was done
  // Instances that go to other hosts. With any, nothing else of the service is touched, and the
  // version must be the one that is deployed.
  std::map<int, HostName> moves;
  // Asked under the lock, before anything is changed; an error ends the deploy with it. Empty:
  // whatever the plan is, it is done.
  std::function<Result<void>(const PlanInput&, const Plan&)> approve;
};

struct DeployOutcome {
  PlanInput planned;  // what the plan was made from; `manifest` is the inventory's
  Plan plan;
  std::string previous_version;  // empty: first deploy
  std::string unfinished;        // an earlier roll-out that did not end, and whose: "2.0.0 by …"
  std::vector<DependantChange> dependants;  // of a dry run: those that would follow
  int instances = 0;                        // that should run
  int ready = 0;                            // of these, on the wanted version when it ended
  std::vector<InstanceFailure> failures;
  std::vector<HostName> skipped;      // unreachable, left out as allowed, or lost on the way
  HostErrors missed;                  // hosts that were not told the new endpoints
  bool unrecorded = false;            // all is done, but the registry was not told: see `error`
  std::vector<std::string> evidence;  // directories that were written
  std::optional<Error> error;         // why it is not what was asked; kRolledBack, kPartial, …
  Millis took{0};
};

// `release` is of the local store, checked. An error means that nothing was changed; what went
// wrong later is in the outcome. Blocks until the outcome is known.
[[nodiscard]] Result<DeployOutcome> deploy(Operation& operation, const DeployRequest& request,
                                           const ReleaseSource& release);

}  // namespace cctl::ops
