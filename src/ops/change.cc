#include "ops/change.h"

#include "base/digest.h"
#include "ops/records.h"
#include "ops/sync.h"

namespace cctl::ops {
namespace {

// Anybody who read the old revision and was paused then fails to write on top of it.
Result<void> raiseRevision(registry::Registers& registers, const std::string& key) {
  for (int attempt = 0; attempt < 20; ++attempt) {
    CCTL_TRY(const protocol::RegisterValue value, registers.read(key));
    if (value.revision == 0) return {};
    CCTL_TRY(const auto reply, registers.write(key, value.revision, value.value));
    if (reply.swapped) return {};
  }
  return fail(Code::kConflict, "{}: others kept changing it; run the command again", key);
}

}  // namespace

Result<std::unique_ptr<Change>> Change::begin(Operation& operation, const ChangeRequest& request) {
  std::unique_ptr<Change> change(new Change(operation));
  const std::string id = randomHex(8);
  for (const ServiceName& service : request.services)  // a set: in name order
    if (auto locked = change->lock(request, service, id); !locked) {
      change->open_.clear();  // nothing was done, so there is nothing to tell
      return fail(locked.error());
    }
  return change;
}

Result<void> Change::lock(const ChangeRequest& request, const ServiceName& service,
                          const std::string& id) {
  ChangeRecord record;
  record.identity = operation_.identity;
  record.command = operation_.reason;
  record.began = SystemClock().wall();
  record.id = id;
  record.action = request.action;
  record.to = request.to;
  CCTL_TRY(auto lease, Lease::acquire(operation_.registers,
                                      {service.str(), record, request.lock_wait, request.force},
                                      operation_.events, operation_.cancel));
  operation_.registers.guard(*lease);
  const Lease& taken = *(leases_[service] = std::move(lease));
  open_.insert(service);
  return taken.leftBehind() ? takeOver(service, taken) : Result<void>();
}

Change::~Change() {
  finish({Ending::kFailed, "ended early"});
  for (const auto& [service, lease] : leases_) operation_.registers.release(*lease);
}

protocol::Caller Change::caller(const ServiceName& service) const {
  return operation_.caller(lease(service).token());
}

Result<void> Change::held() const {
  for (const auto& [service, lease] : leases_)
    if (!lease->held()) return fail(lease->lost());
  return {};
}

void Change::note(const ServiceName& service, const VersionChange& versions) {
  Lease& lease = *leases_.at(service);
  ChangeRecord record = lease.holder();
  record.from = versions.from;
  record.to = versions.to;
  record.signed_by = versions.signed_by;
  lease.note(record);
}

// Whoever takes a lock records the one that lost it, so one that lost its own is silent here.
void Change::finish(const ServiceName& service, const ChangeEnd& end) {
  if (open_.erase(service) == 0) return;
  const Lease& lease = *leases_.at(service);
  if (!lease.held()) return;
  HistoryEntry entry;
  entry.service = service;
  entry.change = lease.holder();
  entry.ended = SystemClock().wall();
  entry.end = end;
  if (auto added = appendHistory(operation_.registers, std::move(entry)); !added)
    operation_.events.warning(service.str(),
                              "not recorded in the history: " + added.error().message);
}

void Change::finish(const ChangeEnd& end) {
  const std::set<ServiceName> rest = open_;  // of its own: each leaves open_ on the way
  for (const ServiceName& service : rest) finish(service, end);
}

Result<void> Change::takeOver(const ServiceName& service, const Lease& lease) {
  HistoryEntry entry;
  entry.service = service;
  entry.change = lease.leftBehind()->holder;
  entry.ended = SystemClock().wall();
  entry.end = {Ending::kInterrupted,
               fmt::format("not heard of for {}; its lock was taken by \"{}\"",
                           humanDuration(lease.leftBehind()->age), operation_.reason)};
  entry.recorded_by = operation_.identity.text();
  CCTL_CHECK(appendHistory(operation_.registers, std::move(entry)));
  return fence(service, lease);
}

// Hosts that cannot be reached now are left to the check of their shims at the next order, and to
// the old owner's own.
Result<void> Change::fence(const ServiceName& service, const Lease& lease) {
  CCTL_CHECK(raiseRevision(operation_.registers, "desired/" + service.str()));
  CCTL_CHECK(raiseRevision(operation_.registers, "endpoints/" + service.str()));
  CCTL_TRY(const Desired desired, readDesired(operation_.registers, service));
  std::vector<HostName> hosts;
  for (const auto& [index, host] : desired.placement)
    if (operation_.inventory().findHost(HostName(host))) hosts.emplace_back(host);
  operation_.fleet.begin(hosts, Need::kShim);
  HostErrors unreachable;
  const protocol::FenceRequest request{service.str(), operation_.caller(lease.token())};
  for (HostConnection* host : connectedOf(operation_.fleet, hosts, unreachable)) {
    auto told = host->shim->call<protocol::Empty>(request, Deadline::in(kRequestTimeout));
    if (!told) operation_.events.warning(host->name.str(), told.error().message);
  }
  return {};
}

Result<void> checkUnlocked(Operation& operation, const std::set<ServiceName>& services,
                           Millis lock_wait) {
  for (const ServiceName& service : services) {
    CCTL_TRY(const auto lock, readLock(operation.registers, service.str()));
    if (!lock) continue;
    if (isLeftBehind(*lock, operation.identity)) {
      operation.events.warning(
          service.str(), "would take over the lock that was left behind by " + describeLock(*lock));
      continue;
    }
    if (lock_wait == Millis(0)) return fail(heldBySomebody(*lock));
    operation.events.warning(service.str(), "would wait for " + describeLock(*lock));
  }
  return {};
}

Result<HostErrors> runChange(Operation& operation, const ChangeRequest& request,
                             const std::function<Result<ChangeEnd>(Change&)>& work) {
  {
    CCTL_TRY(const auto change, Change::begin(operation, request));
    const auto whole = [&]() -> Result<ChangeEnd> {
      if (!request.hosts.empty())
        CCTL_CHECK(takeOverOrders(operation, request.services, request.hosts));
      return work(*change);
    };
    const Result<ChangeEnd> end = whole();
    change->finish(end ? *end : ChangeEnd::of(end.error()));
    if (!end) return fail(end.error());
  }
  if (request.bare) return HostErrors();
  operation.reached("tell hosts");
  return tellEveryHost(operation);
}

}  // namespace cctl::ops
