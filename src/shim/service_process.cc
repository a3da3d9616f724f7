#include "shim/service_process.h"

#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <set>

#include "base/file.h"
#include "model/host_paths.h"
#include "model/secrets.h"
#include "shim/cores.h"
#include "shim/launch.h"
#include "shim/ports.h"
#include "shim/proc.h"

namespace cctl::shim {
namespace {

using protocol::EventKind;
using protocol::ExitReport;
using protocol::InstanceState;
using protocol::RestartWhen;

constexpr std::string_view kInstance = "CLUSTERCTL_INSTANCE=";
constexpr std::string_view kGeneration = "CLUSTERCTL_GENERATION=";
constexpr size_t kCheckSlice = 16u << 20;  // bytes hashed in one turn of the loop
constexpr Millis kExitPoll{50};            // where there are no process descriptors
constexpr Millis kRemainsPoll{5};
constexpr Millis kFinishPoll{20};
constexpr int kMostRounds = 10;          // of one signal to all of a group
constexpr int kMostRemainsChecks = 400;  // what survives KILL for two seconds hangs in the kernel

Millis millisOf(const timeval& time) {
  return Millis(int64_t{time.tv_sec} * 1000 + time.tv_usec / 1000);
}

void noteStatus(int status, ExitReport& report) {
  if (WIFEXITED(status)) report.exit_status = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) {
    report.signal = WTERMSIG(status);
    report.core = WCOREDUMP(status);
  }
}

// linux/pidfd.h of Linux 6.15, which older headers lack.
struct PidfdInfo {
  uint64_t mask = 0;
  uint64_t cgroupid = 0;
  uint32_t pids[3] = {};
  uint32_t ids[8] = {};
  int32_t exit_code = 0;
};
constexpr uint64_t kPidfdInfoExit = 1u << 3;

// How a process that is not our child ended: a zombie's status is in /proc/PID/stat, and after it
// was reaped newer kernels still tell it by the descriptor.
std::optional<int> statusByDescriptor(const Fd& pidfd) {
  PidfdInfo info;
  info.mask = kPidfdInfoExit;
  if (!pidfd || ::ioctl(pidfd.get(), _IOWR(0xFF, 11, PidfdInfo), &info) != 0) return std::nullopt;
  if ((info.mask & kPidfdInfoExit) == 0) return std::nullopt;
  return info.exit_code;
}

std::optional<int> foreignStatus(const Fd& pidfd, int pid, uint64_t start_ticks) {
  const auto stat = readProcStat(pid);
  if (stat && stat->start_ticks == start_ticks && stat->dead()) return stat->exit_code;
  return statusByDescriptor(pidfd);
}

// Not reaped: should the shim be killed before the journal has it, the next one still finds it.
std::optional<int> statusOfZombie(int pid, rusage& usage) {
  siginfo_t info{};
  if (::syscall(SYS_waitid, P_PID, pid, &info, WEXITED | WNOHANG | WNOWAIT, &usage) != 0 ||
      info.si_pid != pid)
    return std::nullopt;
  if (info.si_code == CLD_EXITED) return W_EXITCODE(info.si_status, 0);
  return W_EXITCODE(0, info.si_status) | (info.si_code == CLD_DUMPED ? WCOREFLAG : 0);
}

void reap(int pid) {
  while (::waitpid(pid, nullptr, WNOHANG) < 0 && errno == EINTR) {
  }
}

// Within which a watched service must say WATCHDOG=1.
Millis watchdogTime(const protocol::Liveness& live) { return live.interval * live.failures; }

bool clean(const ExitReport& report) { return report.exit_status == 0; }

}  // namespace

std::string processName(const protocol::InstanceRef& ref, int generation) {
  return fmt::format("{}/{}/{}", ref.service, ref.index, generation);
}

std::string markOf(const std::string& root) {
  return "CLUSTERCTL_NAMING=" + paths::namingSocket(root);
}

std::string nameByEnvironment(const std::vector<std::string>& environment) {
  std::string instance;
  std::string generation;
  for (const std::string& variable : environment) {
    if (variable.starts_with(kInstance)) instance = variable.substr(kInstance.size());
    if (variable.starts_with(kGeneration)) generation = variable.substr(kGeneration.size());
  }
  return instance + "/" + generation;
}

std::string parkedPipes(const std::string& process_name) { return "log:" + process_name; }

static std::string describeEnd(const ExitReport& report) {
  if (report.exit_status) return fmt::format("exit status {}", *report.exit_status);
  if (!report.signal) return "ended; its status is not known";
  const char* name = ::sigabbrev_np(*report.signal);
  return fmt::format("signal {} ({}){}", *report.signal, name ? name : "?",
                     report.core ? ", core dumped" : "");
}

std::string describeExit(const ExitReport& report) {
  const std::string end = describeEnd(report);
  return report.stopped_for.empty()
             ? end
             : fmt::format("{}, stopped by the shim: {}", end, report.stopped_for);
}

ServiceProcess::ServiceProcess(Host& host, protocol::GenerationSpec spec, LogFile& log,
                               std::function<void(ServiceProcess&)> on_ready,
                               std::function<void()> on_rest)
    : host_(host),
      spec_(std::move(spec)),
      log_(log),
      on_ready_(std::move(on_ready)),
      on_rest_(std::move(on_rest)),
      name_(processName(ref(), spec_.generation)),
      since_(host.loop.clock().wall()),
      backoff_(spec_.restart) {
  const GenerationRecord& memo = memory();
  if (!memo.last_exit.isNull())
    if (auto report = protocol::decodeReply<ExitReport>(memo.last_exit.text)) last_exit_ = *report;
  if (memo.failure.empty()) return;
  state_ = State::kFailed;
  since_ = memo.since;
  problem_ = memo.failure;
}

GenerationRecord& ServiceProcess::memory() const {
  return *host_.state.find(ref())->find(spec_.generation);
}

void ServiceProcess::record(EventKind kind, std::string text, std::optional<ExitReport> exit) {
  protocol::Event event;
  event.kind = kind;
  event.service = spec_.service;
  event.index = spec_.index;
  event.generation = spec_.generation;
  event.version = spec_.version;
  event.pid = pid_ > 0 ? pid_ : (exit ? exit->pid : 0);
  event.text = std::move(text);
  // The stop after a start that took too long is none: it is told as a failure.
  if (kind == EventKind::kExit && state_ != State::kStopping)
    event.alert = protocol::AlertKind::kCrash;
  if (kind == EventKind::kUnhealthy) event.alert = protocol::AlertKind::kUnhealthy;
  if (kind == EventKind::kFailed && crash_loop_) event.alert = protocol::AlertKind::kCrashLoop;
  event.exit = std::move(exit);
  host_.journal.append(std::move(event));
}

void ServiceProcess::enter(State state) {
  state_ = state;
  since_ = host_.loop.clock().wall();
  timer_.reset();
  if (host_.on_state_change) host_.on_state_change(ref());
  GenerationRecord& memo = memory();
  memo.since = since_;
  if (state != State::kFailed) memo.failure.clear();
  if (state != State::kReady && state != State::kUnhealthy) {
    liveness_.reset();
    watchdog_.reset();
  }
  if (state != State::kFailed && state != State::kStopped) return;
  closeCapture();
  if (spec_.limit_memory || spec_.limit_cpu) host_.cgroups.remove(name_);
  if (!start_after_stop_) on_rest_();
  host_.state.touch();
}

// ---- the table's cells -------------------------------------------------------------------------

void ServiceProcess::on(ProcessEvent event) {
  switch (actionFor(state_, event)) {
    case ProcessAction::kIgnore:
    case ProcessAction::kJoin:
      return;
    case ProcessAction::kLaunch:
      return launch();
    case ProcessAction::kAlready:
      return event == ProcessEvent::kStart ? answerStart() : answerStop();
    case ProcessAction::kTerminate:
      return terminate();
    case ProcessAction::kKill:
      return killAll();
    case ProcessAction::kStartAfter:
      start_after_stop_ = true;
      return;
    case ProcessAction::kStopped:
      return stopped();
    case ProcessAction::kDied:
      return died();
    case ProcessAction::kBecomeReady:
      return becomeReady();
    case ProcessAction::kBecomeUnhealthy:
      return becomeUnhealthy();
    case ProcessAction::kGiveUp:
      return giveUp();
    case ProcessAction::kRest:
      enter(State::kStopped);
      return answerStop();
  }
}

// ---- orders ------------------------------------------------------------------------------------

void ServiceProcess::start(OnStarted done) {
  if (starters_.empty()) ordered_at_ = host_.loop.now();
  starters_.push_back(std::move(done));
  if (state_ != State::kStarting && state_ != State::kStopping && !running()) {
    backoff_.reset();
    memory().restarts = 0;
  }
  memory().up = true;
  on(ProcessEvent::kStart);
}

void ServiceProcess::startByPolicy() { on(ProcessEvent::kStart); }

void ServiceProcess::stop(OnStopped done) {
  stoppers_.push_back(std::move(done));
  start_after_stop_ = false;
  memory().up = false;
  host_.state.touch();
  on(ProcessEvent::kStop);
}

void ServiceProcess::restart(OnStarted done) {
  if (!running() && state_ != State::kStarting) return start(std::move(done));
  ordered_at_ = host_.loop.now();
  starters_.push_back(std::move(done));
  start_after_stop_ = true;
  memory().up = true;
  on(ProcessEvent::kStop);
}

bool ServiceProcess::signal(int number) { return running() && signalProcess(pidfd_, pid_, number); }

void ServiceProcess::answerStart() {
  protocol::StartReply reply;
  reply.state = state_;
  reply.generation = spec_.generation;
  reply.pid = pid_;
  reply.took = std::chrono::duration_cast<Millis>(host_.loop.now() - ordered_at_);
  if (state_ != State::kReady) {
    reply.problem = problem_;
    reply.health_answer = health_answer_;
    reply.port_taken = port_taken_;
    reply.exit = last_exit_;
  }
  for (const OnStarted& done : std::exchange(starters_, {})) done(reply);
}

void ServiceProcess::answerStop() {
  for (const OnStopped& done : std::exchange(stoppers_, {})) done(killed_main_);
}

// ---- launching ---------------------------------------------------------------------------------

void ServiceProcess::launch() {
  enter(State::kStarting);
  problem_.clear();
  health_answer_.clear();
  port_taken_.clear();
  auto release = host_.store.share(spec_.service, spec_.version);
  if (!release)
    return refuse(fmt::format("{} {} is not installed on this host", spec_.service, spec_.version));
  if (release->digest != spec_.release_digest)
    return refuse(fmt::format("{} {} is installed with another digest than generation {} names",
                              spec_.service, spec_.version, spec_.generation));
  const std::string dir = host_.store.dirOf(*release);
  check_ = std::make_unique<ReleaseCheck>(dir, std::move(release), &host_.store.cache());
  checkSlice();
}

// The first slice at once: a restart, whose files are known, goes through without a detour.
void ServiceProcess::checkSlice() {
  if (check_->step(kCheckSlice)) return onChecked();
  host_.loop.soon([this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired() && check_) checkSlice();
  });
}

void ServiceProcess::onChecked() {
  const auto check = std::move(check_);
  if (!check->problems().empty()) {
    std::string text = fmt::format("{} {} is not what was installed: {}", spec_.service,
                                   spec_.version, check->problems().front());
    if (check->problems().size() > 1)
      text += fmt::format(" and {} more", check->problems().size() - 1);
    record(EventKind::kRefused, text);
    return refuse(std::move(text));
  }
  auto own = spec_.ports;
  for (const std::string& name : spec_.sockets) own.erase(name);  // those the shim holds itself
  port_taken_ = takenPorts(own);
  if (!port_taken_.empty())
    return refuse(fmt::format("port {} ({}) is held by another process",
                              spec_.ports.at(port_taken_.front()), port_taken_.front()));
  if (auto begun = begin(); !begun) refuse(begun.error().message);
}

Result<void> ServiceProcess::begin() {
  CCTL_TRY(LaunchPlan plan, planLaunch(host_, spec_, spec_.argv));
  if (!plan.unverified.empty())
    record(EventKind::kStart,
           fmt::format("{} is not part of the release: unverified", plan.unverified));
  plan.request.addOwnPid(kMainPid);
  CCTL_CHECK(passSockets(plan.request));
  const Cgroups::Group group = limitGroup(plan.request);
  CCTL_TRY(const Limits lowered, spawnWithPipes(plan.request));
  noteNotLimited(group.not_applied, lowered);
  watchExit();
  record(EventKind::kStart,
         hideSecrets(fmt::format("started {}", fmt::join(spec_.argv, " ")), spec_.secrets));
  timer_ = host_.loop.after(spec_.start_timeout, [this] { on(ProcessEvent::kTimeout); });
  startProbe();
  return {};
}

// What the host cannot apply does not keep the service down; it is said at its first start.
void ServiceProcess::noteNotLimited(std::vector<std::string> why, const Limits& lowered) {
  for (size_t i = 0; i < lowered.size(); ++i)
    if (lowered[i])
      why.push_back(fmt::format("{}: {} at most, the hard limit of the shim",
                                limitName(static_cast<Limit>(i)), *lowered[i]));
  if (not_limited_ != why && !why.empty())
    record(EventKind::kStart, fmt::format("not limited: {}", fmt::join(why, "; ")));
  not_limited_ = std::move(why);
}

Cgroups::Group ServiceProcess::limitGroup(SpawnRequest& request) {
  const CgroupLimits limits{spec_.limit_memory, spec_.limit_cpu};
  if (!limits.any()) return {};
  Cgroups::Group group = host_.cgroups.make(name_, limits);
  for (const Fd& file : group.join) request.cgroup_fds.push_back(file.get());
  return group;
}

std::vector<int> ServiceProcess::groupMembers() const {
  return spec_.limit_memory || spec_.limit_cpu ? host_.cgroups.members(name_) : std::vector<int>();
}

bool ServiceProcess::inGroup(int pid) const {
  const std::vector<int> pids = groupMembers();
  return std::find(pids.begin(), pids.end(), pid) != pids.end();
}

// Of this run, by its session, its control group, or, where it has left both, by its environment.
bool ServiceProcess::isOurs(int pid) const {
  const auto stat = readProcStat(pid);
  if (!stat || stat->dead()) return false;
  if (stat->session == pid_ && sessionIsOurs(stat->start_ticks)) return true;
  if (inGroup(pid)) return true;
  const std::vector<std::string> environment = environmentOf(pid);
  return nameByEnvironment(environment) == name_ &&
         std::find(environment.begin(), environment.end(), markOf(host_.root)) != environment.end();
}

// The number of a session is given out again once the leader is reaped and the last member gone.
// One that is older than our last look at it was in it then: nobody joins a session but by fork.
bool ServiceProcess::sessionIsOurs(uint64_t member_start_ticks) const {
  if (own_child_) return true;  // not reaped
  const auto leader = readProcStat(pid_);
  if (leader) return leader->start_ticks == start_ticks_;
  return member_start_ticks < seen_ticks_;
}

// Of what has begun a session of its own only the parent's end tells: then the anchor has it.
std::vector<int> ServiceProcess::strayed() const {
  std::vector<int> pids;
  const auto children = under_anchor_ ? childrenOf(host_.anchor) : std::nullopt;
  for (const int child : children ? *children : std::vector<int>())
    if (child != ::getpid() && child != pid_ && !host_.survivors.holds(child) && isOurs(child))
      pids.push_back(child);
  return pids;
}

// Orphans are looked for among the anchor's children only where they surely go there: not those of
// a process whose first anchor was killed.
std::vector<int> ServiceProcess::remains() const {
  if (under_anchor_ && ::getppid() == host_.anchor && childrenOf(host_.anchor)) {
    std::vector<int> pids = strayed();
    for (const int pid : groupMembers())
      if (pid != pid_ && std::find(pids.begin(), pids.end(), pid) == pids.end())
        pids.push_back(pid);
    return pids;
  }
  std::vector<int> pids = sessionMembers(pid_, start_ticks_);
  for (const int pid : groupMembers())
    if (pid != pid_) pids.push_back(pid);
  return pids;
}

Result<Limits> ServiceProcess::spawnWithPipes(SpawnRequest& request) {
  CCTL_CHECK(openCapture());
  capture_->beginRun();
  request.out_fd = capture_->out().write.get();
  request.err_fd = capture_->err().write.get();
  started_ = host_.loop.clock().wall();
  request.hurry = true;
  PidSlot* slot = host_.survivors.slot(name_);
  CCTL_TRY(Spawned child, spawn(request, slot ? &slot->pid : nullptr));
  pid_ = child.pid;
  start_ticks_ = child.start_ticks;
  pidfd_ = std::move(child.pidfd);
  host_.loop.atTurnEnd([pid = pid_] { endHurry(pid); });
  own_child_ = true;
  under_anchor_ = true;
  killed_ = killed_main_ = told_remains_ = false;
  stopped_for_.clear();
  remains_seen_ = 0;
  memory().process = ProcessRecord{pid_,  start_ticks_,          started_,
                                   false, capture_->out().inode, capture_->err().inode};
  host_.state.touch();
  return child.lowered;
}

// The pipes outlive every run of this generation, and the supervisor.
Result<void> ServiceProcess::openCapture() {
  if (capture_) return {};
  LogPipes pipes;
  CCTL_TRY(pipes.out, LogPipe::make());
  CCTL_TRY(pipes.err, LogPipe::make());
  // Not kept: a supervisor that takes over finds them by the process, as long as that lives.
  [[maybe_unused]] const auto parked = host_.fds.park(
      parkedPipes(name_),
      {pipes.out.read.get(), pipes.out.write.get(), pipes.err.read.get(), pipes.err.write.get()});
  makeCapture(std::move(pipes));
  return {};
}

void ServiceProcess::makeCapture(LogPipes pipes) {
  capture_ = std::make_unique<LogCapture>(host_.loop, host_.mover, log_, name_, std::move(pipes));
}

void ServiceProcess::closeCapture() {
  if (!capture_) return;
  capture_->drain();
  capture_.reset();
  host_.fds.drop(parkedPipes(name_));
}

// Without a descriptor, what becomes of the shim's own children is told by SIGCHLD, the anchor's
// passed on; of what came from a pair before this one nobody tells.
void ServiceProcess::watchExit() {
  const auto look = [this](uint32_t) { onProcessEvent(); };
  if (pidfd_) watch_ = host_.loop.watch(pidfd_.get(), EPOLLIN, look);
  if (watch_) return;
  watch_ = host_.loop.watchChildren(look);
  if (!own_child_ && !under_anchor_) pollExit();
}

Result<ProbeTarget> ServiceProcess::probeTarget(const protocol::Probe& probe) const {
  ProbeTarget target;
  target.probe = probe;
  if (const auto port = spec_.ports.find(probe.port); port != spec_.ports.end())
    target.port = port->second;
  target.addresses = {"127.0.0.1", "::1"};
  if (!host_.identity.advertise.empty()) target.addresses.push_back(host_.identity.advertise);
  if (probe.kind != protocol::ProbeKind::kExec) return target;
  CCTL_TRY(LaunchPlan plan, planLaunch(host_, spec_, probe.argv));
  target.command = std::move(plan.request);
  target.command.env.push_back(fmt::format("{}={}", kMainPid, pid_));
  target.command.exe_fd = -1;  // by path: it runs many times
  return target;
}

void ServiceProcess::startProbe() {
  auto target = probeTarget(spec_.ready);
  if (!target) {
    health_answer_ = target.error().message;
    return;  // never ready: the start time-out says so
  }
  probe_ = std::make_unique<ReadinessProbe>(
      host_.loop, std::move(*target), [this] { return objectionToReady(); },
      [this] { on(ProcessEvent::kReady); });
}

void ServiceProcess::watchLiveness() {
  if (!spec_.live) return;
  if (spec_.live->probe.kind == protocol::ProbeKind::kNotify) return armWatchdog();
  auto target = probeTarget(spec_.live->probe);
  if (!target) return record(EventKind::kUnhealthy, target.error().message);
  target->attempt_timeout = spec_.live->timeout;
  liveness_ = std::make_unique<LivenessProbe>(
      host_.loop, std::move(*target), spec_.live->interval, spec_.live->failures,
      [this](bool healthy, const std::string& answer) {
        health_answer_ = answer;
        on(healthy ? ProcessEvent::kReady : ProcessEvent::kUnhealthy);
      });
}

void ServiceProcess::armWatchdog() {
  watchdog_ = host_.loop.after(watchdogTime(*spec_.live), [this] {
    health_answer_ =
        fmt::format("no WATCHDOG=1 within {}", humanDuration(watchdogTime(*spec_.live)));
    on(ProcessEvent::kUnhealthy);
  });
}

void ServiceProcess::onNotification(const std::map<std::string, std::string>& said) {
  const auto value = [&](const char* key) {
    const auto found = said.find(key);
    return found == said.end() ? std::string() : found->second;
  };
  if (said.count("STATUS") > 0) status_text_ = value("STATUS").substr(0, 500);
  const bool watched = spec_.live && spec_.live->probe.kind == protocol::ProbeKind::kNotify;
  const bool running_well = state_ == State::kReady || state_ == State::kUnhealthy;
  if (watched && running_well && value("WATCHDOG") == "1") {
    if (state_ == State::kUnhealthy) on(ProcessEvent::kReady);
    armWatchdog();
  }
  if (watched && state_ == State::kReady && value("WATCHDOG") == "trigger") {
    health_answer_ = "it asked for it by WATCHDOG=trigger";
    on(ProcessEvent::kUnhealthy);
  }
  if (value("STOPPING") == "1") watchdog_.reset();
  if (value("READY") == "1" && state_ == State::kStarting &&
      spec_.ready.kind == protocol::ProbeKind::kNotify)
    on(ProcessEvent::kReady);
}

// LISTEN_FDS and LISTEN_FDNAMES as sd_listen_fds(3) wants them; the child puts in its own pid.
Result<void> ServiceProcess::passSockets(SpawnRequest& request) {
  if (spec_.sockets.empty()) return {};
  std::string names;
  for (const std::string& name : spec_.sockets) {
    CCTL_TRY(const int fd, host_.sockets.listen({ref(), name}, spec_.ports.at(name)));
    request.socket_fds.push_back(fd);
    names += (names.empty() ? "" : ":") + name;
  }
  request.env.push_back(fmt::format("LISTEN_FDS={}", spec_.sockets.size()));
  request.env.push_back("LISTEN_FDNAMES=" + names);
  request.addOwnPid("LISTEN_PID");
  return {};
}

std::string ServiceProcess::objectionToReady() const {
  const auto port = spec_.ports.find(spec_.ready.port);
  if (spec_.ready.kind == protocol::ProbeKind::kExec || port == spec_.ports.end()) return {};
  return foreignListener(pid_, start_ticks_, port->second);
}

void ServiceProcess::refuse(std::string problem) {
  problem_ = std::move(problem);
  on(ProcessEvent::kNoLaunch);
}

void ServiceProcess::becomeReady() {
  probe_.reset();
  if (state_ == State::kUnhealthy) {
    enter(State::kReady);
    return record(EventKind::kHealthy, "healthy again: " + health_answer_);
  }
  enter(State::kReady);
  watchLiveness();
  ready_at_ = host_.loop.now();
  GenerationRecord& memo = memory();
  memo.was_ready = true;
  if (memo.process) memo.process->ready = true;
  host_.state.touch();  // nobody says READY=1 to the next supervisor again
  record(EventKind::kReady,
         fmt::format("ready after {}", humanDuration(std::chrono::duration_cast<Millis>(
                                           host_.loop.clock().wall() - started_))));
  on_ready_(*this);
  answerStart();
}

// With `restart: never` it is only said: the probe goes on, and may find it healthy again.
void ServiceProcess::becomeUnhealthy() {
  const std::string why = fmt::format("unhealthy: {}", health_answer_);
  record(EventKind::kUnhealthy, health_answer_);
  enter(State::kUnhealthy);
  if (spec_.restart.when == RestartWhen::kNever) return;
  problem_ = why;
  stopped_for_ = "its liveness check failed: " + health_answer_;
  given_up_ = true;
  terminate();
}

void ServiceProcess::giveUp() {
  if (probe_) health_answer_ = probe_->lastAnswer();
  for (const auto& [name, port] : spec_.ports)
    if (!foreignListener(pid_, start_ticks_, port).empty()) port_taken_.push_back(name);
  problem_ = fmt::format("not ready within {}", formatDuration(spec_.start_timeout));
  if (!health_answer_.empty()) problem_ += "; its probe last saw: " + health_answer_;
  stopped_for_ = problem_;
  given_up_ = true;
  record(EventKind::kStop, problem_);
  terminate();
}

// ---- ending ------------------------------------------------------------------------------------

void ServiceProcess::terminate() {
  probe_.reset();
  check_.reset();
  enter(State::kStopping);
  if (!running()) return on(ProcessEvent::kExit);  // its files were still being checked
  signalAll(spec_.stop_signal);
  signalAll(SIGCONT);  // a stopped process would not see it
  timer_ = host_.loop.after(spec_.stop_grace, [this] { on(ProcessEvent::kTimer); });
}

// A leader that is no child of ours may be reaped at any moment, and its number given to another
// group. Where its descriptor cannot speak for the group, each member is told by a descriptor of
// its own, looked at once that holds it; those that are begun meanwhile in another round. Below
// Linux 5.3 there are none: the look comes right before the signal, and numbers go round.
void ServiceProcess::signalAll(int number) {
  if (own_child_) {
    signalOwnGroup(pid_, number);
    return;
  }
  if (signalGroup(pidfd_, number)) return;
  std::set<int> told;
  for (int round = 0; round < kMostRounds; ++round) {
    std::vector<int> untold;
    for (const int pid : sessionMembers(pid_, start_ticks_))
      if (const auto stat = readProcStat(pid);
          stat && stat->group == pid_ && told.insert(pid).second)
        untold.push_back(pid);
    if (!signalRemains(untold, number)) return;
  }
}

void ServiceProcess::killAll() {
  killed_ = true;
  killed_main_ = !leaderEnded();
  record(EventKind::kStop,
         fmt::format("{} after {}: killed",
                     killed_main_ ? "still running"
                                  : "it has ended, but what it had started was still running",
                     formatDuration(spec_.stop_grace)));
  if (!killed_main_) return onProcessEvent();
  signalAll(SIGKILL);
}

void ServiceProcess::pollExit() {
  poll_ = host_.loop.after(kExitPoll, [this] {
    pollExit();  // first: what the event does counts
    onProcessEvent();
  });
}

// The leader's pid is still ours (a zombie), or no longer anybody's session.
bool ServiceProcess::leaderEnded() const {
  if (!own_child_) return !aliveProcess(pid_, start_ticks_);
  siginfo_t info{};
  if (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0)
    return !aliveProcess(pid_, start_ticks_);
  return info.si_pid != 0;
}

// True when there was anybody to send it to.
bool ServiceProcess::signalRemains(const std::vector<int>& pids, int number) {
  bool any = false;
  for (const int member : pids) {
    const Fd handle = openPidfd(member);
    if (!isOurs(member)) continue;  // again, now that the descriptor pins it
    signalProcess(handle, member, number);
    any = true;
  }
  return any;
}

// What it left behind would hold its ports. True while any of it lives.
bool ServiceProcess::killRemains() {
  if (own_child_) signalOwnGroup(pid_, SIGKILL);
  return signalRemains(remains(), SIGKILL);
}

// The main process has ended as it was told to; the others have what is left of the grace: a shell
// in front of a server ends long before the server has answered its last request. What is not in
// the process group has not been told yet.
bool ServiceProcess::remainsMayFinish() {
  if (state_ != State::kStopping || killed_) return false;
  const std::vector<int> left = remains();
  if (left.empty()) return false;
  if (std::exchange(told_remains_, true)) return true;
  std::vector<int> untold;
  for (const int pid : left)
    if (const auto stat = readProcStat(pid); stat && stat->group != pid_) untold.push_back(pid);
  signalRemains(untold, spec_.stop_signal);
  return true;
}

void ServiceProcess::collectStatus(ExitReport& report) const {
  rusage usage{};
  if (const auto status = own_child_ ? statusOfZombie(pid_, usage) : std::nullopt) {
    noteStatus(*status, report);
    report.cpu_user = millisOf(usage.ru_utime);
    report.cpu_system = millisOf(usage.ru_stime);
    report.max_rss = static_cast<uint64_t>(usage.ru_maxrss) * 1024;
    return;
  }
  const auto known = foreignStatus(pidfd_, pid_, start_ticks_);
  const auto record = host_.exits.find(pid_, start_ticks_);
  if (known) noteStatus(*known, report);
  if (!record) return;
  if (!known) noteStatus(record->status, report);
  report.cpu_user = Millis(record->cpu_user_ms);
  report.cpu_system = Millis(record->cpu_system_ms);
  report.max_rss = record->max_rss;
}

void ServiceProcess::onProcessEvent() {
  if (!running() || !leaderEnded()) return;
  watch_.reset();  // it would go on telling
  if (remainsMayFinish()) {
    poll_ = host_.loop.after(kFinishPoll, [this] { onProcessEvent(); });
    return;
  }
  if (killRemains() && ++remains_seen_ < kMostRemainsChecks) {
    poll_ = host_.loop.after(kRemainsPoll, [this] { onProcessEvent(); });
    return;
  }
  onExit(reportExit());
}

ExitReport ServiceProcess::reportExit() const {
  ExitReport report;
  report.pid = pid_;
  report.start_ticks = start_ticks_;
  report.release_digest = spec_.release_digest;
  report.at = host_.loop.clock().wall();
  report.uptime = std::max(Millis(0), std::chrono::duration_cast<Millis>(report.at - started_));
  report.restarts = memory().restarts;
  report.stopped_for = stopped_for_;
  collectStatus(report);
  return report;
}

void ServiceProcess::forgetProcess() {
  watch_.reset();
  poll_.reset();
  probe_.reset();
  pidfd_.reset();
  if (own_child_) host_.loop.atTurnEnd([pid = pid_] { reap(pid); });
  if (PidSlot* slot = host_.survivors.slot(name_)) slot->pid = 0;
  pid_ = 0;
  status_text_.clear();
  memory().process.reset();
  host_.state.touch();
}

void ServiceProcess::onExit(ExitReport report) {
  if (capture_) {
    capture_->drain();
    report.last_lines = capture_->lastLines();
  }
  if (probe_) health_answer_ = probe_->lastAnswer();
  if (state_ == State::kReady || state_ == State::kUnhealthy)
    backoff_.wasReadyFor(std::chrono::duration_cast<Millis>(host_.loop.now() - ready_at_));
  if (report.core)
    report.core_file = collectCore(
        host_.root, readCorePattern(),
        {ref(), spec_.version, report.pid, report.signal.value_or(0), started_, report.at});
  last_exit_ = report;
  rememberExit();
  if (state_ != State::kStopping)
    problem_ = fmt::format("{} after {}", describeExit(report), humanDuration(report.uptime));
  // The last supervisor may have come as far as this, and no further.
  if (own_child_ || !host_.journal.tellsExitOf(report.pid, report.start_ticks))
    record(EventKind::kExit, describeExit(report), report);
  // Nothing else tells of a process that was found to have ended and that the state does not know:
  // the next one takes its place.
  if (!own_child_) host_.journal.flush();
  forgetProcess();  // after the record: it is reaped once the journal is written
  on(ProcessEvent::kExit);
}

// With the turn, before the state is written: the restart goes first.
void ServiceProcess::rememberExit() {
  host_.loop.atTurnEnd([this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) memory().last_exit.text = protocol::encodeReply(*last_exit_);
  });
}

void ServiceProcess::failFor(std::string why) {
  enter(State::kFailed);
  GenerationRecord& memo = memory();
  memo.up = false;
  memo.failure = why;
  record(EventKind::kFailed, std::move(why));
}

// Its process ended, or could not be begun, and nobody had asked for that.
void ServiceProcess::died() {
  check_.reset();
  const bool never_ready = !memory().was_ready;
  const RestartWhen when = spec_.restart.when;
  const bool ended_well = last_exit_ && clean(*last_exit_) && !given_up_;
  given_up_ = false;
  if (never_ready) {
    failFor(problem_);
  } else if (when == RestartWhen::kNever || (when == RestartWhen::kOnFailure && ended_well)) {
    memory().up = false;
    if (ended_well)
      enter(State::kStopped);
    else
      failFor(problem_);
  } else if (const auto delay = backoff_.next(host_.loop.now()); !delay) {
    crash_loop_ = true;
    failFor(fmt::format("crash loop: more than {} restarts in {}; last: {}",
                        spec_.restart.limit_count, formatDuration(spec_.restart.limit_window),
                        problem_));
    crash_loop_ = false;
  } else {
    ++memory().restarts;
    enter(State::kBackoff);
    if (delay->count() > 0) {
      record(EventKind::kBackoff, fmt::format("restart in {}", humanDuration(*delay)));
      timer_ = host_.loop.after(*delay, [this] { on(ProcessEvent::kTimer); });
    }
    answerStart();
    if (delay->count() == 0) on(ProcessEvent::kTimer);
    return;
  }
  answerStart();
}

void ServiceProcess::stopped() {
  if (std::exchange(given_up_, false)) {
    if (stoppers_.empty() && !start_after_stop_) {
      given_up_ = true;
      return died();
    }
  }
  enter(State::kStopped);
  answerStop();
  if (std::exchange(start_after_stop_, false)) {
    backoff_.reset();
    memory().restarts = 0;
    return launch();
  }
  if (starters_.empty()) return;
  problem_ = "stopped by another order before it was ready";
  answerStart();
}

// ---- adoption ----------------------------------------------------------------------------------

// Its pipes as they were kept, or else as the process has them.
void ServiceProcess::takeOverPipes(const ProcessRecord& process) {
  LogPipes pipes;
  std::vector<Fd> kept = host_.fds.take(parkedPipes(name_));
  if (kept.size() == 4) {
    auto out = LogPipe::of(std::move(kept[0]), std::move(kept[1]));
    auto err = LogPipe::of(std::move(kept[2]), std::move(kept[3]));
    if (out && err) return makeCapture({std::move(*out), std::move(*err)});
  }
  auto out = LogPipe::ofProcess(process.pid, 1, process.out_pipe);
  auto err = LogPipe::ofProcess(process.pid, 2, process.err_pipe);
  if (out && err) makeCapture({std::move(*out), std::move(*err)});
}

void ServiceProcess::takeOver(const ProcessRecord& process) {
  pid_ = process.pid;
  start_ticks_ = process.start_ticks;
  started_ = process.started;
  takeOverPipes(process);
  if (!capture_) return;
  if (const auto move = host_.mover.unfinished(); move && move->name == name_)
    capture_->finishMove(*move);
  capture_->resumeRun(started_);
}

// A process that the last supervisor began and had no time to write down. Its pid is in the slot,
// where the kernel put it; that it is still the same one, its parent and environment tell.
std::optional<ProcessRecord> ServiceProcess::newestProcess() const {
  const std::optional<ProcessRecord> known = memory().process;
  const int pid = host_.survivors.pidOf(name_);
  if (pid == 0 || (known && known->pid == pid)) return known;
  const WallTime now = host_.loop.clock().wall();
  const auto stat = readProcStat(pid);
  const bool child = stat && (stat->parent == host_.anchor || stat->parent == ::getpid());
  const bool not_yet_itself = child && (stat->dead() || runsOwnExecutable(pid));
  if (stat && (not_yet_itself || nameByEnvironment(environmentOf(pid)) == name_))
    return ProcessRecord{pid, stat->start_ticks, wallTimeOf(stat->start_ticks, now), false, 0, 0};
  if (const auto exit = host_.exits.findNewest(pid))
    return ProcessRecord{pid, exit->start_ticks, wallTimeOf(exit->start_ticks, now), false, 0, 0};
  // Gone without a trace: it ended when it was nobody's child of ours.
  return ProcessRecord{pid, 0, now, false, 0, 0};
}

// The one that was written down ended before the newest began.
void ServiceProcess::settleOlder(const ProcessRecord& newest) {
  const std::optional<ProcessRecord> older = memory().process;
  if (!older || older->pid == newest.pid) return;
  pid_ = older->pid;
  start_ticks_ = older->start_ticks;
  started_ = older->started;
  own_child_ = under_anchor_ = false;
  killRemains();
  const ExitReport report = reportExit();
  pid_ = 0;
  if (!host_.journal.tellsExitOf(report.pid, report.start_ticks))
    record(EventKind::kExit, describeExit(report), report);
  ++memory().restarts;
}

bool ServiceProcess::adopt() {
  const std::optional<ProcessRecord> process = newestProcess();
  if (!process) return false;
  settleOlder(*process);
  memory().process = process;
  if (!aliveProcess(process->pid, process->start_ticks)) return false;
  Fd handle = openPidfd(process->pid);
  const uint64_t now = ticksNow();
  // Again, now that the descriptor pins it: the pid may have been another's in between.
  const auto stat = aliveProcess(process->pid, process->start_ticks);
  if (!stat) return false;
  takeOver(*process);
  pidfd_ = std::move(handle);
  seen_ticks_ = now;
  endHurry(pid_);
  siginfo_t info{};
  own_child_ = ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0;
  under_anchor_ = own_child_ || stat->parent == host_.anchor;
  if (capture_) {
    memory().process->out_pipe = capture_->out().inode;
    memory().process->err_pipe = capture_->err().inode;
  }
  watchExit();
  record(EventKind::kAdopt, "taken over by a new shim");
  ready_at_ = host_.loop.now();
  enter(process->ready ? State::kReady : State::kStarting);
  for (size_t i = 0; i < spec_.sockets.size(); ++i)
    host_.sockets.recoverFrom({ref(), spec_.sockets[i]}, spec_.ports.at(spec_.sockets[i]),
                              pidfd_.get(), 3 + static_cast<int>(i));
  if (process->ready) watchLiveness();
  since_ = memory().since = process->started;
  if (state_ == State::kReady) return true;
  ordered_at_ = host_.loop.now();
  timer_ = host_.loop.after(spec_.start_timeout, [this] { on(ProcessEvent::kTimeout); });
  startProbe();
  return true;
}

bool ServiceProcess::takeMissedExit(std::vector<std::string>& last_lines) {
  const std::optional<ProcessRecord> process = memory().process;
  if (!process) return false;
  own_child_ = under_anchor_ = false;
  takeOver(*process);
  if (!capture_ && openCapture()) capture_->resumeRun(started_);  // its pipes are gone, not its log
  killRemains();
  ExitReport report = reportExit();
  if (!report.exit_status && !report.signal) {
    pid_ = 0;
    if (capture_) {
      capture_->drain();
      last_lines = capture_->lastLines();
    }
    closeCapture();
    return false;
  }
  state_ = memory().up ? (process->ready ? State::kReady : State::kStarting) : State::kStopping;
  onExit(std::move(report));
  return true;
}

// ---- status ------------------------------------------------------------------------------------

protocol::InstanceStatus ServiceProcess::status() const {
  protocol::InstanceStatus status;
  const GenerationRecord& memo = memory();
  status.service = spec_.service;
  status.index = spec_.index;
  status.generation = spec_.generation;
  status.version = spec_.version;
  status.release_digest = spec_.release_digest;
  status.spec_digest = spec_.spec_digest;
  status.state = state_;
  status.pid = pid_;
  status.since = since_;
  status.ports = spec_.ports;
  status.restarts = memo.restarts;
  status.last_exit = last_exit_;
  status.not_limited = not_limited_;
  status.status_text = running() ? status_text_ : std::string();
  if (state_ == State::kFailed || state_ == State::kBackoff) status.note = problem_;
  if (state_ == State::kFailed && !memo.failure.empty()) status.note = memo.failure;
  if (!running()) return status;
  if (const auto stat = aliveProcess(pid_, start_ticks_)) {
    status.rss = stat->rss_pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
    status.cpu = ticksToMillis(stat->user_ticks + stat->system_ticks);
    status.threads = stat->threads;
    status.fds = countFds(pid_);
    const IoFigures io = ioFigures(pid_);
    status.io_read = io.read;
    status.io_written = io.written;
  }
  return status;
}

}  // namespace cctl::shim
