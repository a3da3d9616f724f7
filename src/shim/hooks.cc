#include "shim/hooks.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/text.h"
#include "model/host_paths.h"
#include "shim/sealed_file.h"
#include "shim/service_process.h"
#include "shim/spawn.h"
#include "shim/users.h"

namespace cctl::shim {
namespace {

using protocol::EventKind;
using protocol::ExitReport;

constexpr char kKind[] = "hooks";
constexpr size_t kMaxHooks = 64;
constexpr size_t kMaxTail = 2048;  // bytes kept of what a hook prints
constexpr size_t kMaxTailLines = 20;
constexpr Millis kExitPoll{50};  // where there are no process descriptors

// The whole input in memory, so that a hook that does not read holds up nobody.
Result<Fd> memoryFile(std::string_view text) {
  Fd fd(::memfd_create("clusterctl-hook", MFD_CLOEXEC));
  if (!fd) return failErrno(errno, "cannot make a file in memory");
  CCTL_CHECK(writeAll(fd.get(), text));
  if (::lseek(fd.get(), 0, SEEK_SET) != 0) return failErrno(errno, "cannot read it back");
  return fd;
}

std::vector<std::string> lastLinesOf(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  if (lines.size() > kMaxTailLines)
    lines.erase(lines.begin(), lines.end() - static_cast<std::ptrdiff_t>(kMaxTailLines));
  return lines;
}

Result<void> checkHooks(const std::vector<protocol::Hook>& hooks) {
  if (hooks.size() > kMaxHooks) return fail(Code::kBadInput, "more than {} hooks", kMaxHooks);
  for (const protocol::Hook& hook : hooks) {
    const bool absolute = !hook.argv.empty() && hook.argv.front().starts_with('/');
    const bool text = std::all_of(hook.argv.begin(), hook.argv.end(), [](const std::string& word) {
      return word.find('\0') == std::string::npos;
    });
    if (!absolute || !text || hook.on.empty())
      return fail(Code::kBadInput,
                  "a hook wants the absolute path of a program, and what to be run for");
  }
  return {};
}

}  // namespace

std::string hookInput(const Identity& identity, const protocol::Event& event) {
  Json json = protocol::encode(event);
  json["host"] = identity.host;
  json["cluster"] = identity.cluster;
  return dumpJson(json) + "\n";
}

// ---- one program that runs ---------------------------------------------------------------------

class Hooks::Run {
 public:
  Run(Hooks& hooks, Job job) : hooks_(hooks), job_(std::move(job)), loop_(hooks.loop_) {}

  const Job& job() const { return job_; }
  const ExitReport& report() const { return report_; }
  bool timedOut() const { return timed_out_; }

  Result<void> begin() {
    CCTL_TRY(input_, memoryFile(hookInput(hooks_.identity_, job_.event)));
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return failErrno(errno, "pipe");
    output_.reset(ends[0]);
    const Fd write_end(ends[1]);
    ::fcntl(output_.get(), F_SETFL, O_NONBLOCK);
    SpawnRequest request = command();
    request.out_fd = request.err_fd = write_end.get();
    CCTL_TRY(Spawned child, spawn(request, nullptr));
    begun_ = loop_.now();
    report_.pid = child.pid;
    report_.start_ticks = child.start_ticks;
    pidfd_ = std::move(child.pidfd);
    watch();
    return {};
  }

 private:
  // spawn() gives its children no input, but sockets from 3 on: a shell makes the first one, which
  // is the file in memory, its input and becomes the program.
  SpawnRequest command() const {
    const User user = thisUser();
    SpawnRequest request;
    request.path = "/bin/sh";
    request.argv = {"sh", "-c", "exec <&3 3<&-; exec \"$@\"", "sh"};
    request.socket_fds = {input_.get()};
    request.argv.insert(request.argv.end(), job_.argv.begin(), job_.argv.end());
    request.env = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                   "HOME=" + user.home, "USER=" + user.name, "LOGNAME=" + user.name,
                   "LANG=C.UTF-8"};
    request.cwd = "/";
    return request;
  }

  void watch() {
    output_watch_ = loop_.watch(output_.get(), EPOLLIN, [this](uint32_t) { readOutput(); });
    time_limit_ = loop_.after(hooks_.limits_.time_limit, [this] {
      timed_out_ = true;
      signalGroup(pidfd_, report_.pid, SIGKILL);
    });
    if (pidfd_)
      exit_watch_ = loop_.watch(pidfd_.get(), EPOLLIN, [this](uint32_t) { onExit(); });
    else
      poll();
  }

  void poll() {
    poll_timer_ = loop_.after(kExitPoll, [this] {
      poll();  // first: this object may be gone when the exit was seen
      onExit();
    });
  }

  // False when nothing is there (yet), or nothing will come.
  bool readOutput() {
    std::array<char, kMaxTail> buffer;
    const ssize_t got = ::read(output_.get(), buffer.data(), buffer.size());
    if (got == 0) output_watch_.reset();
    if (got <= 0) return false;
    tail_.append(buffer.data(), static_cast<size_t>(got));
    if (tail_.size() > kMaxTail) tail_.erase(0, tail_.size() - kMaxTail);
    return true;
  }

  void onExit() {
    int status = 0;
    if (::waitpid(report_.pid, &status, WNOHANG) != report_.pid) return;
    // Bounded: something that it left behind may be writing for ever.
    for (int i = 0; i < 64 && readOutput(); ++i) {
    }
    if (WIFEXITED(status)) report_.exit_status = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) report_.signal = WTERMSIG(status);
    report_.at = loop_.clock().wall();
    report_.uptime = std::chrono::duration_cast<Millis>(loop_.now() - begun_);
    report_.last_lines = lastLinesOf(tail_);
    hooks_.onEnd(*this);  // ends this object
  }

  Hooks& hooks_;
  const Job job_;
  EventLoop& loop_;
  Fd input_;
  Fd output_;
  Fd pidfd_;
  Watch output_watch_;
  Watch exit_watch_;
  Timer poll_timer_;
  Timer time_limit_;
  SteadyTime begun_{};
  ExitReport report_;
  bool timed_out_ = false;
  std::string tail_;
};

// ---- all of them -------------------------------------------------------------------------------

Hooks::Hooks(std::string root, Identity identity, EventLoop& loop, Journal& journal,
             HookLimits limits)
    : root_(std::move(root)),
      identity_(std::move(identity)),
      loop_(loop),
      journal_(journal),
      limits_(limits) {
  load();
  observation_ = journal_.observe([this](const protocol::Event& event) { onEvent(event); });
}

Hooks::~Hooks() { journal_.unobserve(observation_); }

void Hooks::load() {
  const std::string path = paths::hooksFile(root_);
  const auto json = readSealed(path, kKind);
  if (!json && json.error().code == Code::kNotFound) return;
  auto stored = json ? protocol::decode<protocol::HooksRequest>(*json)
                     : Result<protocol::HooksRequest>(fail(json.error()));
  if (stored)
    if (auto checked = checkHooks(stored->hooks); !checked) stored = fail(checked.error());
  if (stored) {
    hooks_ = std::move(stored->hooks);
    return;
  }
  problem_ = stored.error().message;
  wake();  // the journal is opened after this
}

Result<void> Hooks::replace(std::vector<protocol::Hook> hooks) {
  if (hooks == hooks_) return {};
  CCTL_CHECK(checkHooks(hooks));
  CCTL_CHECK(writeSealed(paths::hooksFile(root_), kKind,
                         protocol::encode(protocol::HooksRequest{hooks}), Sync::kYes));
  hooks_ = std::move(hooks);
  protocol::Event event;
  event.kind = EventKind::kOrder;
  event.text = fmt::format("alerts changed: {}", counted(hooks_.size(), "program"));
  journal_.append(std::move(event));
  return {};
}

void Hooks::onEvent(const protocol::Event& event) {
  if (!event.alert) return;
  for (const protocol::Hook& hook : hooks_) {
    if (std::find(hook.on.begin(), hook.on.end(), *event.alert) == hook.on.end()) continue;
    if (waiting_.size() >= limits_.waiting)
      ++dropped_;
    else
      waiting_.push_back({hook.argv, event});
  }
  if (!waiting_.empty()) wake();
}

// From the loop: whoever appends is in the middle of restarting the service.
void Hooks::wake() {
  if (!wake_.pending()) wake_ = loop_.after(Millis(0), [this] { beginWaiting(); });
}

void Hooks::beginWaiting() {
  tellProblem();
  tellDropped();
  while (!waiting_.empty() && runs_.size() < limits_.at_once) {
    auto run = std::make_unique<Run>(*this, std::move(waiting_.front()));
    waiting_.pop_front();
    if (auto begun = run->begin(); !begun)
      recordFailure(run->job(), begun.error().message, std::nullopt);
    else
      runs_.push_back(std::move(run));
  }
}

void Hooks::tellProblem() {
  if (problem_.empty()) return;
  protocol::Event event;
  event.kind = EventKind::kLost;
  event.text = std::exchange(problem_, {}) +
               "; no alerts are run until the next command that changes something";
  journal_.append(std::move(event));
}

void Hooks::tellDropped() {
  if (dropped_ == 0 || waiting_.size() >= limits_.waiting) return;
  protocol::Event event;
  event.kind = EventKind::kHook;
  event.text = fmt::format("{} not run: more than {} were waiting",
                           counted(std::exchange(dropped_, 0), "alert"), limits_.waiting);
  journal_.append(std::move(event));
}

void Hooks::onEnd(Run& run) {
  if (run.timedOut())
    recordFailure(run.job(), fmt::format("killed after {}", formatDuration(limits_.time_limit)),
                  run.report());
  else if (run.report().exit_status != 0)
    recordFailure(run.job(), describeExit(run.report()), run.report());
  runs_.remove_if([&](const std::unique_ptr<Run>& one) { return one.get() == &run; });
  wake();
}

void Hooks::recordFailure(const Job& job, const std::string& how, std::optional<ExitReport> exit) {
  protocol::Event event;
  event.kind = EventKind::kHook;
  event.service = job.event.service;
  event.index = job.event.index;
  event.generation = job.event.generation;
  event.version = job.event.version;
  event.text = fmt::format("alert {} failed: {}", job.argv.front(), how);
  event.exit = std::move(exit);
  journal_.append(std::move(event));
}

}  // namespace cctl::shim
