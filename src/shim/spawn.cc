#include "shim/spawn.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "base/file.h"
#include "shim/proc.h"

namespace cctl::shim {
namespace {

constexpr unsigned kPidfdSignalProcessGroup = 1u << 2;  // PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9

// The limit this process was started with, for its children.
std::optional<rlimit>& inheritedFileLimit() {
  static std::optional<rlimit> limit;
  return limit;
}

// What the child says when it cannot become what was asked.
struct ChildFailure {
  int step = 0;
  int error = 0;
};

enum Step { kSession, kFiles, kLimits, kUser, kDirectory, kExec, kSteps };
constexpr std::array<const char*, kSteps> kStepNames = {"make a session",      "set up its files",
                                                        "set its limits",      "become its user",
                                                        "enter its directory", "execute it"};

struct ChildPipes {
  Fd go_read, go_write;      // the child waits for a byte
  Fd fail_read, fail_write;  // closed by a successful exec
};

Result<ChildPipes> makePipes() {
  int go[2];
  int failure[2];
  if (::pipe2(go, O_CLOEXEC) != 0) return failErrno(errno, "pipe");
  ChildPipes pipes;
  pipes.go_read.reset(go[0]);
  pipes.go_write.reset(go[1]);
  if (::pipe2(failure, O_CLOEXEC) != 0) return failErrno(errno, "pipe");
  pipes.fail_read.reset(failure[0]);
  pipes.fail_write.reset(failure[1]);
  return pipes;
}

// ---- in the child: nothing here returns but by reporting -------------------------------------

class Child {
 public:
  Child(const SpawnRequest& request, const ChildPipes& pipes, char** argv, char** env)
      : request_(request), pipes_(pipes), argv_(argv), env_(env) {}

  [[noreturn]] void run() {
    if (::setsid() < 0) giveUp(kSession);
    resetSignals();
    awaitGo();
    arrangeFiles();
    setLimits();
    becomeUser();
    if (!request_.cwd.empty() && ::chdir(request_.cwd.c_str()) != 0) giveUp(kDirectory);
    if (request_.exe_fd >= 0)
      ::syscall(SYS_execveat, request_.exe_fd, "", argv_, env_, AT_EMPTY_PATH);
    else
      ::execve(request_.path.c_str(), argv_, env_);
    giveUp(kExec);
  }

 private:
  [[noreturn]] void giveUp(Step step) {
    const ChildFailure failure{step, errno};
    [[maybe_unused]] const ssize_t put = ::write(pipes_.fail_write.get(), &failure, sizeof failure);
    ::_exit(127);
  }

  static void resetSignals() {
    struct sigaction standard {};
    standard.sa_handler = SIG_DFL;
    for (int signal = 1; signal < NSIG; ++signal) ::sigaction(signal, &standard, nullptr);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
  }

  // End of file instead of the byte: the shim died before it knew of this child.
  void awaitGo() {
    ::close(pipes_.go_write.get());
    char byte = 0;
    ssize_t got = 0;
    do got = ::read(pipes_.go_read.get(), &byte, 1);
    while (got < 0 && errno == EINTR);
    if (got != 1) ::_exit(127);
  }

  void arrangeFiles() {
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0) giveUp(kFiles);
    const int out = request_.out_fd >= 0 ? request_.out_fd : null;
    const int err = request_.err_fd >= 0 ? request_.err_fd : null;
    // All sources are above 2: the shim keeps 0 to 2 open.
    if (::dup2(null, 0) < 0 || ::dup2(out, 1) < 0 || ::dup2(err, 2) < 0) giveUp(kFiles);
    // Everything of ours is O_CLOEXEC by birth; this is for what the shim itself inherited.
    ::syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC);
    ::umask(022);
  }

  void setLimits() {
    // Ours may be lowered to protect the shim; the service gets the default back.
    if (const int fd = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC); fd >= 0) {
      [[maybe_unused]] const ssize_t put = ::write(fd, "0", 1);
      ::close(fd);
    }
    if (request_.limit_nofile)
      setLimit(RLIMIT_NOFILE, *request_.limit_nofile);
    else if (inheritedFileLimit())
      ::setrlimit(RLIMIT_NOFILE, &*inheritedFileLimit());
    if (request_.limit_core) setLimit(RLIMIT_CORE, *request_.limit_core);
  }

  void setLimit(__rlimit_resource resource, uint64_t value) {
    const rlim_t limit = value == UINT64_MAX ? RLIM_INFINITY : static_cast<rlim_t>(value);
    rlimit now{};
    ::getrlimit(resource, &now);
    rlimit wanted{limit, std::max(limit, now.rlim_max)};
    if (::setrlimit(resource, &wanted) == 0) return;
    wanted.rlim_max = now.rlim_max;  // not root: up to the hard limit only
    if (::setrlimit(resource, &wanted) != 0) giveUp(kLimits);
  }

  void becomeUser() {
    if (!request_.user || (request_.user->uid == ::geteuid() && ::geteuid() != 0)) return;
    const User& user = *request_.user;
    if (::setgroups(user.groups.size(), user.groups.data()) != 0) giveUp(kUser);
    if (::setresgid(user.gid, user.gid, user.gid) != 0) giveUp(kUser);
    if (::setresuid(user.uid, user.uid, user.uid) != 0) giveUp(kUser);
  }

  const SpawnRequest& request_;
  const ChildPipes& pipes_;
  char** argv_;
  char** env_;
};

std::vector<char*> pointersTo(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (const std::string& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// ---- in the shim -------------------------------------------------------------------------------

void discard(int pid) {
  ::kill(pid, SIGKILL);
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

Result<void> letGo(int pid, uint64_t start_ticks, const ChildPipes& pipes,
                   const RecordChild& record) {
  if (record) CCTL_CHECK(record(pid, start_ticks));
  return writeAll(pipes.go_write.get(), "g");
}

Result<void> awaitExec(ChildPipes& pipes, const SpawnRequest& request) {
  pipes.fail_write.reset();
  CCTL_TRY(const std::string answer, readAll(pipes.fail_read.get(), 4096));
  if (answer.size() < sizeof(ChildFailure)) return {};
  ChildFailure failure;
  std::memcpy(&failure, answer.data(), sizeof failure);
  const std::string& name = request.argv.empty() ? request.path : request.argv.front();
  auto why = failErrno(failure.error, kStepNames[static_cast<size_t>(failure.step) % kSteps]);
  return fail(Code::kFailed, "{}: cannot {}", name, why.value().message);
}

}  // namespace

void raiseOwnFileLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  inheritedFileLimit() = limit;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);  // best effort: the old limit still serves
}

Fd openPidfd(int pid) {
  return Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));  // CLOEXEC by birth
}

bool signalProcess(const Fd& pidfd, int pid, int signal) {
  if (pidfd) return ::syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0) == 0;
  return ::kill(pid, signal) == 0;
}

bool signalGroup(const Fd& pidfd, int pid, int signal) {
  if (pidfd &&
      ::syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, kPidfdSignalProcessGroup) == 0)
    return true;
  return ::kill(-pid, signal) == 0;
}

Result<Spawned> spawn(const SpawnRequest& request, const RecordChild& record) {
  CCTL_TRY(ChildPipes pipes, makePipes());
  std::vector<char*> argv = pointersTo(request.argv);
  std::vector<char*> env = pointersTo(request.env);
  const pid_t pid = ::fork();
  if (pid < 0) return failErrno(errno, "cannot fork");
  if (pid == 0) Child(request, pipes, argv.data(), env.data()).run();
  pipes.go_read.reset();
  Spawned child;
  child.pid = pid;
  child.pidfd = openPidfd(pid);
  if (const auto stat = readProcStat(pid)) child.start_ticks = stat->start_ticks;
  auto outcome = letGo(pid, child.start_ticks, pipes, record);
  if (outcome) outcome = awaitExec(pipes, request);
  if (!outcome) {
    discard(pid);
    return fail(outcome.error());
  }
  return child;
}

}  // namespace cctl::shim
