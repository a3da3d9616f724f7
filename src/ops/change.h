// The common path of every command that changes services:
//
//   begin → lock every service, in name order → record what a killed predecessor left
//         → take over what was ordered without a quorum → WORK → write the history → unlock
//         → tell every host
//
//   CCTL_TRY(outcome.missed,
//            runChange(operation, {"deploy", {service}, lock_wait, version.str()},
//                    [&](Change& change) -> Result<ChangeEnd> {
//                      change.note(service, {old_version, new_version, signers});
//                      CCTL_CHECK(change.held());                  // before each step
//                      … order with change.caller(service) …       // carries the fencing token
//                      return ChangeEnd::of(error_or_nothing);     // what history says of it
//                    }));
//
// The record survives a SIGKILL at any moment: it stands in the lock's value from the first write
// on, and whoever takes that lock next writes it into the history as interrupted. Taking over also
// fences: the shims of the service are told the new token, and the revisions of `desired/S` and
// `endpoints/S` are raised, before WORK begins; so nothing that the old owner sends when it wakes
// is accepted where the successor could reach. `operation.registers` refuses writes about a service
// whose lock was lost meanwhile.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "ops/history.h"
#include "ops/lock.h"
#include "ops/operation.h"

namespace cctl::ops {

struct ChangeRequest {
  std::string action;  // "deploy": one word for the history
  std::set<ServiceName> services;
  Millis lock_wait{0};
  std::string to;      // version wanted, where it is known before the lock
  bool force = false;  // takes locks from whoever holds them: `lock break`
  // Locks and history alone: for what changes nothing that hosts are told of, and for a part of
  // another command, which tells them itself.
  bool bare = false;
  // Connected: where people may have stopped and started its instances without a quorum, which is
  // taken over before the work begins.
  std::vector<HostConnection*> hosts = {};
};

// What is known of the versions once the lock is held.
struct VersionChange {
  std::string from;
  std::string to;
  std::vector<std::string> signed_by;
};

// For dry runs, which lock nothing: kLocked as Change::begin would say it now. A holder that could
// be waited for is a warning.
[[nodiscard]] Result<void> checkUnlocked(Operation& operation,
                                         const std::set<ServiceName>& services, Millis lock_wait);

// Under way: the locks of its services. Not thread-safe but for held() and caller().
class Change {
 public:
  // Blocks as Lease::acquire does. kLocked: nothing is locked and nothing was changed.
  [[nodiscard]] static Result<std::unique_ptr<Change>> begin(Operation& operation,
                                                             const ChangeRequest& request);
  // Unlocks. What finish() was not called for is recorded as failed.
  ~Change();
  Change(const Change&) = delete;
  Change& operator=(const Change&) = delete;

  const Lease& lease(const ServiceName& service) const { return *leases_.at(service); }
  protocol::Caller caller(const ServiceName& service) const;
  // kLocked with the new owner when one of the locks was lost.
  [[nodiscard]] Result<void> held() const;
  // What somebody began and did not end, so that this one found its lock left behind.
  const std::optional<LockState>& leftBehind(const ServiceName& service) const {
    return lease(service).leftBehind();
  }

  void note(const ServiceName& service, const VersionChange& versions);
  // Writes the history of one service now, with an end of its own; the others go on.
  void finish(const ServiceName& service, const ChangeEnd& end);
  // The same for all that were not finished yet.
  void finish(const ChangeEnd& end);

 private:
  explicit Change(Operation& operation) : operation_(operation) {}
  [[nodiscard]] Result<void> lock(const ChangeRequest& request, const ServiceName& service,
                                  const std::string& id);
  [[nodiscard]] Result<void> takeOver(const ServiceName& service, const Lease& lease);
  [[nodiscard]] Result<void> fence(const ServiceName& service, const Lease& lease);

  Operation& operation_;
  std::map<ServiceName, std::unique_ptr<Lease>> leases_;
  std::set<ServiceName> open_;  // not in the history yet
};

// Begins, works, records, unlocks, and tells every host (ops/sync.h: `tellEveryHost`) when the work
// came to an end; returns the hosts that were not told. Returns what the work returned as an error;
// an error is recorded as ChangeEnd::of tells.
[[nodiscard]] Result<HostErrors> runChange(Operation& operation, const ChangeRequest& request,
                                           const std::function<Result<ChangeEnd>(Change&)>& work);

}  // namespace cctl::ops
