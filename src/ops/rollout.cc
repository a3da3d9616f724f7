#include "ops/rollout.h"

#include <algorithm>

#include "base/text.h"
#include "ops/dependants.h"
#include "ops/drain_connections.h"
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

// The host itself did not answer; what the request did there is not known.
bool isUnreachable(const Error& error) { return error.code == Code::kUnreachable; }

InstanceFailure failureOf(const InstanceId& id, const HostName& host, const Error& error) {
  InstanceFailure failure;
  failure.id = id;
  failure.host = host;
  failure.problem = error.message;
  failure.unreachable = isUnreachable(error);
  return failure;
}

std::string startText(const InstanceFailure& failure) {
  return fmt::format("{} on {}: {}", failure.id, failure.host, failure.problem);
}

}  // namespace

Result<void> Rollout::run(const Plan& plan) {
  CCTL_TRY(const ServiceEndpoints endpoints,
           readEndpoints(operation_.registers, input_.manifest->service));
  before_ = endpoints.endpoints;
  if (input_.goes_on)
    if (auto outcome = observeKept(plan.kept_running); !outcome)
      return stopShort(outcome.error(), 0);
  CCTL_CHECK(publishKept(plan.kept_running));
  CCTL_CHECK(stopStrays(plan.strays));
  for (const Wave& wave : plan.waves) {
    const size_t begun_with = done_.size();
    if (auto outcome = runWave(wave); !outcome) return stopShort(outcome.error(), begun_with);
    if (stopping_) return fail(*stopping_);
  }
  return {};
}

// `begun_with`: how much had been done when the wave under way began.
Result<void> Rollout::stopShort(const Error& cause, size_t begun_with) {
  const bool interrupted = cause.code == Code::kCancelled;
  if (!lease_.held())
    return fail(Code::kPartial,
                "{}; the lock was lost, so nothing was put back: run the command again",
                cause.message);
  if (!interrupted && input_.before_undo) input_.before_undo(cause);
  const bool wave_only = interrupted || !input_.roll_back;
  operation_.events.phase(interrupted ? "interrupted: putting back what was under way"
                          : wave_only ? "putting back what was under way"
                                      : "putting back what was replaced");
  auto undone = undoDownTo(wave_only ? begun_with : 0);
  if (!undone)
    return fail(Code::kPartial, "{}\nputting back failed: {}", cause.message,
                undone.error().message);
  if (wave_only) return fail(cause);
  return fail(Code::kRolledBack, "{}", cause.message);
}

// ---- budgets ---------------------------------------------------------------------------------

std::optional<Error> Rollout::spentBudget() const {
  const Upgrade& upgrade = input_.manifest->upgrade;
  const auto first = [&](bool unreachable) {
    const auto found = std::find_if(
        failures_.begin(), failures_.end(),
        [&](const InstanceFailure& failure) { return failure.unreachable == unreachable; });
    return found == failures_.end() ? std::string() : startText(*found);
  };
  if (unhealthy_ > static_cast<size_t>(upgrade.max_failures)) {
    std::string text = first(false);
    if (upgrade.max_failures > 0)
      text += fmt::format(" ({} failed, upgrade.max_failures is {})",
                          counted(unhealthy_, "instance"), upgrade.max_failures);
    return Error{Code::kFailed, text};
  }
  if (!lost_.empty() && lost_.size() + input_.unreachable_before > input_.most_unreachable) {
    std::string text = first(true);
    if (text.empty()) text = fmt::format("{} cannot be reached", *lost_.begin());
    if (upgrade.max_unreachable > 0)
      text += fmt::format(" ({} out of reach, upgrade.max_unreachable is {})",
                          counted(lost_.size() + input_.unreachable_before, "host"),
                          upgrade.max_unreachable);
    return Error{Code::kFailed, text};
  }
  return std::nullopt;
}

Result<void> Rollout::settle(std::vector<InstanceFailure> failures) {
  if (operation_.cancel && operation_.cancel->cancelled())
    return fail(Code::kCancelled, "interrupted");
  if (failures.empty()) return {};
  std::set<InstanceId> alone;
  for (InstanceFailure& failure : failures) {
    if (failure.unreachable)
      lost_.insert(failure.host);
    else
      ++unhealthy_, alone.insert(failure.id);
    left_out_.insert(failure.id);
    failures_.push_back(std::move(failure));
  }
  const std::optional<Error> spent = spentBudget();
  if (spent && input_.roll_back) return fail(*spent);
  if (spent) stopping_ = spent;
  if (input_.before_undo)
    input_.before_undo(spent.value_or(Error{Code::kFailed, startText(failures_.back())}));
  for (auto it = failures_.end() - static_cast<std::ptrdiff_t>(failures.size());
       it != failures_.end(); ++it)
    operation_.events.onEvent({OpEventKind::kFailure,
                               it->id.text(),
                               fmt::format("left out on {}: {}", it->host, it->problem),
                               {}});
  putBackAlone(alone);
  return {};
}

// The others of the wave go on. What cannot be put back now is told at the end.
void Rollout::putBackAlone(const std::set<InstanceId>& ids) {
  for (size_t i = done_.size(); i > wave_begun_; --i) {
    const Step part = onlyOf(done_[i - 1], ids);
    if (isEmpty(part)) continue;
    done_[i - 1] = without(done_[i - 1], ids);
    undoStep(part);
  }
}

// What cannot be withdrawn stays as it is: clients are sent to it, so it must go on to answer.
void Rollout::undoStep(const Step& done) {
  const Step step = without(done, published_still_);
  if (isEmpty(step)) return;
  auto undone = std::visit([this](const auto& one) { return undo(one); }, step);
  if (undone) return;
  trouble_.push_back(undone.error().message);
  const auto* publish = std::get_if<PublishStep>(&step);
  if (publish == nullptr) return;
  for (const InstanceId& id : publish->items) {
    published_still_.insert(id);
    trouble_.push_back(fmt::format("{} goes on as it is, for clients may be sent to it", id));
  }
}

// What an earlier run had started may not have been observed to its end.
Result<void> Rollout::observeKept(const std::vector<ObservedInstance>& kept) {
  const Millis duration = input_.manifest->upgrade.observe;
  if (kept.empty() || duration == Millis(0)) return {};
  ObserveStep step{{}, duration};
  for (const ObservedInstance& one : kept) {
    step.items.push_back(one.id);
    started_[one.id] = {one.host, one.generation, one.version, one.ports};
  }
  CCTL_CHECK(execute(step));
  for (const InstanceId& id : step.items) started_.erase(id);
  return {};
}

// Before strays are stopped: they may be what is published still.
Result<void> Rollout::publishKept(const std::vector<ObservedInstance>& kept) {
  std::vector<Endpoint> wrong;
  for (const ObservedInstance& instance : kept) {
    CCTL_TRY(Endpoint endpoint, endpointOf(instance.id, {instance.host, instance.generation,
                                                         instance.version, instance.ports}));
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
  return {};
}

Result<Endpoint> Rollout::endpointOf(const InstanceId& id, const NewGeneration& running) {
  CCTL_TRY(const HostConnection* connection, host(running.host));
  return readyEndpoint(id, *connection, running.version, running.ports);
}

// Clients that still are with them get the same time as those of any old generation.
Result<void> Rollout::stopStrays(const std::vector<OldGeneration>& strays) {
  if (strays.empty()) return {};
  CCTL_CHECK(drainLeftBehind(operation_, input_.manifest->service, strays,
                             input_.manifest->upgrade.drain));
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
  operation_.events.phase((wave.canary ? "canary: " : "") + wave.title);
  wave_begun_ = done_.size();
  for (const Step& planned : wave.steps) {
    const Step step = without(planned, left_out_);
    if (!isEmpty(step)) CCTL_CHECK(runStep(step));
  }
  return {};
}

Result<void> Rollout::runStep(const Step& step) {
  operation_.reached(stepName(step));
  if (operation_.cancel && operation_.cancel->cancelled())
    return fail(Code::kCancelled, "interrupted");
  if (!lease_.held()) return fail(Code::kPartial, "{}", lease_.lost().message);
  done_.push_back(step);  // before it is done: a step that fails half-way is undone as well
  return std::visit([this](const auto& one) { return execute(one); }, step);
}

Result<void> Rollout::undoDownTo(size_t kept) {
  while (done_.size() > kept) {
    const Step step = std::move(done_.back());
    done_.pop_back();
    operation_.reached("undo " + std::string(stepName(step)));
    undoStep(step);
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
  return takeStarted(std::move(attempts));
}

Result<void> Rollout::takeStarted(std::vector<Attempt> attempts) {
  std::vector<InstanceFailure> failures;
  for (Attempt& attempt : attempts) {
    if (attempt.started) started_[attempt.placed.instance] = *attempt.started;
    if (attempt.failure) failures.push_back(std::move(*attempt.failure));
  }
  return settle(std::move(failures));
}

Rollout::Attempt Rollout::start(const Placed& placed, const EndpointsByService& endpoints) {
  Attempt attempt{placed, std::nullopt, std::nullopt};
  const auto failed = [&](const Error& error) {
    attempt.failure = failureOf(placed.instance, placed.host, error);
    return attempt;
  };
  auto connection = host(placed.host);
  if (!connection) return failed(connection.error());
  std::vector<int> avoid;
  for (int turn = 1;; ++turn) {
    NewGeneration generation{placed.host, 0, input_.version, {}};
    auto reply = startOnce(**connection, placed, avoid, endpoints, generation);
    if (generation.generation != 0)
      attempt.started = generation;  // also when it failed: to be undone
    if (!reply) return failed(reply.error());
    if (reply->state == protocol::InstanceState::kReady) {
      operation_.events.step(placed.instance.text(),
                             fmt::format("ready on {} in {}{}", placed.host,
                                         humanDuration(reply->took), portsText(generation.ports)));
      return attempt;
    }
    if (reply->port_taken.empty() || turn == kPortAttempts) {
      attempt.failure = InstanceFailure{placed.instance,      placed.host, reply->problem,
                                        reply->health_answer, reply->exit, false};
      return attempt;
    }
    for (const std::string& name : reply->port_taken) avoid.push_back(generation.ports[name]);
    operation_.events.step(placed.instance.text(), "port was taken meanwhile, trying another");
    if (auto stopped = stop(placed.instance, placed.host, generation.generation); !stopped)
      return failed(stopped.error());
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
           renderGeneration(connection, {input_.inventory, input_.manifest, placed.instance,
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
      doForEach(operation_.fleet, step.items, [&](const Placed& placed) -> Result<void> {
        const auto found = started_.find(placed.instance);
        if (found == started_.end()) return {};
        return stop(placed.instance, found->second.host, found->second.generation);
      });
  for (const Placed& placed : step.items) started_.erase(placed.instance);
  return joinErrors(results);
}

// ---- restart ---------------------------------------------------------------------------------

Result<void> Rollout::execute(const RestartStep& step) {
  std::vector<Attempt> attempts(step.items.size());
  ssh::FanOutOptions options;
  options.forks = operation_.fleet.forks();
  ssh::fanOut(step.items.size(), options, [&](size_t i) { attempts[i] = restart(step.items[i]); });
  for (const Attempt& attempt : attempts)
    if (attempt.failure && !serves(attempt.placed)) down_.insert(attempt.placed.instance);
  return takeStarted(std::move(attempts));
}

// Whether clients can be sent to it again. A shim that could not write down what it did, on a full
// disk, has done it.
bool Rollout::serves(const Placed& placed) {
  auto connection = host(placed.host);
  if (!connection) return false;
  const auto report = probeHostStatus(**connection, placed.instance.service.str(), nullptr);
  return report && std::any_of(report->instances.begin(), report->instances.end(),
                               [&](const protocol::InstanceStatus& one) {
                                 return one.index == placed.instance.index && one.current &&
                                        one.state == protocol::InstanceState::kReady;
                               });
}

// Not cut short by the cancel token: between its stop and its start nothing of it would run.
Rollout::Attempt Rollout::restart(const OldGeneration& old) {
  Attempt attempt{{old.id, old.host}, std::nullopt, std::nullopt};
  const auto work = [&]() -> Result<void> {
    CCTL_TRY(HostConnection * connection, host(old.host));
    const protocol::InstanceRef ref = operation_.ref(old.id);
    CCTL_TRY(const auto reply, connection->shim->call<protocol::StartReply>(
                                   protocol::RestartRequest{ref, operation_.caller(lease_.token())},
                                   Deadline::in(input_.manifest->health.start_timeout +
                                                input_.manifest->stop.grace + kRequestTimeout)));
    if (reply.state != protocol::InstanceState::kReady) {
      attempt.failure =
          InstanceFailure{old.id, old.host, reply.problem, reply.health_answer, reply.exit, false};
      return {};
    }
    CCTL_TRY(const auto spec, connection->shim->call<protocol::GenerationSpec>(
                                  protocol::GenerationRequest{ref, reply.generation},
                                  Deadline::in(kRequestTimeout)));
    attempt.started = NewGeneration{old.host, reply.generation, Version(spec.version), spec.ports};
    operation_.events.step(old.id.text(),
                           fmt::format("ready on {} in {}", old.host, humanDuration(reply.took)));
    return {};
  };
  if (auto done = work(); !done) attempt.failure = failureOf(old.id, old.host, done.error());
  return attempt;
}

Result<void> Rollout::undo(const RestartStep& step) {
  for (const OldGeneration& old : step.items) started_.erase(old.id);
  return {};
}

// ---- observe ---------------------------------------------------------------------------------

std::optional<InstanceFailure> Rollout::judge(const InstanceId& id, const NewGeneration& running,
                                              const HostReport& report) const {
  const auto found =
      std::find_if(report.instances.begin(), report.instances.end(), [&](const auto& status) {
        return InstanceId{ServiceName(status.service), status.index} == id &&
               status.generation == running.generation;
      });
  InstanceFailure failure{id, running.host, "was ready, and is not there any more", "", {}, false};
  if (found == report.instances.end()) return failure;
  const bool steady = found->state == protocol::InstanceState::kReady && found->restarts == 0;
  if (steady) return std::nullopt;
  failure.problem =
      found->restarts > 0
          ? fmt::format("was ready, and then ended by itself; it is {} after {}",
                        protocol::stateName(found->state),
                        counted(static_cast<size_t>(found->restarts), "restart"))
          : fmt::format("was ready, and then became {}", protocol::stateName(found->state));
  failure.health_answer = found->note;
  failure.exit = found->last_exit;
  return failure;
}

std::vector<InstanceFailure> Rollout::look(const std::set<InstanceId>& ids) {
  std::vector<HostConnection*> hosts;
  std::vector<InstanceFailure> failures;
  for (const InstanceId& id : ids) {
    const NewGeneration& running = started_.at(id);
    auto connection = host(running.host);
    if (!connection)
      failures.push_back(failureOf(id, running.host, connection.error()));
    else if (std::find(hosts.begin(), hosts.end(), *connection) == hosts.end())
      hosts.push_back(*connection);
  }
  const auto reports = probeAll(operation_, hosts, input_.manifest->service.str());
  for (const InstanceId& id : ids) {
    const NewGeneration& running = started_.at(id);
    const auto report = reports.find(running.host);
    if (report == reports.end()) continue;
    if (!report->second)
      failures.push_back(failureOf(id, running.host, report->second.error()));
    else if (auto failure = judge(id, running, *report->second))
      failures.push_back(std::move(*failure));
  }
  return failures;
}

// A crash between two looks shows as a restart.
Result<void> Rollout::execute(const ObserveStep& step) {
  constexpr Millis kEvery{250};
  const Deadline end = Deadline::in(step.duration);
  if (step.duration > Millis(0))
    operation_.events.phase(fmt::format("observing {} for {}",
                                        counted(step.items.size(), "new instance"),
                                        humanDuration(step.duration)));
  for (;;) {
    std::set<InstanceId> ids;
    for (const InstanceId& id : step.items)
      if (left_out_.count(id) == 0) ids.insert(id);
    CCTL_CHECK(settle(look(ids)));
    if (end.passed() || ids.empty()) return {};
    CCTL_CHECK(pauseFor(std::min(kEvery, Millis(end.pollTimeout())), operation_.cancel));
  }
}

// ---- endpoints -------------------------------------------------------------------------------

// The change is committed first, then told: to every host that can be reached, whose answers are
// waited for, and to dependants.
Result<void> Rollout::changeEndpoints(const std::function<void(std::vector<Endpoint>&)>& change) {
  const ServiceName& service = input_.manifest->service;
  CCTL_CHECK(updateEndpoints(operation_.registers, service, change));
  operation_.reached("names");
  std::vector<HostName> hosts;
  for (const HostName& name : allHosts(operation_.inventory()))
    if (deaf_.count(name) == 0) hosts.push_back(name);
  CCTL_TRY(const HostErrors missed, pushNames(operation_, {service}, hosts));
  for (const auto& [name, error] : missed) deaf_.insert(name);
  operation_.reached("dependants");
  refreshDependants(operation_, service);
  return {};
}

Result<void> Rollout::execute(const PublishStep& step) {
  std::vector<Endpoint> fresh;
  for (const InstanceId& id : step.items) {
    const NewGeneration& started = started_.at(id);
    CCTL_TRY(Endpoint endpoint, endpointOf(id, started));
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
      if (contains(items, endpoint.instance) && down_.count(endpoint.instance) == 0)
        endpoints.push_back(endpoint);
  });
}

std::vector<OldGeneration> Rollout::startedOf(const std::vector<InstanceId>& items) const {
  std::vector<OldGeneration> found;
  for (const InstanceId& id : items)
    if (const auto one = started_.find(id); one != started_.end())
      found.push_back({id, one->second.host, one->second.generation, true});
  return found;
}

// The new ones lose their clients as gently as the old ones would have.
Result<void> Rollout::undo(const PublishStep& step) {
  CCTL_CHECK(restoreEndpoints(step.items));
  return drainConnections(operation_, startedOf(step.items), input_.manifest->upgrade.drain,
                          nullptr);
}

Result<void> Rollout::undo(const WithdrawStep& step) { return restoreEndpoints(step.items); }

// ---- drain -----------------------------------------------------------------------------------

Result<void> Rollout::execute(const DrainStep& step) {
  return drainConnections(operation_, step.items, step.most, operation_.cancel);
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
  const auto results =
      doForEach(operation_.fleet, step.items, [&](const OldGeneration& old) -> Result<void> {
        CCTL_CHECK(stop(old.id, old.host, old.generation));
        operation_.events.step(old.id.text(), fmt::format("old generation {} stopped on {}",
                                                          old.generation, old.host));
        return {};
      });
  return settleStops(step.items, results);
}

// What still runs on a host that was lost is a stray there, which the next command stops.
Result<void> Rollout::settleStops(const std::vector<OldGeneration>& items,
                                  const std::vector<Result<protocol::Empty>>& results) {
  std::vector<InstanceFailure> lost;
  std::vector<Result<protocol::Empty>> others;
  for (size_t i = 0; i < items.size(); ++i) {
    if (!results[i] && isUnreachable(results[i].error()))
      lost.push_back(failureOf(items[i].id, items[i].host, results[i].error()));
    else
      others.push_back(results[i]);
  }
  CCTL_CHECK(joinErrors(others));
  return settle(std::move(lost));
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
  return joinErrors(doForEach(operation_.fleet, step.items,
                              [&](const OldGeneration& old) { return startAgain(old); }));
}

Result<void> Rollout::execute(const ForgetStep& step) {
  const auto results =
      doForEach(operation_.fleet, step.items, [&](const OldGeneration& old) -> Result<void> {
        CCTL_TRY(HostConnection * connection, host(old.host));
        protocol::ForgetRequest request{operation_.ref(old.id), operation_.caller(lease_.token())};
        auto reply = connection->shim->call<protocol::StopReply>(
            request, Deadline::in(input_.manifest->stop.grace + kRequestTimeout));
        if (!reply) return fail(reply.error());
        operation_.events.step(old.id.text(), fmt::format("removed from {}", old.host));
        return {};
      });
  return settleStops(step.items, results);
}

}  // namespace cctl::ops
