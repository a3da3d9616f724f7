// Waiting for a descriptor, a signal of another thread, a deadline and a cancel token at once.
#pragma once

#include <poll.h>
#include <sys/eventfd.h>

#include <atomic>

#include "base/cancel.h"
#include "base/result.h"

namespace cctl::ssh {

// Until one of `events` (or an error) is there on `fd`; -1 waits for the other two only.
// kTimeout ("timed out") or kCancelled ("interrupted") otherwise. Returns what poll(2) saw.
[[nodiscard]] Result<short> waitFor(int fd, short events, Deadline deadline,
                                    const CancelToken* cancel);

// A flag that can be polled for. set() and clear() are thread-safe.
class Signal {
 public:
  Signal() : event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  void set() {
    set_.store(true, std::memory_order_release);
    const eventfd_t one = 1;
    [[maybe_unused]] const ssize_t put = ::write(event_.get(), &one, sizeof one);
  }
  void clear() {
    set_.store(false, std::memory_order_relaxed);
    eventfd_t value = 0;
    [[maybe_unused]] const ssize_t got = ::read(event_.get(), &value, sizeof value);
  }
  int fd() const { return event_.get(); }
  [[nodiscard]] Result<void> wait(Deadline deadline, const CancelToken* cancel) {
    CCTL_CHECK(waitFor(event_.get(), POLLIN, deadline, cancel));
    // What was written before set() is seen after this: poll(2) alone does not promise it.
    [[maybe_unused]] const bool set = set_.load(std::memory_order_acquire);
    return {};
  }

 private:
  Fd event_;
  std::atomic<bool> set_{false};
};

}  // namespace cctl::ssh
