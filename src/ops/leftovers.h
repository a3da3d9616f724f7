// What a roll-out that was killed left behind, for commands that do not roll out themselves:
// `start` and `restart` stop its generations, and say what became of it.
#pragma once

#include "model/endpoint.h"
#include "ops/change.h"
#include "ops/operation.h"

namespace cctl::ops {

// A generation that runs beside the one that should.
struct Leftover {
  InstanceId id;
  HostName host;
  int generation = 0;
  std::string version;
  bool elsewhere = false;  // the instance belongs to another host: nothing of it is to stay
};

// Pure: those that run (or are to), are not published, and are not what a boot would start or do
// not belong there. `placement`: the host of each instance.
std::vector<Leftover> leftoversIn(const HostName& host,
                                  const std::vector<protocol::InstanceStatus>& instances,
                                  const std::vector<Endpoint>& published,
                                  const std::map<int, std::string>& placement);

// Stops them on these hosts, or takes them off where the instance belongs elsewhere, with a warning
// for each. The lease is that of the service.
// Keep::kPublished: what clients are sent to stays, although something else is current by now; not
// needed once what is current is published (generations may share a port, so the two look alike).
enum class Keep { kPublished, kCurrentOnly };
[[nodiscard]] Result<void> stopLeftovers(Operation& operation, const Lease& lease,
                                         const ServiceName& service,
                                         const std::vector<HostName>& hosts, Keep keep);

// Where a roll-out that did not end is on record: takes the record away when every placed instance
// runs the version from before, else says what ends it.
[[nodiscard]] Result<void> settleUnfinished(Operation& operation, const ServiceName& service);

// The same under the locks of the change's services, as a change of its own; returns the hosts that
// were not told.
[[nodiscard]] Result<HostErrors> settleUnder(Operation& operation, const ChangeRequest& change);

// Whether every placed instance is at the version that is deployed, so that settleUnfinished()
// takes the record away; false where a host cannot be asked.
[[nodiscard]] Result<bool> allRun(Operation& operation, const ServiceName& service,
                                  const Desired& desired);

// Whose lock was left behind, on record in the registry.
[[nodiscard]] Result<std::vector<LockState>> findLeftBehind(Operation& operation);

// For commands that found nothing else to do. Takes those locks as the next change of each service
// would: what was begun goes into the history as interrupted, what it left running beside what
// should is stopped, and a roll-out that did not end is settled. `action` is the command, for the
// history. Returns the services; hosts are told by the caller. One that somebody else takes first
// is left to him.
[[nodiscard]] Result<std::vector<ServiceName>> settleLeftBehind(Operation& operation,
                                                                const std::string& action);

}  // namespace cctl::ops
