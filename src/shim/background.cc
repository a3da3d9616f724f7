#include "shim/background.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "shim/spawn.h"

namespace cctl::shim {
namespace {

// Whether it ended well.
bool reap(int pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return false;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

Background::~Background() {
  watch_.reset();
  if (pid_ > 0) reap(pid_);
}

void Background::begin(Work work, Done done) {
  Job job{std::move(work), std::move(done)};
  if (pid_ == 0) return start(std::move(job));
  if (waiting_.size() < most_waiting_) waiting_.push_back(std::move(job));
}

void Background::start(Job job) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(job.work() ? 0 : 1);
  if (pid < 0) {
    const bool well = job.work();
    if (job.done) loop_.soon([well, done = std::move(job.done)] { done(well); });
    return;
  }
  pid_ = pid;
  pidfd_ = openPidfd(pid);
  running_ = std::move(job);
  const auto look = [this](uint32_t) { onEnd(); };
  watch_ = pidfd_ ? loop_.watch(pidfd_.get(), EPOLLIN, look) : loop_.watchChildren(look);
}

void Background::onEnd() {
  siginfo_t info{};
  if (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
      info.si_pid == 0)
    return;  // it was another that ended
  watch_.reset();
  pidfd_.reset();
  const bool well = reap(std::exchange(pid_, 0));
  const Job ended = std::move(running_);
  if (!waiting_.empty()) {
    Job next = std::move(waiting_.front());
    waiting_.pop_front();
    start(std::move(next));
  }
  if (ended.done) ended.done(well);
}

}  // namespace cctl::shim
