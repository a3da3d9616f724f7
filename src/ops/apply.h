// `plan` and `apply`: what should run against what runs, for one service or all.
#pragma once

#include <optional>
#include <set>
#include <vector>

#include "model/planned_change.h"
#include "ops/deploy.h"

namespace cctl::ops {

struct ApplyRequest {
  std::optional<ServiceName> service;  // nullopt: all of the inventory, and what left it
  Millis lock_wait{0};
  bool skip_unreachable = false;
};

// What one service comes to.
struct ServicePlan {
  ServiceName service;
  Version version;             // as last deployed; empty: never, so there is nothing to converge to
  bool gone = false;           // its manifest was taken out: all of it is to be removed
  std::string unfinished;      // the version of a roll-out that did not end
  std::string under_way;       // who works at it now
  std::string left_behind;     // who holds its lock and is not heard of any more
  std::string release_digest;  // of `version`
  uint64_t desired_revision = 0;
  uint64_t endpoints_revision = 0;
  PlanInput planned;
  Plan plan;
  std::vector<DependantChange> dependants;  // those that would follow
  std::vector<HostName> skipped;

  std::vector<PlannedChange> changes() const { return changesOf(planned, plan); }
  bool hasRemovals() const;
  // What an operation left that was killed: although no instance need change, there is something to
  // bring to its end.
  bool hasLeftover() const;
};

struct ClusterPlan {
  std::vector<ServicePlan> services;  // dependencies first; those to be removed last
  std::set<HostName> drained;

  bool empty() const;  // no instance changes
  bool hasRemovals() const;
  bool hasLeftovers() const;
};

// Changes nothing. Versions are those that were deployed last.
[[nodiscard]] Result<ClusterPlan> planCluster(Operation& operation, const ApplyRequest& request);

struct AppliedService {
  ServiceName service;
  Version version;
  bool gone = false;
  DeployOutcome outcome;
};

struct ApplyOutcome {
  std::vector<AppliedService> services;  // those that were begun; the last one may have failed
  HostErrors missed;                     // hosts that were not told the new endpoints
  std::optional<Error> error;            // why it ended early
  Millis took{0};
};

// For dry runs: why applyPlan() would refuse to begin. A lock that is held (kLocked), a release
// that cannot be had, is not signed off, or does not fit its hosts.
[[nodiscard]] Result<void> checkApply(Operation& operation, const ApplyRequest& request,
                                      const ClusterPlan& approved);

// Does what `approved` says, service by service, and stops at the first that fails. Under each
// service's lock the plan is made again: what it would do beyond `approved` ends it with
// kStalePlan. An error means that nothing was changed.
[[nodiscard]] Result<ApplyOutcome> applyPlan(Operation& operation, const ApplyRequest& request,
                                             const ClusterPlan& approved);

}  // namespace cctl::ops
