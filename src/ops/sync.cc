#include "ops/sync.h"

#include <algorithm>

#include "base/digest.h"
#include "ops/change.h"
#include "ops/dependants.h"
#include "ops/history.h"
#include "ops/leftovers.h"
#include "ops/probe.h"
#include "ops/registry_care.h"
#include "transport/fan_out.h"

namespace cctl::ops {
namespace {

using AllEndpoints = std::map<ServiceName, ServiceEndpoints>;

bool isOf(const Endpoint& endpoint, const protocol::InstanceStatus& status) {
  return status.service == endpoint.instance.service.str() &&
         status.index == endpoint.instance.index &&
         std::all_of(endpoint.ports.begin(), endpoint.ports.end(), [&](const auto& port) {
           const auto at = status.ports.find(port.first);
           return at != status.ports.end() && at->second == port.second;
         });
}

// What each host says, of those that answer.
std::map<HostName, std::vector<protocol::InstanceStatus>> statusesOf(
    Operation& operation, const std::vector<HostConnection*>& hosts) {
  std::map<HostName, std::vector<protocol::InstanceStatus>> statuses;
  for (auto& [host, report] : probeAll(operation, hosts, ""))
    if (report) statuses.emplace(host, std::move(report->instances));
  return statuses;
}

// Only the states: what is published, and where, is the business of whoever holds the lock.
Result<void> commitStates(Operation& operation, const ServiceName& service,
                          const std::map<InstanceId, Endpoint>& judged) {
  const auto change = [&](std::vector<Endpoint>& endpoints) {
    for (Endpoint& endpoint : endpoints) {
      const auto at = judged.find(endpoint.instance);
      const bool same = at != judged.end() && at->second.ports == endpoint.ports &&
                        at->second.host == endpoint.host;
      if (same && endpoint.state != EndpointState::kDraining) endpoint.state = at->second.state;
    }
  };
  CCTL_CHECK(updateEndpoints(operation.registers, service, change));
  return {};
}

// How many services a host has older names of than the registry.
size_t countBehind(const protocol::NamesReply& has, const AllEndpoints& all) {
  std::map<std::string, uint64_t> revisions;
  for (const protocol::NamedService& one : has.services) revisions[one.service] = one.revision;
  return static_cast<size_t>(std::count_if(all.begin(), all.end(), [&](const auto& entry) {
    return revisions[entry.first.str()] < entry.second.revision;
  }));
}

void findBehind(Operation& operation, const std::vector<HostConnection*>& hosts,
                const AllEndpoints& all, SyncOutcome& outcome) {
  ssh::FanOutOptions options;
  options.forks = operation.fleet.forks();
  const auto replies = ssh::forEachHost<protocol::NamesReply>(
      hosts.size(), options, [&](size_t i) -> Result<protocol::NamesReply> {
        return hosts[i]->shim->call<protocol::NamesReply>(
            protocol::NamesRequest{}, Deadline::in(kRequestTimeout), operation.cancel);
      });
  for (size_t i = 0; i < hosts.size(); ++i)
    if (const size_t count = replies[i] ? countBehind(*replies[i], all) : 0; count > 0)
      outcome.behind[hosts[i]->name] = count;
}

}  // namespace

std::optional<EndpointState> healthOf(const Endpoint& endpoint,
                                      const std::vector<protocol::InstanceStatus>& statuses) {
  if (endpoint.state == EndpointState::kDraining) return std::nullopt;
  const auto at = std::find_if(statuses.begin(), statuses.end(),
                               [&](const auto& status) { return isOf(endpoint, status); });
  const bool ready = at != statuses.end() && at->state == protocol::InstanceState::kReady;
  const EndpointState state = ready ? EndpointState::kReady : EndpointState::kUnhealthy;
  return state == endpoint.state ? std::nullopt : std::optional(state);
}

Result<std::vector<std::string>> commitHealth(Operation& operation,
                                              const std::vector<HostConnection*>& hosts,
                                              bool dry_run) {
  std::vector<std::string> changed;
  const auto statuses = statusesOf(operation, hosts);
  CCTL_TRY(const AllEndpoints all, readAllEndpoints(operation.registers));
  for (const auto& [service, endpoints] : all) {
    std::map<InstanceId, Endpoint> judged;
    for (Endpoint endpoint : endpoints.endpoints) {
      const auto at = statuses.find(endpoint.host);
      if (at == statuses.end()) continue;
      const auto state = healthOf(endpoint, at->second);
      if (!state) continue;
      endpoint.state = *state;
      changed.push_back(endpoint.instance.text() + " " + std::string(endpointStateName(*state)));
      judged.emplace(endpoint.instance, std::move(endpoint));
    }
    if (!judged.empty() && !dry_run) CCTL_CHECK(commitStates(operation, service, judged));
  }
  return changed;
}

std::optional<Held> heldBy(const protocol::InstanceStatus& status) {
  static constexpr std::string_view kSays = "stopped by ";
  const bool held = status.current && status.state == protocol::InstanceState::kStopped &&
                    status.note.starts_with(kSays);
  if (!held) return std::nullopt;
  return Held{status.note.substr(kSays.size()), status.since};
}

bool isStartedByHand(const protocol::InstanceStatus& status) {
  return status.current && status.wanted && status.state != protocol::InstanceState::kStopped;
}

namespace {

enum class Orders {
  kLookAt,        // writes nothing
  kUnlessLocked,  // leaves a service alone whose lock somebody holds
  kUnderLock,     // the caller holds it
};

// The orders that people gave are in the journals of the hosts: no history could be written then.
void recordReconciled(Operation& operation, const ServiceName& service,
                      const std::vector<std::string>& changes, Orders how) {
  HistoryEntry entry;
  entry.service = service;
  entry.change.identity = operation.identity;
  entry.change.command = operation.reason;
  entry.change.began = entry.ended = SystemClock().wall();
  entry.change.id = randomHex(8);
  entry.change.action = how == Orders::kUnderLock ? "take-over" : "sync";
  entry.end.detail = fmt::format("{}", fmt::join(changes, ", "));
  if (auto added = appendHistory(operation.registers, std::move(entry)); !added)
    operation.events.warning(service.str(),
                             "not recorded in the history: " + added.error().message);
}

using Hosts = std::map<HostName, HostConnection*>;
using Statuses = std::map<HostName, std::vector<protocol::InstanceStatus>>;

// What was done to the instances of one service by hand or in part, against what is wanted of it.
struct Unrecorded {
  std::map<int, Held> stopped;
  std::map<int, std::optional<Endpoint>> started;  // where it is ready
  std::map<int, Endpoint> withdrawn;               // by a command that ended before it stopped them
  std::map<int, HostName> forgotten;               // runs, as its host has lost that it was stopped
  bool none() const {
    return stopped.empty() && started.empty() && withdrawn.empty() && forgotten.empty();
  }
};

Endpoint endpointOf(const InstanceId& id, const HostConnection& host,
                    const protocol::InstanceStatus& status) {
  return readyEndpoint(id, host, Version(status.version), status.ports);
}

// Whether it serves as it should, so that clients may be told of it. A roll-out that did not end is
// left to whoever ends it.
bool belongsPublished(const Desired& desired, const protocol::InstanceStatus& status) {
  return desired.rolling_to.empty() && status.current && status.wanted &&
         status.version == desired.version && status.state == protocol::InstanceState::kReady;
}

Unrecorded findUnrecorded(const ServiceName& service, const Desired& desired,
                          const ServiceEndpoints& published, const Hosts& hosts,
                          const Statuses& statuses) {
  Unrecorded orders;
  for (const auto& [index, name] : desired.placement) {
    const HostName host(name);
    const auto at = statuses.find(host);
    if (at == statuses.end()) continue;
    for (const protocol::InstanceStatus& status : at->second) {
      if (status.service != service.str() || status.index != index) continue;
      const bool wanted_held = desired.held.count(index) > 0;
      if (const auto held = heldBy(status); held && !wanted_held) orders.stopped[index] = *held;
      const bool is_published =
          std::any_of(published.endpoints.begin(), published.endpoints.end(),
                      [&](const Endpoint& one) { return one.instance.index == status.index; });
      if (!wanted_held && !is_published && belongsPublished(desired, status))
        orders.withdrawn.emplace(index, endpointOf({service, index}, *hosts.at(host), status));
      if (!wanted_held || !isStartedByHand(status)) continue;
      if (status.remade) {
        orders.forgotten.emplace(index, host);
        continue;
      }
      const bool ready = status.state == protocol::InstanceState::kReady;
      orders.started[index] =
          ready ? std::optional(endpointOf({service, index}, *hosts.at(host), status))
                : std::nullopt;
    }
  }
  return orders;
}

void publish(std::vector<Endpoint>& endpoints, const Unrecorded& orders) {
  std::erase_if(endpoints,
                [&](const Endpoint& one) { return orders.stopped.count(one.instance.index) > 0; });
  const auto add = [&](const Endpoint& fresh) {
    const auto same = [&](const Endpoint& one) { return one.instance == fresh.instance; };
    if (std::none_of(endpoints.begin(), endpoints.end(), same)) endpoints.push_back(fresh);
  };
  for (const auto& [index, fresh] : orders.started)
    if (fresh) add(*fresh);
  for (const auto& [index, endpoint] : orders.withdrawn) add(endpoint);
}

Result<void> write(registry::Registers& registers, const ServiceName& service,
                   const Unrecorded& orders) {
  CCTL_CHECK(updateDesired(registers, service, [&](Desired& desired) {
    for (const auto& [index, held] : orders.stopped) desired.held[index] = held;
    for (const auto& [index, endpoint] : orders.started) desired.held.erase(index);
  }));
  CCTL_CHECK(updateEndpoints(
      registers, service, [&](std::vector<Endpoint>& endpoints) { publish(endpoints, orders); }));
  return {};
}

// What the operator wanted is in the registry, and the damage of one host does not undo it.
Result<void> stopAgain(Operation& operation, const ServiceName& service, const Desired& desired,
                       const Unrecorded& orders, const Hosts& hosts) {
  for (const auto& [index, host] : orders.forgotten) {
    const InstanceId id{service, index};
    const auto spec = operation.inventory().services.find(service);
    const Millis grace =
        spec == operation.inventory().services.end() ? Millis(0) : spec->second.stop.grace;
    const protocol::StopRequest request{
        operation.ref(id),
        0,
        true,
        {desired.held.at(index).by, "its host had lost that it was stopped", 0}};
    CCTL_CHECK(hosts.at(host)->shim->call<protocol::StopReply>(
        request, Deadline::in(grace + kRequestTimeout), operation.cancel));
  }
  return {};
}

Result<std::vector<std::string>> reconcileService(Operation& operation, const ServiceName& service,
                                                  const Hosts& hosts, const Statuses& statuses,
                                                  Orders how) {
  std::vector<std::string> said;
  CCTL_TRY(const Desired before, readDesired(operation.registers, service));
  CCTL_TRY(const ServiceEndpoints published, readEndpoints(operation.registers, service));
  const Unrecorded orders = findUnrecorded(service, before, published, hosts, statuses);
  if (orders.none()) return said;
  if (how != Orders::kUnderLock) {
    CCTL_TRY(const std::optional<LockState> lock, readLock(operation.registers, service.str()));
    if (lock && !isLeftBehind(*lock, operation.identity)) return said;
  }
  if (how != Orders::kLookAt) {
    CCTL_CHECK(write(operation.registers, service, orders));
    CCTL_CHECK(stopAgain(operation, service, before, orders, hosts));
  }
  for (const auto& [index, held] : orders.stopped)
    said.push_back(InstanceId{service, index}.text() + " stopped by " + held.by +
                   " without the registry");
  for (const auto& [index, endpoint] : orders.started)
    said.push_back(InstanceId{service, index}.text() + " started again without the registry");
  for (const auto& [index, host] : orders.forgotten)
    said.push_back(
        fmt::format("{} stopped again, as {} had stopped it: {} had lost its state and started it",
                    InstanceId{service, index}.text(), before.held.at(index).by, host));
  for (const auto& [index, endpoint] : orders.withdrawn)
    said.push_back(InstanceId{service, index}.text() +
                   " published again: who withdrew it ended before stopping it");
  if (how != Orders::kLookAt) recordReconciled(operation, service, said, how);
  return said;
}

Hosts byName(const std::vector<HostConnection*>& connections) {
  Hosts hosts;
  for (HostConnection* host : connections) hosts[host->name] = host;
  return hosts;
}

}  // namespace

Result<std::vector<std::string>> reconcileHeld(Operation& operation,
                                               const std::vector<HostConnection*>& hosts,
                                               bool dry_run) {
  std::vector<std::string> said;
  const auto statuses = statusesOf(operation, hosts);
  for (const auto& [service, manifest] : operation.inventory().services) {
    CCTL_TRY(const auto more, reconcileService(operation, service, byName(hosts), statuses,
                                               dry_run ? Orders::kLookAt : Orders::kUnlessLocked));
    said.insert(said.end(), more.begin(), more.end());
  }
  return said;
}

Result<void> takeOverOrders(Operation& operation, const std::set<ServiceName>& services,
                            const std::vector<HostConnection*>& hosts) {
  const auto statuses = statusesOf(operation, hosts);
  for (const ServiceName& service : services) {
    CCTL_TRY(const auto said,
             reconcileService(operation, service, byName(hosts), statuses, Orders::kUnderLock));
    for (const std::string& one : said) operation.events.warning("", "taken over: " + one);
  }
  return {};
}

namespace {

// The quorum went on without them, and the next member that fails may end it.
void warnOfMembers(Operation& operation, const std::vector<HostConnection*>& hosts) {
  Greetings greetings;
  for (const HostConnection* host : hosts)
    if (!host->bare) greetings.emplace(host->name.str(), host->hello);
  for (const MemberReport& member : membersNotServing(greetings))
    operation.events.warning(
        member.member.host,
        "takes no part in the registry, which goes on without it: " + member.why);
}

}  // namespace

HostErrors tellEveryHost(Operation& operation) {
  const std::vector<HostName> hosts = allHosts(operation.inventory());
  operation.fleet.begin(hosts, Need::kShim);
  HostErrors unreachable;
  const auto connections = connectedOf(operation.fleet, hosts, unreachable);
  warnOfMembers(operation, connections);
  if (const auto changed = commitHealth(operation, connections, false); !changed)
    operation.events.warning("", "the health of what runs was not committed to the registry: " +
                                     changed.error().message);
  auto missed = pushNames(operation, {}, hosts);
  if (!missed)
    operation.events.warning("", "the endpoints were not pushed: " + missed.error().message);
  pushHostSettings(operation, hosts);
  refreshStale(operation, false);
  return missed ? std::move(*missed) : HostErrors();
}

namespace {

// Roll-outs that were broken off, by Ctrl-C or because their lock was taken: whoever began them let
// go of the lock. `told`: services whose state was said already.
Result<std::map<ServiceName, std::string>> findUnfinished(Operation& operation,
                                                          const std::vector<ServiceName>& told,
                                                          bool dry_run) {
  std::map<ServiceName, std::string> found;
  CCTL_TRY(const auto all, readAllDesired(operation.registers));
  for (const auto& [service, desired] : all) {
    if (desired.rolling_to.empty() || std::find(told.begin(), told.end(), service) != told.end())
      continue;
    CCTL_TRY(const auto lock, readLock(operation.registers, service.str()));
    if (lock) continue;
    CCTL_TRY(const bool undone, allRun(operation, service, desired));
    if (!undone || dry_run) {
      found[service] = desired.unfinished();
      continue;
    }
    const auto settled = settleUnder(operation, {"sync", {service}, Millis(0), "", false, true});
    if (!settled && settled.error().code != Code::kLocked) return fail(settled.error());
  }
  return found;
}

}  // namespace

Result<SyncOutcome> syncAll(Operation& operation, registry::QuorumRegisters& registers,
                            bool dry_run) {
  SyncOutcome outcome;
  const std::vector<HostName> hosts = allHosts(operation.inventory());
  operation.fleet.begin(operation.inventory().registry_hosts, Need::kShim);
  operation.fleet.begin(hosts, Need::kShim);
  CCTL_TRY(const auto membership, registers.membership());
  if (!membership) return outcome;  // nothing was ever deployed
  if (dry_run) {
    CCTL_TRY(const RegistryReport report, examineRegistry(registers));
    for (const MemberReport& member : report.members)
      outcome.settled = std::max(outcome.settled, member.uncommitted);
  } else {
    CCTL_CHECK(registers.changeMembers({}));
    CCTL_TRY(outcome.settled, registers.settle());
  }
  if (dry_run) {
    CCTL_TRY(const auto left, findLeftBehind(operation));
    for (const LockState& lock : left) outcome.taken_over.emplace_back(lock.service);
  } else {
    CCTL_TRY(outcome.taken_over, settleLeftBehind(operation, "sync"));
  }
  CCTL_TRY(outcome.unfinished, findUnfinished(operation, outcome.taken_over, dry_run));
  HostErrors unreachable;
  const auto connections = connectedOf(operation.fleet, hosts, unreachable);
  warnOfMembers(operation, connections);
  CCTL_TRY(outcome.reconciled, reconcileHeld(operation, connections, dry_run));
  CCTL_TRY(outcome.changed, commitHealth(operation, connections, dry_run));
  CCTL_TRY(const AllEndpoints all, readAllEndpoints(operation.registers));
  findBehind(operation, connections, all, outcome);
  outcome.settings = settingsBehind(operation, connections);
  if (dry_run) {
    outcome.missed = std::move(unreachable);
  } else {
    CCTL_TRY(outcome.missed, pushNames(operation, {}, hosts));
    pushHostSettings(operation, hosts);
  }
  outcome.dependants = refreshStale(operation, dry_run);
  return outcome;
}

}  // namespace cctl::ops
