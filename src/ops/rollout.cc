#include "ops/rollout.h"

#include <algorithm>

#include "ops/dependants.h"
#include "ops/render.h"
#include "transport/fan_out.h"

namespace cctl::ops {
namespace {

constexpr int kPortAttempts = 5;

std::string portsText(const std::map<std::string, int>& ports) {
  std::string text;
  for (const auto& [name, number] : ports) text += fmt::format(", {} {}", name, number);
  return text;
}

// Without what the cancel token may cut short: putting back must go through.
template <typename T>
std::vector<Result<protocol::Empty>> forEach(Operation& operation, const std::vector<T>& items,
                                             const std::function<Result<void>(const T&)>& work) {
  ssh::FanOutOptions options;
  options.forks = operation.fleet.forks();
  return ssh::forEachHost<protocol::Empty>(items.size(), options,
                                           [&](size_t i) -> Result<protocol::Empty> {
                                             CCTL_CHECK(work(items[i]));
                                             return protocol::Empty{};
                                           });
}

Result<void> joinErrors(const std::vector<Result<protocol::Empty>>& results) {
  std::string text;
  Code code = Code::kError;
  for (const auto& result : results) {
    if (result) continue;
    code = result.error().code;
    text += (text.empty() ? "" : "; ") + result.error().message;
  }
  if (text.empty()) return {};
  return fail(code, "{}", text);
}

bool contains(const std::vector<InstanceId>& items, const InstanceId& id) {
  return std::find(items.begin(), items.end(), id) != items.end();
}

}  // namespace

Result<void> Rollout::run(const Plan& plan) {
  CCTL_TRY(const ServiceEndpoints endpoints,
           readEndpoints(operation_.registers, input_.manifest->service));
  before_ = endpoints.endpoints;
  CCTL_CHECK(publishKept(plan.kept_running));
  CCTL_CHECK(stopStrays(plan.strays));
  for (const Wave& wave : plan.waves) {
    const size_t begun_with = done_.size();
    auto outcome = runWave(wave);
    if (outcome) continue;
    const Error cause = outcome.error();
    const bool interrupted = cause.code == Code::kCancelled;
    if (!lease_.held())
      return fail(Code::kPartial,
                  "{}; the lock was lost, so nothing was put back: run the command again",
                  cause.message);
    operation_.events.phase(interrupted ? "interrupted: putting back what was under way"
                                        : "putting back what was replaced");
    auto undone = undoDownTo(interrupted ? begun_with : 0);
    if (!undone)
      return fail(Code::kPartial, "{}\nputting back failed: {}", cause.message,
                  undone.error().message);
    if (interrupted) return fail(cause);
    return fail(Code::kRolledBack, "{}", cause.message);
  }
  return {};
}

// Before strays are stopped: they may be what is published still.
Result<void> Rollout::publishKept(const std::vector<ObservedInstance>& kept) {
  std::vector<Endpoint> wrong;
  for (const ObservedInstance& instance : kept) {
    CCTL_TRY(Endpoint endpoint, endpointOf(instance.id, instance.host, instance.ports));
    if (std::find(before_.begin(), before_.end(), endpoint) == before_.end())
      wrong.push_back(std::move(endpoint));
  }
  if (wrong.empty()) return {};
  CCTL_CHECK(changeEndpoints([&](std::vector<Endpoint>& endpoints) {
    for (const Endpoint& endpoint : wrong) {
      std::erase_if(endpoints,
                    [&](const Endpoint& old) { return old.instance == endpoint.instance; });
      endpoints.push_back(endpoint);
    }
  }));
  CCTL_TRY(const ServiceEndpoints now,
           readEndpoints(operation_.registers, input_.manifest->service));
  before_ = now.endpoints;
  return pauseFor(std::max(Millis(1'000), input_.manifest->upgrade.drain), operation_.cancel);
}

Result<Endpoint> Rollout::endpointOf(const InstanceId& id, const HostName& name,
                                     const std::map<std::string, int>& ports) {
  CCTL_TRY(const HostConnection* connection, host(name));
  Endpoint endpoint{id, name,           connection->published_address,
                    {}, input_.version, EndpointState::kReady};
  for (const auto& [port, number] : ports) endpoint.ports[port] = static_cast<uint16_t>(number);
  return endpoint;
}

Result<void> Rollout::stopStrays(const std::vector<OldGeneration>& strays) {
  for (const OldGeneration& stray : strays) {
    operation_.events.warning(
        stray.id.text(),
        fmt::format("stopping generation {} on {}, left over from a roll-out that was "
                    "not finished",
                    stray.generation, stray.host));
    CCTL_CHECK(stop(stray.id, stray.host, stray.generation));
  }
  return {};
}

Result<void> Rollout::runWave(const Wave& wave) {
  operation_.events.phase(wave.title);
  for (const Step& step : wave.steps) {
    if (operation_.cancel && operation_.cancel->cancelled())
      return fail(Code::kCancelled, "interrupted");
    if (!lease_.held())
      return fail(Code::kPartial, "the lock on {} was lost to another operation",
                  input_.manifest->service);
    done_.push_back(step);  // before it is done: a step that fails half-way is undone as well
    CCTL_CHECK(std::visit([this](const auto& one) { return execute(one); }, step));
  }
  return {};
}

Result<void> Rollout::undoDownTo(size_t kept) {
  while (done_.size() > kept) {
    const Step step = std::move(done_.back());
    done_.pop_back();
    auto undone = std::visit([this](const auto& one) { return undo(one); }, step);
    if (!undone) trouble_.push_back(undone.error().message);
  }
  if (trouble_.empty()) return {};
  std::string text;
  for (const std::string& one : trouble_) text += (text.empty() ? "" : "; ") + one;
  return fail(Code::kPartial, "{}", text);
}

// ---- start -----------------------------------------------------------------------------------

Result<void> Rollout::execute(const StartStep& step) {
  CCTL_TRY(const EndpointsByService endpoints,
           endpointsFor(operation_.registers, *input_.manifest));
  std::vector<Attempt> attempts(step.items.size());
  ssh::FanOutOptions options;
  options.forks = operation_.fleet.forks();
  ssh::fanOut(step.items.size(), options,
              [&](size_t i) { attempts[i] = start(step.items[i], endpoints); });
  for (Attempt& attempt : attempts) {
    if (attempt.started) started_[attempt.placed.instance] = *attempt.started;
    if (attempt.failure) failures_.push_back(std::move(*attempt.failure));
  }
  if (operation_.cancel && operation_.cancel->cancelled())
    return fail(Code::kCancelled, "interrupted");
  if (failures_.empty()) return {};
  return fail(Code::kFailed, "{} on {}: {}", failures_.front().id, failures_.front().host,
              failures_.front().problem);
}

Rollout::Attempt Rollout::start(const Placed& placed, const EndpointsByService& endpoints) {
  Attempt attempt{placed, std::nullopt, std::nullopt};
  const auto failed = [&](std::string problem) {
    attempt.failure =
        InstanceFailure{placed.instance, placed.host, std::move(problem), "", std::nullopt};
    return attempt;
  };
  auto connection = host(placed.host);
  if (!connection) return failed(connection.error().message);
  std::vector<int> avoid;
  for (int turn = 1;; ++turn) {
    NewGeneration generation{placed.host, 0, {}};
    auto reply = startOnce(**connection, placed, avoid, endpoints, generation);
    if (generation.generation != 0)
      attempt.started = generation;  // also when it failed: to be undone
    if (!reply) return failed(reply.error().message);
    if (reply->state == protocol::InstanceState::kReady) {
      operation_.events.step(placed.instance.text(),
                             fmt::format("ready on {} in {}{}", placed.host,
                                         humanDuration(reply->took), portsText(generation.ports)));
      return attempt;
    }
    if (reply->port_taken.empty() || turn == kPortAttempts) {
      attempt.failure = InstanceFailure{placed.instance, placed.host, reply->problem,
                                        reply->health_answer, reply->exit};
      return attempt;
    }
    for (const std::string& name : reply->port_taken) avoid.push_back(generation.ports[name]);
    operation_.events.step(placed.instance.text(), "port was taken meanwhile, trying another");
    if (auto stopped = stop(placed.instance, placed.host, generation.generation); !stopped)
      return failed(stopped.error().message);
  }
}

Result<protocol::StartReply> Rollout::startOnce(HostConnection& connection, const Placed& placed,
                                                const std::vector<int>& avoid,
                                                const EndpointsByService& endpoints,
                                                NewGeneration& generation) {
  const protocol::Caller caller = operation_.caller(lease_.token());
  protocol::AllocateRequest allocate;
  allocate.instance = operation_.ref(placed.instance);
  for (const Port& port : input_.manifest->ports)
    allocate.ports.push_back({port.name, port.fixed.value_or(0), port.socket});
  allocate.pool_low = operation_.inventory().ports.first;
  allocate.pool_high = operation_.inventory().ports.last;
  allocate.avoid = avoid;
  allocate.caller = caller;
  CCTL_TRY(const auto allocated, connection.shim->call<protocol::AllocateReply>(
                                     allocate, Deadline::in(kRequestTimeout), operation_.cancel));
  generation.ports = allocated.ports;
  protocol::PrepareRequest prepare;
  CCTL_TRY(prepare.spec,
           renderGeneration(connection, {&operation_.inventory(), input_.manifest, placed.instance,
                                         input_.version, input_.release_digest,
                                         allocated.generation, allocated.ports, &endpoints}));
  prepare.caller = caller;
  CCTL_TRY(const auto prepared, connection.shim->call<protocol::Empty>(
                                    prepare, Deadline::in(kRequestTimeout), operation_.cancel));
  (void)prepared;
  generation.generation = allocated.generation;
  return connection.shim->call<protocol::StartReply>(
      protocol::StartRequest{operation_.ref(placed.instance), allocated.generation, caller},
      Deadline::in(input_.manifest->health.start_timeout + kRequestTimeout), operation_.cancel);
}

Result<void> Rollout::undo(const StartStep& step) {
  const auto results =
      forEach<Placed>(operation_, step.items, [&](const Placed& placed) -> Result<void> {
        const auto found = started_.find(placed.instance);
        if (found == started_.end()) return {};
        return stop(placed.instance, found->second.host, found->second.generation);
      });
  for (const Placed& placed : step.items) started_.erase(placed.instance);
  return joinErrors(results);
}

// ---- endpoints -------------------------------------------------------------------------------

// The change is committed first, then told: to every host that is connected, and to dependants.
Result<void> Rollout::changeEndpoints(const std::function<void(std::vector<Endpoint>&)>& change) {
  const ServiceName& service = input_.manifest->service;
  CCTL_CHECK(updateEndpoints(operation_.registers, service, change));
  CCTL_CHECK(pushNames(operation_, {service}, input_.name_hosts));
  return refreshDependants(operation_, service);
}

Result<void> Rollout::execute(const PublishStep& step) {
  std::vector<Endpoint> fresh;
  for (const InstanceId& id : step.items) {
    const NewGeneration& started = started_.at(id);
    CCTL_TRY(Endpoint endpoint, endpointOf(id, started.host, started.ports));
    fresh.push_back(std::move(endpoint));
  }
  return changeEndpoints([&](std::vector<Endpoint>& endpoints) {
    std::erase_if(endpoints,
                  [&](const Endpoint& old) { return contains(step.items, old.instance); });
    endpoints.insert(endpoints.end(), fresh.begin(), fresh.end());
  });
}

Result<void> Rollout::execute(const WithdrawStep& step) {
  return changeEndpoints([&](std::vector<Endpoint>& endpoints) {
    std::erase_if(endpoints,
                  [&](const Endpoint& old) { return contains(step.items, old.instance); });
  });
}

Result<void> Rollout::restoreEndpoints(const std::vector<InstanceId>& items) {
  return changeEndpoints([&](std::vector<Endpoint>& endpoints) {
    std::erase_if(endpoints, [&](const Endpoint& now) { return contains(items, now.instance); });
    for (const Endpoint& endpoint : before_)
      if (contains(items, endpoint.instance)) endpoints.push_back(endpoint);
  });
}

// The new ones lose their clients as gently as the old ones would have.
Result<void> Rollout::undo(const PublishStep& step) {
  CCTL_CHECK(restoreEndpoints(step.items));
  return pauseFor(std::max(Millis(1'000), input_.manifest->upgrade.drain), nullptr);
}

Result<void> Rollout::undo(const WithdrawStep& step) { return restoreEndpoints(step.items); }

Result<void> Rollout::execute(const DrainStep& step) {
  return pauseFor(step.duration, operation_.cancel);
}

// ---- stop ------------------------------------------------------------------------------------

Result<void> Rollout::stop(const InstanceId& id, const HostName& name, int generation) {
  CCTL_TRY(HostConnection * connection, host(name));
  protocol::StopRequest request{operation_.ref(id), generation, false,
                                operation_.caller(lease_.token())};
  auto reply = connection->shim->call<protocol::StopReply>(
      request, Deadline::in(input_.manifest->stop.grace + kRequestTimeout));
  if (!reply) return fail(reply.error());
  return {};
}

Result<void> Rollout::execute(const StopStep& step) {
  return joinErrors(
      forEach<OldGeneration>(operation_, step.items, [&](const OldGeneration& old) -> Result<void> {
        CCTL_CHECK(stop(old.id, old.host, old.generation));
        operation_.events.step(old.id.text(), fmt::format("old generation {} stopped on {}",
                                                          old.generation, old.host));
        return {};
      }));
}

Result<void> Rollout::startAgain(const OldGeneration& old) {
  if (!old.running) return {};
  CCTL_TRY(HostConnection * connection, host(old.host));
  protocol::StartRequest request{operation_.ref(old.id), old.generation,
                                 operation_.caller(lease_.token())};
  auto reply = connection->shim->call<protocol::StartReply>(
      request, Deadline::in(input_.manifest->health.start_timeout + kRequestTimeout));
  if (!reply) return fail(reply.error());
  if (reply->state != protocol::InstanceState::kReady)
    return fail(Code::kPartial, "{} on {}: the old generation {} is not ready again: {}", old.id,
                old.host, old.generation, reply->problem);
  operation_.events.step(
      old.id.text(), fmt::format("old generation {} runs again on {}", old.generation, old.host));
  return {};
}

Result<void> Rollout::undo(const StopStep& step) {
  return joinErrors(forEach<OldGeneration>(
      operation_, step.items, [&](const OldGeneration& old) { return startAgain(old); }));
}

Result<void> Rollout::execute(const ForgetStep& step) {
  return joinErrors(
      forEach<OldGeneration>(operation_, step.items, [&](const OldGeneration& old) -> Result<void> {
        CCTL_TRY(HostConnection * connection, host(old.host));
        protocol::ForgetRequest request{operation_.ref(old.id), operation_.caller(lease_.token())};
        auto reply = connection->shim->call<protocol::StopReply>(
            request, Deadline::in(input_.manifest->stop.grace + kRequestTimeout));
        if (!reply) return fail(reply.error());
        operation_.events.step(old.id.text(), fmt::format("removed from {}", old.host));
        return {};
      }));
}

}  // namespace cctl::ops
