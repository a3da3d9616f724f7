// `migrate`, `drain`, `undrain`: instances go to other hosts without interruption, since the new
// one is ready and published before the old one is withdrawn. What an instance keeps in its data
// directory stays behind.
#pragma once

#include <optional>

#include "model/move.h"
#include "ops/deploy.h"
#include "ops/lifecycle.h"

namespace cctl::ops {

struct MigrateRequest {
  Target target;
  std::optional<HostName> from;  // needed without an index
  std::optional<HostName> to;    // nullopt: where `place` would put it
  Millis lock_wait{0};
  bool skip_unreachable = false;
  bool dry_run = false;
};

// What became of the moves of one service.
struct ServiceMoves {
  ServiceName service;
  Version version;
  std::string spec;  // digest of what is deployed: that is moved, whatever the manifest says by now
  std::vector<Move> moves;
  std::optional<DeployOutcome> outcome;  // nullopt: not begun
};

struct MigrateOutcome {
  std::vector<ServiceMoves> services;
  HostErrors missed;
  std::optional<Error> error;  // why it ended early
  Millis took{0};
};

// An error means that nothing was changed. kRefused when `place` does not allow the move.
[[nodiscard]] Result<MigrateOutcome> migrate(Operation& operation, const MigrateRequest& request);

// What `drain` does with instances that have nowhere to go.
enum class OnStuck {
  kRefuse,  // changes nothing, and says why and what to do
  kLeave,   // they go on running there
  kStop,    // until the host is undrained
};

struct DrainRequest {
  HostName host;
  OnStuck on_stuck = OnStuck::kRefuse;
  Millis lock_wait{0};
  bool skip_unreachable = false;  // the host itself may be out of reach
  bool dry_run = false;
};

struct Stuck {
  InstanceId id;
  std::string why;  // with what to do
};

struct DrainOutcome {
  MigrateOutcome moved;
  std::vector<Stuck> stuck;                 // left or stopped, as asked
  std::vector<InstanceId> held;             // stopped by a person before: they stay as they are
  std::vector<InstanceId> stopped;          // of a dry run: that would be
  std::vector<DependantChange> dependants;  // of a dry run: those that would follow the stops
  std::vector<InstanceFailure> failures;    // of stopping
  bool was_drained = false;
  bool marked = false;  // nothing new is placed there from now on
};

// Marks the host first, so that nothing new comes while things leave. When nothing could be moved
// and all was put back, the mark is taken off again.
[[nodiscard]] Result<DrainOutcome> drain(Operation& operation, const DrainRequest& request);

struct UndrainRequest {
  HostName host;
  bool back = false;  // moves instances there until their services are spread as well as can be
  Millis lock_wait{0};
  bool dry_run = false;
};

struct UndrainOutcome {
  bool was_drained = false;
  MigrateOutcome back;  // what was moved there, or, not begun, what would be with `back`
  std::vector<InstanceId> started;          // of a dry run: that would be
  std::vector<DependantChange> dependants;  // of a dry run: those that would follow the starts
  std::vector<InstanceFailure> failures;
  HostErrors missed;
  std::optional<Error> error;
};

// Takes the mark off, and starts what the drain stopped. Nothing comes back by itself.
[[nodiscard]] Result<UndrainOutcome> undrain(Operation& operation, const UndrainRequest& request);

}  // namespace cctl::ops
