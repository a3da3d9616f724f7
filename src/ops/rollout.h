// Carries out a plan, step by step, and puts everything back when a step fails.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "model/plan.h"
#include "ops/lock.h"
#include "ops/operation.h"

namespace cctl::ops {

// Why an instance is not as wanted, with all that its host could tell.
struct InstanceFailure {
  InstanceId id;
  HostName host;
  std::string problem;
  std::string health_answer;
  std::optional<protocol::ExitReport> exit;
};

struct RolloutInput {
  const Manifest* manifest = nullptr;
  Version version;
  std::string release_digest;
  std::vector<HostName> name_hosts;  // who is told of every change of endpoints as it happens
};

class Rollout {
 public:
  Rollout(Operation& operation, RolloutInput input, const Lease& lease)
      : operation_(operation), input_(std::move(input)), lease_(lease) {}

  // Blocks until the plan is done or put back. kRolledBack: all is as before. kPartial: it could
  // not all be put back; the text says what is where. kCancelled: the wave under way was put back,
  // earlier ones stay.
  [[nodiscard]] Result<void> run(const Plan& plan);

  const std::vector<InstanceFailure>& failures() const { return failures_; }
  size_t started() const { return started_.size(); }

 private:
  struct NewGeneration {
    HostName host;
    int generation = 0;
    std::map<std::string, int> ports;
  };
  struct Attempt {
    Placed placed;
    std::optional<NewGeneration> started;
    std::optional<InstanceFailure> failure;
  };

  [[nodiscard]] Result<void> runWave(const Wave& wave);
  [[nodiscard]] Result<void> publishKept(const std::vector<ObservedInstance>& kept);
  [[nodiscard]] Result<Endpoint> endpointOf(const InstanceId& id, const HostName& name,
                                            const std::map<std::string, int>& ports);
  [[nodiscard]] Result<void> stopStrays(const std::vector<OldGeneration>& strays);

  [[nodiscard]] Result<void> execute(const StartStep& step);
  [[nodiscard]] Result<void> execute(const PublishStep& step);
  [[nodiscard]] Result<void> execute(const WithdrawStep& step);
  [[nodiscard]] Result<void> execute(const DrainStep& step);
  [[nodiscard]] Result<void> execute(const StopStep& step);
  [[nodiscard]] Result<void> execute(const ForgetStep& step);
  [[nodiscard]] Result<void> undo(const StartStep& step);
  [[nodiscard]] Result<void> undo(const PublishStep& step);
  [[nodiscard]] Result<void> undo(const WithdrawStep& step);
  [[nodiscard]] Result<void> undo(const StopStep& step);
  template <typename NeverUndone>
  [[nodiscard]] Result<void> undo(const NeverUndone&) {
    return {};
  }
  [[nodiscard]] Result<void> undoDownTo(size_t kept);

  Attempt start(const Placed& placed,
                const std::map<ServiceName, std::vector<Endpoint>>& endpoints);
  [[nodiscard]] Result<protocol::StartReply> startOnce(
      HostConnection& host, const Placed& placed, const std::vector<int>& avoid,
      const std::map<ServiceName, std::vector<Endpoint>>& endpoints, NewGeneration& generation);
  [[nodiscard]] Result<void> startAgain(const OldGeneration& old);
  [[nodiscard]] Result<void> stop(const InstanceId& id, const HostName& host, int generation);
  [[nodiscard]] Result<void> changeEndpoints(
      const std::function<void(std::vector<Endpoint>&)>& change);
  [[nodiscard]] Result<void> restoreEndpoints(const std::vector<InstanceId>& items);
  [[nodiscard]] Result<HostConnection*> host(const HostName& name) {
    return operation_.fleet.await(name);
  }

  Operation& operation_;
  const RolloutInput input_;
  const Lease& lease_;
  std::map<InstanceId, NewGeneration> started_;
  std::vector<Endpoint> before_;  // the service's endpoints when the roll-out began
  std::vector<Step> done_;
  std::vector<InstanceFailure> failures_;
  std::vector<std::string> trouble_;  // what could not be put back
};

}  // namespace cctl::ops
