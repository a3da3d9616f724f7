#include "ops/without_quorum.h"

#include <algorithm>

#include "ops/probe.h"

namespace cctl::ops {
namespace {

constexpr Millis kOrderTimeout{120'000};
// Orders without a lock carry no token: shims take them.
constexpr uint64_t kNoToken = 0;

bool isMeant(const LifecycleRequest& request, const Placed& placed) {
  if (request.targets.empty()) return true;
  return std::any_of(request.targets.begin(), request.targets.end(),
                     [&](const Target& target) { return target.covers(placed.instance); });
}

class WithoutQuorum {
 public:
  WithoutQuorum(Operation& operation, const LifecycleRequest& request)
      : operation_(operation), request_(request) {}

  Result<LifecycleOutcome> run() {
    const auto before = std::chrono::steady_clock::now();
    find();
    if (outcome_.selected.empty())
      return fail(Code::kUsage, "no host that answers has anything of that");
    for (const Placed& placed : outcome_.selected) {
      if (request_.dry_run) break;
      if (operation_.cancel && operation_.cancel->cancelled()) {
        outcome_.error = Error{Code::kCancelled, "interrupted"};
        break;
      }
      act(placed);
    }
    outcome_.took = std::chrono::duration_cast<Millis>(std::chrono::steady_clock::now() - before);
    return std::move(outcome_);
  }

 private:
  void find() {
    const std::vector<HostName> hosts =
        request_.host ? std::vector{*request_.host} : allHosts(operation_.inventory());
    operation_.fleet.begin(hosts, Need::kShim);
    HostErrors errors;
    const auto connections = connectedOf(operation_.fleet, hosts, errors);
    for (const auto& [host, error] : errors) {
      operation_.events.warning(host.str(), "left out: " + error.message);
      outcome_.skipped.push_back(host);
    }
    for (const auto& [host, report] : probeAll(operation_, connections, ""))
      for (const protocol::InstanceStatus& status :
           report ? report->instances : std::vector<protocol::InstanceStatus>()) {
        const Placed placed{{ServiceName(status.service), status.index}, host};
        if (status.current && isMeant(request_, placed)) outcome_.selected.push_back(placed);
      }
  }

  void act(const Placed& placed) {
    auto connection = operation_.fleet.await(placed.host);
    auto done = connection ? order(placed, *(*connection)->shim)
                           : Result<std::optional<InstanceFailure>>(fail(connection.error()));
    InstanceFailure failure;
    failure.id = placed.instance;
    failure.host = placed.host;
    if (!done) failure.problem = done.error().message;
    if (done && *done) failure = **done;
    if (done && !*done) {
      outcome_.done.push_back(placed.instance);
      operation_.events.step(
          placed.instance.text(),
          fmt::format("{} on {}, without the registry", actionName(request_.action), placed.host));
    } else {
      outcome_.failures.push_back(std::move(failure));
    }
  }

  Result<std::optional<InstanceFailure>> order(const Placed& placed, ShimClient& shim) {
    const protocol::InstanceRef ref = operation_.ref(placed.instance);
    const protocol::Caller caller = operation_.caller(kNoToken);
    const Deadline deadline = Deadline::in(kOrderTimeout);
    if (request_.action == Action::kStop) {
      CCTL_CHECK(shim.call<protocol::StopReply>(protocol::StopRequest{ref, 0, true, caller},
                                                deadline, operation_.cancel));
      return std::nullopt;
    }
    auto reply = request_.action == Action::kStart
                     ? shim.call<protocol::StartReply>(protocol::StartRequest{ref, 0, caller},
                                                       deadline, operation_.cancel)
                     : shim.call<protocol::StartReply>(protocol::RestartRequest{ref, caller},
                                                       deadline, operation_.cancel);
    if (!reply) return fail(reply.error());
    if (reply->state == protocol::InstanceState::kReady) return std::nullopt;
    InstanceFailure failure;
    failure.id = placed.instance;
    failure.host = placed.host;
    failure.problem = reply->problem;
    failure.health_answer = reply->health_answer;
    failure.exit = reply->exit;
    return failure;
  }

  Operation& operation_;
  const LifecycleRequest& request_;
  LifecycleOutcome outcome_;
};

}  // namespace

Result<LifecycleOutcome> lifecycleWithoutQuorum(Operation& operation,
                                                const LifecycleRequest& request) {
  return WithoutQuorum(operation, request).run();
}

}  // namespace cctl::ops
