// Brings everything that a change may have left behind up to date: for a person, for cron.
#pragma once

#include <vector>

#include "ops/operation.h"
#include "registry/quorum_registers.h"

namespace cctl::ops {

struct SyncOutcome {
  size_t settled = 0;                   // registers whose half-done write was finished
  std::vector<std::string> changed;     // instances whose health was committed: "web/0 unhealthy"
  std::vector<std::string> reconciled;  // "web/0 stopped by alice@ws1 without the registry"
  std::map<HostName, size_t> behind;    // services whose names a host lacked, and has now
  std::vector<ServiceName> taken_over;  // whose lock an operation had left that did not end
  std::map<ServiceName, std::string>
      unfinished;  // roll-outs that stand half-way: "2.0.0 by alice@ws1"
  std::map<HostName, std::vector<std::string>> settings;  // "alerts", "views" that a host lacked
  std::vector<InstanceId> dependants;  // whose configs had older endpoints of others
  HostErrors missed;                   // hosts that could not be told
};

// Finishes writes that were accepted and not committed, and a change of members that was begun;
// takes over the locks of operations that did not end, and settles what they left;
// commits what the shims say of the health of what is published; tells every host the names, hooks
// and views. Errors: kNoQuorum. Hosts that cannot be reached are data. A dry run looks, and says
// what of this it would do.
[[nodiscard]] Result<SyncOutcome> syncAll(Operation& operation,
                                          registry::QuorumRegisters& registers, bool dry_run);

// Commits into the registers what the shims of these hosts say of the health of what is published
// there; returns what was changed, in words. For whoever holds the pen: each changing command.
[[nodiscard]] Result<std::vector<std::string>> commitHealth(
    Operation& operation, const std::vector<HostConnection*>& hosts, bool dry_run);

// Writes into the registry what people stopped and started on these hosts while it could not decide
// (`--without-quorum`): what is down by order is held and leaves the names, what is ready again
// enters them. So does what serves as it should and was withdrawn by a command that ended there.
// Services that somebody works at are left alone. Returns it in words.
[[nodiscard]] Result<std::vector<std::string>> reconcileHeld(
    Operation& operation, const std::vector<HostConnection*>& hosts, bool dry_run);

// The same for these services, whose locks the caller holds: what a person ordered without a quorum
// is not undone by the next command. Tells of each.
[[nodiscard]] Result<void> takeOverOrders(Operation& operation,
                                          const std::set<ServiceName>& services,
                                          const std::vector<HostConnection*>& hosts);

// Pure: whether an instance is held down, by what its host says; nothing when that does not tell.
std::optional<Held> heldBy(const protocol::InstanceStatus& status);
bool isStartedByHand(const protocol::InstanceStatus& status);

// How every changing command ends (`runChange` calls it): health committed, then all names and
// hooks to every host of the inventory, so that one that missed earlier changes converges now, then
// configs that follow other services. Never fails the command: what went wrong is a warning, and
// hosts that could not be told are returned.
HostErrors tellEveryHost(Operation& operation);

// Pure: what the state of a published endpoint ought to be by what its host says of it; nothing
// when that is what it is.
std::optional<EndpointState> healthOf(const Endpoint& endpoint,
                                      const std::vector<protocol::InstanceStatus>& statuses);

}  // namespace cctl::ops
