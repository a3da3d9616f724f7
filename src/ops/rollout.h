// Carries out a plan, step by step, and puts everything back when a step fails.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <vector>

#include "model/plan.h"
#include "ops/lock.h"
#include "ops/operation.h"
#include "ops/probe.h"

namespace cctl::ops {

// Why an instance is not as wanted, with all that its host could tell.
struct InstanceFailure {
  InstanceId id;
  HostName host;
  std::string problem;
  std::string health_answer;
  std::optional<protocol::ExitReport> exit;
  bool unreachable = false;  // its host could not be asked: it counts for max_unreachable
};

struct RolloutInput {
  const Inventory* inventory = nullptr;  // that generations are rendered from
  const Manifest* manifest = nullptr;
  Version version;
  std::string release_digest;
  size_t unreachable_before = 0;  // hosts that were left out from the start
  size_t most_unreachable = 0;    // hosts that may be out of reach, those included
  // False: what has failed is put back by itself, the others of its wave are brought to their end,
  // and there it stops.
  bool roll_back = true;
  // An earlier run of the same roll-out did not end: what it started is observed as well.
  bool goes_on = false;
  // Called with the reason before anything is put back; what it needs is still there.
  std::function<void(const Error&)> before_undo;
};

class Rollout {
 public:
  Rollout(Operation& operation, RolloutInput input, const Lease& lease)
      : operation_(operation), input_(std::move(input)), lease_(lease) {}

  // Blocks until the plan is done or put back. Instances that fail and hosts that are lost within
  // the budgets of `upgrade` are put back by themselves and left out; failures() has them.
  // kRolledBack: all is as before. kPartial: it could not all be put back; the text says what is
  // where. kCancelled: the wave under way was put back, earlier ones stay. kFailed: it stopped
  // without a roll-back, as asked.
  [[nodiscard]] Result<void> run(const Plan& plan);

  struct NewGeneration {
    HostName host;
    int generation = 0;
    Version version;
    std::map<std::string, int> ports;
  };
  const std::vector<InstanceFailure>& failures() const { return failures_; }
  // What runs now by this roll-out.
  const std::map<InstanceId, NewGeneration>& started() const { return started_; }
  // Hosts that were lost on the way.
  const std::set<HostName>& lost() const { return lost_; }

 private:
  struct Attempt {
    Placed placed;
    std::optional<NewGeneration> started;
    std::optional<InstanceFailure> failure;
  };

  [[nodiscard]] Result<void> runWave(const Wave& wave);
  [[nodiscard]] Result<void> runStep(const Step& step);
  [[nodiscard]] Result<void> stopShort(const Error& cause, size_t begun_with);
  // What becomes of instances that failed in the wave under way: an error when a budget is spent.
  [[nodiscard]] Result<void> settle(std::vector<InstanceFailure> failures);
  [[nodiscard]] std::optional<Error> spentBudget() const;
  void putBackAlone(const std::set<InstanceId>& ids);
  [[nodiscard]] Result<void> observeKept(const std::vector<ObservedInstance>& kept);
  [[nodiscard]] Result<void> publishKept(const std::vector<ObservedInstance>& kept);
  [[nodiscard]] Result<Endpoint> endpointOf(const InstanceId& id, const NewGeneration& running);
  [[nodiscard]] Result<void> stopStrays(const std::vector<OldGeneration>& strays);

  [[nodiscard]] Result<void> execute(const StartStep& step);
  [[nodiscard]] Result<void> execute(const ObserveStep& step);
  [[nodiscard]] Result<void> execute(const RestartStep& step);
  [[nodiscard]] Result<void> execute(const PublishStep& step);
  [[nodiscard]] Result<void> execute(const WithdrawStep& step);
  [[nodiscard]] Result<void> execute(const DrainStep& step);
  [[nodiscard]] Result<void> execute(const StopStep& step);
  [[nodiscard]] Result<void> execute(const ForgetStep& step);
  [[nodiscard]] Result<void> undo(const StartStep& step);
  [[nodiscard]] Result<void> undo(const PublishStep& step);
  [[nodiscard]] Result<void> undo(const WithdrawStep& step);
  [[nodiscard]] Result<void> undo(const StopStep& step);
  [[nodiscard]] Result<void> undo(const RestartStep& step);
  template <typename NeverUndone>
  [[nodiscard]] Result<void> undo(const NeverUndone&) {
    return {};
  }
  [[nodiscard]] Result<void> undoDownTo(size_t kept);
  void undoStep(const Step& done);

  // Those that do not stand as they should.
  std::vector<InstanceFailure> look(const std::set<InstanceId>& ids);
  std::optional<InstanceFailure> judge(const InstanceId& id, const NewGeneration& running,
                                       const HostReport& report) const;
  bool serves(const Placed& placed);
  Attempt restart(const OldGeneration& old);
  std::vector<OldGeneration> startedOf(const std::vector<InstanceId>& items) const;
  [[nodiscard]] Result<void> takeStarted(std::vector<Attempt> attempts);
  [[nodiscard]] Result<void> settleStops(const std::vector<OldGeneration>& items,
                                         const std::vector<Result<protocol::Empty>>& results);

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
  size_t wave_begun_ = 0;                 // size of done_ when the wave under way began
  std::set<InstanceId> left_out_;         // failed within the budgets
  std::set<InstanceId> down_;             // restarted, and not running again
  std::set<InstanceId> published_still_;  // new ones that could not be withdrawn
  std::set<HostName> lost_;
  std::set<HostName> deaf_;  // did not take names: told at the end, not waited for again
  size_t unhealthy_ = 0;
  std::optional<Error> stopping_;  // a budget is spent and nothing is to be rolled back
  std::vector<InstanceFailure> failures_;
  std::vector<std::string> trouble_;  // what could not be put back
};

}  // namespace cctl::ops
