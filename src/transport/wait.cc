#include "transport/wait.h"

#include <array>
#include <cerrno>

namespace cctl::ssh {

Result<short> waitFor(int fd, short events, Deadline deadline, const CancelToken* cancel) {
  // poll(2) ignores negative descriptors.
  std::array<pollfd, 2> fds{{{fd, events, 0}, {cancel != nullptr ? cancel->fd() : -1, POLLIN, 0}}};
  while (true) {
    const int ready = ::poll(fds.data(), fds.size(), deadline.pollTimeout());
    if (ready < 0 && errno != EINTR) return failErrno(errno, "poll");
    if (fds[1].revents != 0) return fail(Code::kCancelled, "interrupted");
    if (ready > 0 && fds[0].revents != 0) return fds[0].revents;
    if (deadline.passed()) return fail(Code::kTimeout, "timed out");
  }
}

}  // namespace cctl::ssh
