#include "shim/spawn.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <new>

#include "base/file.h"
#include "shim/proc.h"

namespace cctl::shim {
namespace {

// SIGIO: a writer meets the lease of a file under check; it waits, and we go on.
constexpr std::array kIgnored = {SIGPIPE, SIGHUP, SIGIO};
constexpr int kPriority = -10;  // nice(1): a crash is dealt with on a busy host too
constexpr unsigned kMaxFd = ~0u;

constexpr unsigned kPidfdSignalProcessGroup = 1u << 2;  // PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9

// The limit this process was started with, for its children.
std::optional<rlimit>& inheritedFileLimit() {
  static std::optional<rlimit> limit;
  return limit;
}

// The priority it was started with, when it raised its own.
std::optional<int>& inheritedPriority() {
  static std::optional<int> priority;
  return priority;
}

// ---- descriptors on their way to a child -------------------------------------------------------

// A child that gets a copy of all descriptors, to close them again at its exec, takes the longer
// the more services there are. So it shares the shim's table at first, and makes one of its own
// from the lowest numbers alone (CLOSE_RANGE_UNSHARE, Linux 5.9): those that are kept free for
// this.
constexpr int kFirstLow = 3;
constexpr int kLowExe = 3, kLowOut = 4, kLowErr = 5, kLowSockets = 6;
constexpr int kLowGroups = kLowSockets + static_cast<int>(SpawnRequest::kMaxSockets);
constexpr size_t kMaxGroups = kLowestFd - kLowGroups;
static_assert(kLowGroups < kLowestFd);

Fd& placeholder() {  // valid: the low numbers are ours
  static Fd fd;
  return fd;
}

// What a child is given, by number.
struct Given {
  int exe = -1;
  int out = -1;
  int err = -1;
  std::vector<int> sockets;
  std::vector<int> groups;
  bool low = false;  // all of them are in the low numbers
};

Given givenBy(const SpawnRequest& request) {
  return {request.exe_fd,     request.out_fd,     request.err_fd,
          request.socket_fds, request.cgroup_fds, false};
}

// Holds them there until the child has them.
class LowNumbers {
 public:
  explicit LowNumbers(const SpawnRequest& request) : given_(givenBy(request)) {
    if (!placeholder() || request.cgroup_fds.size() > kMaxGroups) return;
    given_.low = place(given_.exe, kLowExe) && place(given_.out, kLowOut) &&
                 place(given_.err, kLowErr) && placeAll(given_.sockets, kLowSockets) &&
                 placeAll(given_.groups, kLowGroups);
    if (!given_.low) given_ = givenBy(request);
  }
  LowNumbers(const LowNumbers&) = delete;
  LowNumbers& operator=(const LowNumbers&) = delete;
  ~LowNumbers() {
    for (const int fd : taken_) ::dup3(placeholder().get(), fd, O_CLOEXEC);
  }
  const Given& given() const { return given_; }

 private:
  bool place(int& fd, int low) {
    if (fd < 0) return true;
    if (::dup3(fd, low, O_CLOEXEC) < 0) return false;
    taken_.push_back(low);
    fd = low;
    return true;
  }
  bool placeAll(std::vector<int>& fds, int low) {
    for (int& fd : fds)
      if (!place(fd, low++)) return false;
    return true;
  }

  Given given_;
  std::vector<int> taken_;
};

// ---- what both sides know ----------------------------------------------------------------------

// What the child says when it cannot become what was asked.
struct ChildNotes {
  int step = 0;
  int error = 0;
  Limits lowered;
};

struct LimitKind {
  const char* name;
  __rlimit_resource resource;
};
constexpr std::array<LimitKind, kLimitCount> kLimits = {{{"nofile", RLIMIT_NOFILE},
                                                         {"nproc", RLIMIT_NPROC},
                                                         {"core", RLIMIT_CORE},
                                                         {"memlock", RLIMIT_MEMLOCK},
                                                         {"stack", RLIMIT_STACK}}};

enum Step { kSession, kGroup, kFiles, kLimit, kUser, kDirectory, kExec, kSteps };
constexpr int kNoStep = -1;
constexpr std::array<const char*, kSteps> kStepNames = {
    "make a session",  "join its control group", "set up its files", "set its limits",
    "become its user", "enter its directory",    "execute it"};

// Written by the child and read once it has exec'ed or ended: it shares this page even where the
// sanitizers' builds give it a copy of all other memory.
ChildNotes& sharedNotes() {
  static ChildNotes& notes = [&]() -> ChildNotes& {
    void* const page = ::mmap(nullptr, sizeof(ChildNotes), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) std::abort();  // at the first start: without a page nothing works
    return *new (page) ChildNotes;
  }();
  return notes;
}

// The parent waits until the child has exec'ed (CLONE_VFORK) in the parent's own memory (CLONE_VM):
// nothing is copied, however large the shim is. The sanitizers cannot follow that.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kCloneFlags = CLONE_VFORK | CLONE_PARENT_SETTID | SIGCHLD;
#else
constexpr int kCloneFlags = CLONE_VM | CLONE_VFORK | CLONE_PARENT_SETTID | SIGCHLD;
#endif

// A new session is a group of its own for the scheduler (autogroup, sched(7)), which has to queue
// on a busy host, again when its priority is lowered: some milliseconds. Not so with SCHED_RR. Only
// where a process that spins from its first instruction on leaves a processor to the shim, which
// takes it back at the end of its turn; what the process begins meanwhile does not inherit it.
bool mayHurry() {
  static const bool may = ::geteuid() == 0 && ::sysconf(_SC_NPROCESSORS_ONLN) > 1;
  return may;
}
constexpr int kHurried = SCHED_RR | SCHED_RESET_ON_FORK;

// ---- in the child: nothing here returns but by reporting, allocates, or takes a lock ----------

class Child {
 public:
  Child(const SpawnRequest& request, const Given& given, char** argv, char** env)
      : request_(request), given_(given), argv_(argv), env_(env) {}

  [[noreturn]] void run() {
    hurry();
    if (given_.low && ::syscall(SYS_close_range, static_cast<unsigned>(kLowestFd), kMaxFd,
                                CLOSE_RANGE_UNSHARE) != 0)
      giveUp(kFiles);
    if (::setsid() < 0) giveUp(kSession);
    resetSignals();
    joinGroup();
    arrangeFiles();
    setLimits();
    becomeUser();
    if (!request_.cwd.empty() && ::chdir(request_.cwd.c_str()) != 0) giveUp(kDirectory);
    if (exe_fd_ >= 0)
      ::syscall(SYS_execveat, exe_fd_, "", argv_, env_, AT_EMPTY_PATH);
    else
      ::execve(request_.path.c_str(), argv_, env_);
    giveUp(kExec);
  }

 private:
  [[noreturn]] void giveUp(Step step) {
    sharedNotes().step = step;
    sharedNotes().error = errno;
    ::_exit(127);
  }

  // Best effort. Not in front of a control group, which some kernels keep closed to SCHED_RR.
  void hurry() const {
    if (!request_.hurry || !request_.cgroup_fds.empty() || !mayHurry()) return;
    const sched_param lowest{1};
    ::sched_setscheduler(0, kHurried, &lowest);
  }

  // Exec resets handlers, but not what is ignored.
  static void resetSignals() {
    for (const int signal : kIgnored) ::signal(signal, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
  }

  // "0" is whoever writes it (cgroup.procs, tasks).
  void joinGroup() {
    for (const int fd : given_.groups)
      if (::write(fd, "0", 1) != 1) giveUp(kGroup);
  }

  void arrangeFiles() {
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0) giveUp(kFiles);
    const int out = given_.out >= 0 ? given_.out : null;
    const int err = given_.err >= 0 ? given_.err : null;
    // All sources are above 2: the shim keeps 0 to 2 open.
    if (::dup2(null, 0) < 0 || ::dup2(out, 1) < 0 || ::dup2(err, 2) < 0) giveUp(kFiles);
    for (char* digits : request_.own_pid) writeOwnPid(digits);
    const int passed = passSockets();
    // Everything of ours is O_CLOEXEC by birth, and what it inherited since keepInheritedFiles().
    ::syscall(SYS_close_range, static_cast<unsigned>(3 + passed), kMaxFd, CLOSE_RANGE_CLOEXEC);
    ::umask(request_.umask);
  }

  // To 3, 4, … (sd_listen_fds(3)). By way of copies above all of them: one source may be another's
  // place.
  int passSockets() {
    const int count = static_cast<int>(given_.sockets.size());
    if (count == 0) return 0;
    if (given_.exe >= 0 && given_.exe < 3 + count) {
      exe_fd_ = ::fcntl(given_.exe, F_DUPFD_CLOEXEC, 3 + count);
      if (exe_fd_ < 0) giveUp(kFiles);
    }
    for (size_t i = 0; i < given_.sockets.size(); ++i) {
      copies_[i] = ::fcntl(given_.sockets[i], F_DUPFD_CLOEXEC, 3 + count);
      if (copies_[i] < 0) giveUp(kFiles);
    }
    for (int i = 0; i < count; ++i)
      if (::dup2(copies_[i], 3 + i) < 0) giveUp(kFiles);
    return count;
  }

  // The pid is known in the child only.
  static void writeOwnPid(char* digits) {
    char reversed[12];
    int length = 0;
    for (unsigned pid = static_cast<unsigned>(::getpid()); pid > 0; pid /= 10)
      reversed[length++] = static_cast<char>('0' + pid % 10);
    for (int i = 0; i < length; ++i) digits[i] = reversed[length - 1 - i];
    digits[length] = '\0';
  }

  void setLimits() {
    // Ours may be lowered to protect the shim; the service gets the default back.
    if (const int fd = ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC); fd >= 0) {
      [[maybe_unused]] const ssize_t put = ::write(fd, "0", 1);
      ::close(fd);
    }
    if (inheritedFileLimit()) ::setrlimit(RLIMIT_NOFILE, &*inheritedFileLimit());
    for (size_t i = 0; i < kLimitCount; ++i)
      if (request_.limits[i]) setLimit(i, *request_.limits[i]);
    if (inheritedPriority()) ::setpriority(PRIO_PROCESS, 0, *inheritedPriority());
  }

  void setLimit(size_t which, uint64_t value) {
    const auto resource = kLimits[which].resource;
    const rlim_t limit = value == UINT64_MAX ? RLIM_INFINITY : static_cast<rlim_t>(value);
    rlimit now{};
    ::getrlimit(resource, &now);
    rlimit wanted{limit, std::max(limit, now.rlim_max)};
    if (::setrlimit(resource, &wanted) == 0) return;
    wanted = {std::min(limit, now.rlim_max), now.rlim_max};  // not root: up to the hard limit only
    if (::setrlimit(resource, &wanted) != 0) giveUp(kLimit);
    if (wanted.rlim_cur != limit) sharedNotes().lowered[which] = wanted.rlim_cur;
  }

  void becomeUser() {
    if (!request_.user || (request_.user->uid == ::geteuid() && ::geteuid() != 0)) return;
    const User& user = *request_.user;
    if (::setgroups(user.groups.size(), user.groups.data()) != 0) giveUp(kUser);
    if (::setresgid(user.gid, user.gid, user.gid) != 0) giveUp(kUser);
    if (::setresuid(user.uid, user.uid, user.uid) != 0) giveUp(kUser);
  }

  const SpawnRequest& request_;
  const Given& given_;
  char** argv_;
  char** env_;
  int exe_fd_ = given_.exe;
  int copies_[SpawnRequest::kMaxSockets] = {};
};

int runChild(void* child) { static_cast<Child*>(child)->run(); }

std::vector<char*> pointersTo(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (const std::string& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// ---- in the shim -------------------------------------------------------------------------------

void reap(int pid) {
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

tl::unexpected<Error> failureOf(const ChildNotes& failure, const SpawnRequest& request) {
  const std::string& name = request.argv.empty() ? request.path : request.argv.front();
  auto why = failErrno(failure.error, kStepNames[static_cast<size_t>(failure.step) % kSteps]);
  return fail(Code::kFailed, "{}: cannot {}", name, why.value().message);
}

// Only what is used of it takes memory.
char* childStackEnd() {
  static constexpr size_t kSize = 256u << 10;
  static void* const stack = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (stack == MAP_FAILED) std::abort();
  return static_cast<char*>(stack) + kSize;
}

// The child begins with every signal blocked, so that none of the shim's handlers runs in it.
pid_t cloneWith(Child& child, bool share_files, int32_t* pid_slot) {
  char* const stack_end = childStackEnd();
  const int flags = kCloneFlags | (share_files ? CLONE_FILES : 0);
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, &before);
  const pid_t pid = ::clone(runChild, stack_end, flags, &child, pid_slot);
  const int error = errno;
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  errno = error;
  return pid;
}

}  // namespace

void setUpSignals() {
  for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);
  for (const int signal : kIgnored) ::signal(signal, SIG_IGN);
}

void raiseOwnPriority() {
  errno = 0;
  const int before = ::getpriority(PRIO_PROCESS, 0);
  if (before <= kPriority || ::setpriority(PRIO_PROCESS, 0, kPriority) != 0) return;
  inheritedPriority() = before;
}

void raiseOwnFileLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  inheritedFileLimit() = limit;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);  // best effort: the old limit still serves
}

void keepInheritedFiles() {
  if (::syscall(SYS_close_range, 3u, kMaxFd, CLOSE_RANGE_CLOEXEC) == 0) return;
  const auto names = listDir("/proc/self/fd");  // below Linux 5.11
  if (!names) return;
  for (const std::string& name : *names)
    if (const int fd = std::atoi(name.c_str()); fd > 2) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
}

void reserveLowNumbers() {
  if (::syscall(SYS_close_range, kMaxFd, kMaxFd, 0) != 0) return;  // below Linux 5.9
  Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const int high = ::fcntl(null.get(), F_DUPFD_CLOEXEC, kLowestFd);
  if (high < 0) return;
  [[maybe_unused]] const int low = null.release();  // one of those that follow, or 0 to 2
  for (int fd = kFirstLow; fd < kLowestFd; ++fd) ::dup3(high, fd, O_CLOEXEC);
  placeholder().reset(high);
}

void endHurry(int pid) {
  if (!mayHurry() || ::sched_getscheduler(pid) != kHurried) return;
  const sched_param none{0};
  ::sched_setscheduler(pid, SCHED_OTHER, &none);
}

void SpawnRequest::addOwnPid(std::string_view name) {
  env.push_back(fmt::format("{}={}", name, std::string(12, '\0')));
  own_pid.push_back(env.back().data() + name.size() + 1);  // stays there when the vector grows
}

Fd openPidfd(int pid) {
  return Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));  // CLOEXEC by birth
}

const char* limitName(Limit limit) { return kLimits[limit].name; }

bool signalProcess(const Fd& pidfd, int pid, int signal) {
  if (pidfd) return ::syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0) == 0;
  return ::kill(pid, signal) == 0;
}

bool signalOwnGroup(int child, int signal) { return ::kill(-child, signal) == 0; }

bool signalGroup(const Fd& pidfd, int signal) {
  if (!pidfd) return false;
  return ::syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, kPidfdSignalProcessGroup) ==
             0 ||
         errno == ESRCH;  // the whole group has ended
}

Result<Spawned> spawn(const SpawnRequest& request, int32_t* pid_slot) {
  if (request.socket_fds.size() > SpawnRequest::kMaxSockets)
    return fail(Code::kBadInput, "{} sockets cannot be passed", request.socket_fds.size());
  std::vector<char*> argv = pointersTo(request.argv);
  std::vector<char*> env = pointersTo(request.env);
  ChildNotes& notes = sharedNotes();
  notes = {kNoStep, 0, {}};
  const LowNumbers numbers(request);
  Child child(request, numbers.given(), argv.data(), env.data());
  int32_t own_slot = 0;
  static pid_t hurried = 0;  // one at a time: many would keep the shim from its processor
  if (request.hurry && hurried != 0) endHurry(std::exchange(hurried, 0));
  const pid_t pid = cloneWith(child, numbers.given().low, pid_slot ? pid_slot : &own_slot);
  if (pid < 0) return failErrno(errno, "cannot begin a process");
  if (notes.step != kNoStep) {
    reap(pid);
    if (pid_slot) *pid_slot = 0;
    return failureOf(notes, request);
  }
  if (request.hurry) hurried = pid;
  Spawned spawned;
  spawned.pid = pid;
  spawned.pidfd = openPidfd(pid);
  spawned.lowered = notes.lowered;
  if (const auto stat = readProcStat(pid)) spawned.start_ticks = stat->start_ticks;
  return spawned;
}

}  // namespace cctl::shim
