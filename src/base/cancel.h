// Deadlines and cancellation: every call that may block takes both.
#pragma once

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <atomic>
#include <chrono>

#include "base/clock.h"
#include "base/fd.h"

namespace cctl {

// A point in time on CLOCK_MONOTONIC after which a call gives up with Code::kTimeout.
class Deadline {
 public:
  static Deadline in(Millis duration) {
    return Deadline(std::chrono::steady_clock::now() + duration);
  }
  static Deadline never() { return Deadline(SteadyTime::max()); }

  SteadyTime time() const { return time_; }
  bool passed() const {
    return time_ != SteadyTime::max() && std::chrono::steady_clock::now() >= time_;
  }
  // Milliseconds left for poll(2): 0 when passed, at most `cap`.
  int pollTimeout(int cap = 1'000'000) const {
    if (time_ == SteadyTime::max()) return cap;
    const auto left = std::chrono::ceil<Millis>(time_ - std::chrono::steady_clock::now()).count();
    if (left <= 0) return 0;
    return left > cap ? cap : static_cast<int>(left);
  }

 private:
  explicit Deadline(SteadyTime time) : time_(time) {}
  SteadyTime time_;
};

// Set once, by a signal handler or another thread; seen by pollers through fd() (readable for ever
// after). cancel() is async-signal-safe. Thread-safe.
class CancelToken {
 public:
  CancelToken() : event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  // Set with `parent`, which must outlive it, or alone.
  explicit CancelToken(const CancelToken* parent) : CancelToken() {
    if (parent == nullptr) return;
    parent_ = parent;
    either_.reset(::epoll_create1(EPOLL_CLOEXEC));
    for (const int fd : {event_.get(), parent->fd()}) {
      epoll_event event{};
      event.events = EPOLLIN;
      (void)::epoll_ctl(either_.get(), EPOLL_CTL_ADD, fd, &event);
    }
  }
  void cancel() {
    cancelled_.store(true, std::memory_order_release);
    const eventfd_t one = 1;
    [[maybe_unused]] const ssize_t put = ::write(event_.get(), &one, sizeof one);
  }
  bool cancelled() const {
    return cancelled_.load(std::memory_order_acquire) || (parent_ && parent_->cancelled());
  }
  int fd() const { return either_ ? either_.get() : event_.get(); }

 private:
  std::atomic<bool> cancelled_{false};
  Fd event_;
  const CancelToken* parent_ = nullptr;
  Fd either_;  // with a parent: readable when one of the two is
};

}  // namespace cctl
