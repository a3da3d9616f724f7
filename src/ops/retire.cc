#include "ops/retire.h"

#include <algorithm>

#include "model/dependency_graph.h"
#include "model/plan.h"
#include "ops/change.h"
#include "ops/probe.h"
#include "transport/fan_out.h"

namespace cctl::ops {
namespace {

constexpr Millis kQuiet{500};
constexpr Millis kLongestStop{3'600'000};  // the shim knows the grace of each

// Connections to the service from elsewhere; those of hosts that do not answer are not counted.
int connectionsTo(Operation& operation, const ServiceName& service,
                  const std::vector<HostConnection*>& hosts) {
  ssh::FanOutOptions options;
  options.forks = operation.fleet.forks();
  protocol::ConnectionsRequest request;
  request.service = service.str();
  request.most = 0;
  const auto counts =
      ssh::forEachHost<protocol::ConnectionsReply>(hosts.size(), options, [&](size_t i) {
        return hosts[i]->shim->call<protocol::ConnectionsReply>(
            request, Deadline::in(kRequestTimeout), operation.cancel);
      });
  int total = 0;
  for (const auto& count : counts)
    if (count) total += count->total;
  return total;
}

class Retire {
 public:
  Retire(Operation& operation, const RetireRequest& request)
      : operation_(operation), request_(request), service_(request.service) {
    const auto& services = operation.inventory().services;
    const auto found = services.find(service_);
    if (found != services.end()) longest_drain_ = found->second.upgrade.drain;
  }

  Result<RetireOutcome> run() {
    const auto before = std::chrono::steady_clock::now();
    CCTL_CHECK(connect());
    if (request_.dry_run) {
      CCTL_CHECK(checkUnlocked(operation_, {service_}, request_.lock_wait));
      CCTL_TRY(const ServiceEndpoints now, readEndpoints(operation_.registers, service_));
      if (!now.endpoints.empty()) {
        CCTL_TRY(outcome_.dependants, foreseeDependants(operation_, service_, {{}}));
      }
      return std::move(outcome_);
    }
    const ChangeRequest change{"retire", {service_}, request_.lock_wait, "", false};
    operation_.reached("lock");
    CCTL_TRY(outcome_.missed,
             runChange(operation_, change, [this](Change& begun) { return underLock(begun); }));
    outcome_.took = std::chrono::duration_cast<Millis>(std::chrono::steady_clock::now() - before);
    return std::move(outcome_);
  }

 private:
  Result<void> connect() {
    operation_.fleet.begin(allHosts(operation_.inventory()), Need::kShim);
    CCTL_TRY(const Desired desired, readDesired(operation_.registers, service_));
    std::vector<HostName> concerned;
    for (const Placed& placed : placementOf(service_, desired))
      if (operation_.inventory().findHost(placed.host)) concerned.push_back(placed.host);
    CCTL_TRY(ConcernedHosts usable,
             awaitConcerned(operation_, concerned, request_.skip_unreachable ? kAnyNumber : 0));
    outcome_.skipped = std::move(usable.skipped);
    HostErrors unreachable;  // told with the names that they miss
    hosts_ = connectedOf(operation_.fleet, allHosts(operation_.inventory()), unreachable);
    return {};
  }

  Result<ChangeEnd> underLock(Change& change) {
    CCTL_TRY(const Desired desired, readDesired(operation_.registers, service_));
    change.note(service_, {desired.version, "", {}});
    auto end = takeOff(change);
    if (end || !begun_ || end.error().code == Code::kCancelled) return end;
    std::string text = end.error().message;
    if (!outcome_.failed.empty()) text += "\n" + describeHostErrors(outcome_.failed).message;
    return fail(Code::kPartial, "{} is retired in part; run the same command again: {}", service_,
                text);
  }

  Result<ChangeEnd> takeOff(Change& change) {
    CCTL_CHECK(withdraw());
    CCTL_CHECK(change.held());
    operation_.reached("dependants");
    refreshDependants(operation_, service_);
    CCTL_CHECK(change.held());
    operation_.reached("forget");
    CCTL_CHECK(forgetEverywhere(change));
    CCTL_CHECK(change.held());
    operation_.reached("delete keys");
    CCTL_CHECK(deleteKeys());
    return ending();
  }

  ChangeEnd ending() const {
    if (!outcome_.failed.empty())
      return {Ending::kPartial, describeHostErrors(outcome_.failed).message};
    if (!outcome_.skipped.empty())
      return {Ending::kPartial,
              fmt::format("left out: {}", fmt::join(namesOf(outcome_.skipped), ", "))};
    return {};
  }

  static std::vector<std::string> namesOf(const std::vector<HostName>& hosts) {
    std::vector<std::string> names;
    for (const HostName& host : hosts) names.push_back(host.str());
    return names;
  }

  // No client may find it before it goes. The mark makes later pushes tell hosts that missed this
  // one.
  Result<void> withdraw() {
    CCTL_TRY(const ServiceEndpoints before, readEndpoints(operation_.registers, service_));
    operation_.reached("mark retired");
    CCTL_CHECK(markRetired(operation_.registers, service_));
    begun_ = true;
    operation_.reached("withdraw");
    if (!before.endpoints.empty())
      CCTL_CHECK(updateEndpoints(operation_.registers, service_,
                                 [](std::vector<Endpoint>& endpoints) { endpoints.clear(); }));
    operation_.reached("names");
    operation_.events.phase(fmt::format("withdrawing {} from every host", service_));
    CCTL_TRY(outcome_.missed, pushNames(operation_, {service_}, allHosts(operation_.inventory())));
    return before.endpoints.empty() ? Result<void>() : drain();
  }

  Result<void> drain() {
    operation_.reached("drain");
    operation_.events.phase(fmt::format("draining {}", service_));
    const Deadline end = Deadline::in(std::max(kLeastDrain, longest_drain_));
    CCTL_CHECK(pauseFor(kLeastDrain, operation_.cancel));
    for (Millis quiet{0}; !end.passed() && quiet < kQuiet;) {
      constexpr Millis kStep{100};
      quiet = connectionsTo(operation_, service_, hosts_) == 0 ? quiet + kStep : Millis(0);
      CCTL_CHECK(pauseFor(kStep, operation_.cancel));
    }
    return {};
  }

  // Also where the registry does not place it: what a broken roll-out left behind goes, too.
  Result<void> forgetEverywhere(const Change& change) {
    operation_.events.phase(fmt::format("removing {}", service_));
    ssh::FanOutOptions options;
    options.forks = operation_.fleet.forks();
    const protocol::Caller caller = change.caller(service_);
    const auto results = ssh::forEachHost<std::vector<Placed>>(
        hosts_.size(), options, [&](size_t i) { return forgetOn(*hosts_[i], caller); });
    for (size_t i = 0; i < hosts_.size(); ++i) {
      if (results[i])
        outcome_.removed.insert(outcome_.removed.end(), results[i]->begin(), results[i]->end());
      else
        outcome_.failed.emplace(hosts_[i]->name, results[i].error());
    }
    return {};
  }

  Result<std::vector<Placed>> forgetOn(HostConnection& host, const protocol::Caller& caller) {
    CCTL_TRY(const HostReport report, probeHostStatus(host, service_.str(), nullptr));
    std::set<int> indices;
    for (const protocol::InstanceStatus& status : report.instances) indices.insert(status.index);
    std::vector<Placed> removed;
    for (const int index : indices) {
      const InstanceId id{service_, index};
      const protocol::ForgetRequest request{operation_.ref(id), caller};
      CCTL_TRY(const auto reply,
               host.shim->call<protocol::StopReply>(request, Deadline::in(kLongestStop)));
      operation_.events.step(
          id.text(), fmt::format("removed from {}{}", host.name, reply.killed ? ", killed" : ""));
      removed.push_back({id, host.name});
    }
    return removed;
  }

  // What stays in the registry is what could not be removed.
  Result<void> deleteKeys() {
    const auto stays = [this](const std::string& host) {
      const HostName name(host);
      return outcome_.failed.count(name) != 0 ||
             std::find(outcome_.skipped.begin(), outcome_.skipped.end(), name) !=
                 outcome_.skipped.end();
    };
    CCTL_TRY(Desired desired, readDesired(operation_.registers, service_));
    std::erase_if(desired.placement, [&](const auto& one) { return !stays(one.second); });
    if (!desired.placement.empty()) {
      const auto left = desired.placement;
      CCTL_CHECK(updateDesired(operation_.registers, service_,
                               [&](Desired& now) { now.placement = left; }));
      return {};
    }
    CCTL_CHECK(deleteService(operation_.registers, service_));
    return {};
  }

  Operation& operation_;
  const RetireRequest& request_;
  const ServiceName& service_;
  Millis longest_drain_{0};
  std::vector<HostConnection*> hosts_;
  bool begun_ = false;  // the registry says something else than before
  RetireOutcome outcome_;
};

}  // namespace

Result<RetireView> examineRetire(Operation& operation, const ServiceName& service) {
  operation.fleet.begin(allHosts(operation.inventory()), Need::kShim);
  CCTL_TRY(const Desired desired, readDesired(operation.registers, service));
  CCTL_TRY(const ServiceEndpoints endpoints, readEndpoints(operation.registers, service));
  CCTL_TRY(const bool retired, isRetired(operation.registers, service));
  RetireView view;
  view.version = desired.version;
  view.placement = placementOf(service, desired);
  view.endpoints = endpoints.endpoints.size();
  view.retired = retired;
  view.dependants = directDependants(operation.inventory().services, service);
  CCTL_TRY(view.clients, findClients(operation, {service, Millis(0)}));
  return view;
}

Result<RetireOutcome> retire(Operation& operation, const RetireRequest& request) {
  return Retire(operation, request).run();
}

}  // namespace cctl::ops
