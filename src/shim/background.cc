#include "shim/background.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "shim/spawn.h"

namespace cctl::shim {
namespace {

void reap(int pid) {
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace

Background::~Background() {
  watch_.reset();
  if (pid_ > 0) reap(pid_);
}

void Background::begin(Work work) {
  if (pid_ == 0) return start(work);
  if (waiting_.size() < most_waiting_) waiting_.push_back(std::move(work));
}

void Background::start(const Work& work) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    work();
    ::_exit(0);
  }
  if (pid < 0) return work();
  pidfd_ = openPidfd(pid);
  if (!pidfd_) return reap(pid);
  pid_ = pid;
  watch_ = loop_.watch(pidfd_.get(), EPOLLIN, [this](uint32_t) { onEnd(); });
}

void Background::onEnd() {
  watch_.reset();
  pidfd_.reset();
  reap(std::exchange(pid_, 0));
  if (waiting_.empty()) return;
  const Work next = std::move(waiting_.front());
  waiting_.pop_front();
  start(next);
}

}  // namespace cctl::shim
