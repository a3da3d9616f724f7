#include "shim/anchor.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <vector>

#include "model/host_paths.h"
#include "shim/fd_store.h"
#include "shim/log_mover.h"
#include "shim/proc.h"
#include "shim/state_memory.h"
#include "shim/survivors.h"

namespace cctl::shim {
namespace {

constexpr char kSelf[] = "/proc/self/exe";
constexpr int kOpenFailed = 1;             // exit status of a supervisor that could not begin
constexpr time_t kShortLife = 1;           // seconds
constexpr long kPauseNanos = 200'000'000;  // between supervisors that die young

void keepOverExec(int fd) { ::fcntl(fd, F_SETFD, 0); }

// Only from here on: until exec nothing of ours may leak into a child by accident. Returns errno.
int tryExec(const std::string& executable, std::vector<std::string> words,
            const std::vector<int>& keep) {
  for (const int fd : keep) keepOverExec(fd);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execv(executable.c_str(), argv.data());
  return errno;
}

[[noreturn]] void execWith(const std::string& executable, std::vector<std::string> words,
                           const std::vector<int>& keep) {
  tryExec(executable, std::move(words), keep);
  ::_exit(127);
}

int64_t millis(const timeval& time) { return int64_t{time.tv_sec} * 1000 + time.tv_usec / 1000; }

class Anchor {
 public:
  Anchor(std::string root, SharedFds fds, Fd ready)
      : root_(std::move(root)),
        fds_(std::move(fds)),
        exits_(Fd(::fcntl(fds_.exits.get(), F_DUPFD_CLOEXEC, 3))),
        ready_(std::move(ready)) {}

  int run() {
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    ::prctl(PR_SET_PDEATHSIG, 0);  // of the supervisor that this may have been
    sigemptyset(&signals_);
    for (const int signal : {SIGCHLD, SIGTERM, SIGINT}) sigaddset(&signals_, signal);
    ::sigprocmask(SIG_BLOCK, &signals_, nullptr);
    startSupervisor();
    while (!done_) {
      siginfo_t info{};
      const int signal = ::sigwaitinfo(&signals_, &info);
      if (signal == SIGTERM || signal == SIGINT) passOn(signal);
      reapAll();  // after any of them: SIGCHLDs coalesce
    }
    return status_;
  }

 private:
  void startSupervisor() {
    began_ = ::time(nullptr);
    const pid_t anchor = ::getpid();
    supervisor_ = ::fork();
    if (supervisor_ == 0) {
      ::sigprocmask(SIG_UNBLOCK, &signals_, nullptr);
      std::vector<std::string> words = {"clusterctl-shim", "supervise",           "--root", root_,
                                        "--anchor",        std::to_string(anchor)};
      const std::vector<std::string> shared = fds_.words();
      words.insert(words.end(), shared.begin(), shared.end());
      std::vector<int> keep = fds_.numbers();
      if (ready_) {
        words.insert(words.end(), {"--ready-fd", std::to_string(ready_.get())});
        keep.push_back(ready_.get());
      }
      execWith(kSelf, std::move(words), keep);
    }
    ready_.reset();
  }

  void passOn(int signal) {
    leaving_ = true;
    if (supervisor_ > 0) ::kill(supervisor_, signal);
  }

  // Looked at before it is reaped: until then its pid is nobody else's, and a supervisor that asks
  // finds either the zombie or the record.
  void reapAll() {
    for (;;) {
      siginfo_t info{};
      rusage usage{};
      const long outcome =
          ::syscall(SYS_waitid, P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT, &usage);
      if (outcome != 0 || info.si_pid == 0) return;
      if (info.si_pid != supervisor_) record(info.si_pid, usage);
      int status = 0;
      ::waitpid(info.si_pid, &status, 0);
      if (info.si_pid == supervisor_)
        onSupervisorGone(status);
      else if (supervisor_ > 0)
        ::kill(supervisor_, SIGCHLD);  // to one without process descriptors; the others ignore it
    }
  }

  void record(int pid, const rusage& usage) {
    const auto stat = readProcStat(pid);
    if (!stat) return;
    exits_.add({pid, stat->exit_code, stat->start_ticks, millis(usage.ru_utime),
                millis(usage.ru_stime), static_cast<uint64_t>(usage.ru_maxrss) * 1024});
  }

  void onSupervisorGone(int status) {
    supervisor_ = 0;
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (code == kReplace && !leaving_) replaceSelf();
    const bool first = std::exchange(first_, false);
    if (leaving_ || code == kLeftForSignal || code == kLeftByOrder ||
        (first && code == kOpenFailed)) {
      done_ = true;
      status_ = code < 0 ? 0 : code;
      return;
    }
    if (::time(nullptr) - began_ <= kShortLife && code != kReplace && ++died_young_ > 3) pause();
    if (::time(nullptr) - began_ > kShortLife) died_young_ = 0;
    if (!leaving_) startSupervisor();
  }

  void pause() {
    sigset_t end;
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    sigaddset(&end, SIGINT);
    const timespec time{0, kPauseNanos};
    if (::sigtimedwait(&end, nullptr, &time) > 0) {
      done_ = true;
      leaving_ = true;
    }
  }

  // A new executable that is broken must not take the services' parent down: it is run as a child
  // first. Returns when the old one has to go on.
  void replaceSelf() {
    const std::string current = paths::shimCurrent(root_);
    const pid_t check = ::fork();
    if (check == 0) execWith(current, {"clusterctl-shim", "self-check"}, {});
    int status = 0;
    while (::waitpid(check, &status, 0) < 0 && errno == EINTR) {
    }
    if (check < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) return;
    [[maybe_unused]] const Error error = becomeAnchor(current, root_, fds_);
  }

  std::string root_;
  SharedFds fds_;
  ExitLog exits_;
  Fd ready_;
  sigset_t signals_{};
  pid_t supervisor_ = 0;
  time_t began_ = 0;
  int died_young_ = 0;
  bool first_ = true;
  bool leaving_ = false;
  bool done_ = false;
  int status_ = 0;
};

}  // namespace

int runAnchor(const std::string& root, SharedFds fds, Fd ready) {
  return Anchor(root, std::move(fds), std::move(ready)).run();
}

Result<void> SharedFds::makeMissing() {
  if (!exits) {
    CCTL_TRY(exits, ExitLog::makeMemory());
  }
  if (!survivors) {
    CCTL_TRY(survivors, Survivors::makeMemory());
  }
  if (!state) {
    CCTL_TRY(state, StateMemory::makeMemory());
  }
  if (!stage) {
    CCTL_TRY(stage, LogMover::makeStage());
  }
  if (!store_in || !store_out) {
    CCTL_TRY(auto ends, FdStore::makeEnds());
    store_in = std::move(ends.first);
    store_out = std::move(ends.second);
  }
  return {};
}

std::vector<std::string> SharedFds::words() const {
  std::vector<std::string> words;
  for (const auto& [option, member] : kSharedFds)
    words.insert(words.end(), {option, std::to_string((this->*member).get())});
  return words;
}

std::vector<int> SharedFds::numbers() const {
  std::vector<int> numbers;
  for (const auto& [option, member] : kSharedFds) numbers.push_back((this->*member).get());
  return numbers;
}

Error becomeAnchor(const std::string& executable, const std::string& root, const SharedFds& fds) {
  std::vector<std::string> words = {"clusterctl-shim", "anchor", "--root", root};
  const std::vector<std::string> shared = fds.words();
  words.insert(words.end(), shared.begin(), shared.end());
  const int error = tryExec(executable, std::move(words), fds.numbers());
  for (const int fd : fds.numbers()) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  return failErrno(error, executable).value();
}

}  // namespace cctl::shim
