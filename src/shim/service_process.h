// One generation of one instance as a process: started, watched, restarted, stopped, adopted.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "shim/backoff.h"
#include "shim/host.h"
#include "shim/log_capture.h"
#include "shim/machine.h"
#include "shim/probe.h"
#include "shim/release_check.h"
#include "shim/spawn.h"

namespace cctl::shim {

class ServiceProcess {
 public:
  using OnStarted = std::function<void(const protocol::StartReply&)>;
  using OnStopped = std::function<void(bool killed)>;

  // `on_ready` comes at each time it becomes ready. `host` and `log` must outlive it, and the
  // state must hold the generation's record as long as this lives.
  // `on_rest` when it has come to rest: stopped or failed.
  ServiceProcess(Host& host, protocol::GenerationSpec spec, LogFile& log,
                 std::function<void(ServiceProcess&)> on_ready, std::function<void()> on_rest);

  // An order. Answered once ready, failed, or stopped by another order.
  void start(OnStarted done);
  // The policy of a boot, or of a shim that finds it gone: like the restart after a crash.
  void startByPolicy();
  // An order. Answered once nothing of it runs; also takes it out of backoff and failed.
  void stop(OnStopped done);
  void restart(OnStarted done);
  // To its main process. False when none runs.
  bool signal(int number);
  // What it told of itself by sd_notify(3).
  void onNotification(const std::map<std::string, std::string>& said);
  // Takes over the process in the record, if it still lives; false when it does not.
  bool adopt();
  // When the process in the record has ended and how is known: the same as if it had been seen to
  // end, the restart by policy included. False when nobody can tell: `last_lines` is what it said
  // at last.
  bool takeMissedExit(std::vector<std::string>& last_lines);

  const protocol::GenerationSpec& spec() const { return spec_; }
  // The next start uses these arguments, environment and files; its ports stay.
  void rerender(protocol::GenerationSpec spec) { spec_ = std::move(spec); }
  protocol::InstanceState state() const { return state_; }
  bool running() const { return pid_ > 0; }
  int pid() const { return pid_; }
  // All but what the supervisor adds: current, wanted.
  protocol::InstanceStatus status() const;

 private:
  using State = protocol::InstanceState;

  void on(ProcessEvent event);
  void enter(State state);

  // Launching.
  void launch();
  void checkSlice();
  void onChecked();
  [[nodiscard]] Result<void> begin();
  // Answers which of its limits came out lower.
  [[nodiscard]] Result<Limits> spawnWithPipes(SpawnRequest& request);
  [[nodiscard]] Result<void> openCapture();
  void makeCapture(LogPipes pipes);
  void closeCapture();
  void watchExit();
  void startProbe();
  void watchLiveness();
  void armWatchdog();
  [[nodiscard]] Result<ProbeTarget> probeTarget(const protocol::Probe& probe) const;
  [[nodiscard]] Result<void> passSockets(SpawnRequest& request);
  Cgroups::Group limitGroup(SpawnRequest& request);
  void noteNotLimited(std::vector<std::string> why, const Limits& lowered);
  std::vector<int> groupMembers() const;
  bool inGroup(int pid) const;
  bool isOurs(int pid) const;
  bool sessionIsOurs(uint64_t member_start_ticks) const;
  std::vector<int> strayed() const;
  std::vector<int> remains() const;
  std::string objectionToReady() const;
  void refuse(std::string problem);
  void becomeReady();
  void becomeUnhealthy();
  void giveUp();

  // Ending.
  void terminate();
  void signalAll(int number);
  void killAll();
  void onProcessEvent();
  void pollExit();
  bool leaderEnded() const;
  bool signalRemains(const std::vector<int>& pids, int number);
  bool killRemains();
  bool remainsMayFinish();
  void collectStatus(protocol::ExitReport& report) const;
  protocol::ExitReport reportExit() const;
  void forgetProcess();
  void onExit(protocol::ExitReport report);
  void rememberExit();
  void died();
  void failFor(std::string why);
  void stopped();

  // Taking over from a supervisor that is gone.
  std::optional<ProcessRecord> newestProcess() const;
  void settleOlder(const ProcessRecord& newest);
  void takeOver(const ProcessRecord& process);
  void takeOverPipes(const ProcessRecord& process);

  void answerStart();
  void answerStop();
  void record(protocol::EventKind kind, std::string text,
              std::optional<protocol::ExitReport> exit = std::nullopt);
  GenerationRecord& memory() const;
  protocol::InstanceRef ref() const { return {spec_.service, spec_.index}; }

  Host& host_;
  protocol::GenerationSpec spec_;
  LogFile& log_;
  std::function<void(ServiceProcess&)> on_ready_;
  std::function<void()> on_rest_;
  const std::string name_;

  State state_ = State::kStopped;
  WallTime since_{};
  Backoff backoff_;
  std::vector<OnStarted> starters_;
  std::vector<OnStopped> stoppers_;
  bool start_after_stop_ = false;
  // The stop under way is the shim's own: of a start that took too long, or of an unhealthy
  // process.
  bool given_up_ = false;
  std::string stopped_for_;   // of this run: why
  bool crash_loop_ = false;   // what is being recorded is the end of one
  bool killed_ = false;       // the grace ran out
  bool killed_main_ = false;  // for the main process
  bool told_remains_ = false;
  SteadyTime ordered_at_{};

  std::unique_ptr<ReleaseCheck> check_;
  std::unique_ptr<ReadinessProbe> probe_;
  std::unique_ptr<LivenessProbe> liveness_;
  Timer watchdog_;
  std::unique_ptr<LogCapture> capture_;
  Timer timer_;  // start time-out, backoff or grace, by state
  Timer poll_;

  int pid_ = 0;
  uint64_t start_ticks_ = 0;
  uint64_t seen_ticks_ = 0;  // when its session was last known to be its own; of adopted ones
  bool own_child_ = false;
  bool under_anchor_ = false;  // what it leaves behind becomes a child of the anchor
  int remains_seen_ = 0;
  Fd pidfd_;
  Watch watch_;
  WallTime started_{};
  SteadyTime ready_at_{};

  std::string problem_;
  std::string health_answer_;
  std::string status_text_;
  std::vector<std::string> not_limited_;
  std::vector<std::string> port_taken_;
  std::optional<protocol::ExitReport> last_exit_;
  // Outlived by callbacks that are posted to the loop.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// "service/index/generation": in the slots of Survivors and for moves of lines.
std::string processName(const protocol::InstanceRef& ref, int generation);
// What the environment of each process has that the shim of this ROOT has begun.
std::string markOf(const std::string& root);
// The same as processName() from what a process has in its environment.
std::string nameByEnvironment(const std::vector<std::string>& environment);
// Under which name its log pipes are kept in the FdStore.
std::string parkedPipes(const std::string& process_name);

// "exit status 3", "signal 11 (SEGV), core dumped", "ended; its status is not known".
std::string describeExit(const protocol::ExitReport& report);

}  // namespace cctl::shim
