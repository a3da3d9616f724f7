#include "shim/background_sync.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "shim/spawn.h"

namespace cctl::shim {
namespace {

void reap(int pid) {
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace

// The child is waited for: it holds the descriptor's file only a moment longer.
BackgroundSync::~BackgroundSync() {
  watch_.reset();
  if (pid_ > 0) reap(pid_);
}

void BackgroundSync::begin(int fd) {
  if (pid_ > 0) {
    fd_.reset(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
    return;
  }
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::fdatasync(fd);
    ::_exit(0);
  }
  if (pid > 0) pidfd_ = openPidfd(pid);
  if (pid > 0 && pidfd_) {
    pid_ = pid;
    watch_ = loop_.watch(pidfd_.get(), EPOLLIN, [this](uint32_t) { onEnd(); });
    return;
  }
  if (pid > 0) reap(pid);
  if (pid < 0) ::fdatasync(fd);  // nothing better to do on failure than go on
}

void BackgroundSync::onEnd() {
  watch_.reset();
  pidfd_.reset();
  reap(std::exchange(pid_, 0));
  if (!fd_) return;
  const Fd next = std::move(fd_);
  begin(next.get());
}

}  // namespace cctl::shim
