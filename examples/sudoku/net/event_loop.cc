#include "net/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

namespace sudoku {
namespace {

constexpr int kEventsAtOnce = 256;

int orAbort(int result, const char* what) {
  if (result >= 0) return result;
  std::perror(what);
  std::abort();
}

// Descriptor numbers are used again at once, so an event carries the generation too: one
// that was fetched for a descriptor since closed must not reach its successor.
std::uint64_t makeKey(int fd, std::uint32_t generation) {
  return std::uint64_t{generation} << 32 | static_cast<std::uint32_t>(fd);
}

void drainCounter(int fd) {
  std::uint64_t count = 0;
  // EAGAIN only says that another wake-up has been swallowed already.
  [[maybe_unused]] const ssize_t ignored = ::read(fd, &count, sizeof count);
}

timespec toTimespec(Clock::time_point when) {
  const auto since = when.time_since_epoch();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since);
  return {static_cast<time_t>(seconds.count()),
          static_cast<long>(std::chrono::nanoseconds(since - seconds).count())};
}

}  // namespace

EventLoop::EventLoop()
    : epoll_(orAbort(epoll_create1(EPOLL_CLOEXEC), "epoll_create1")),
      wakeup_(orAbort(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd")),
      // A timerfd, since epoll_wait's own timeout is in whole milliseconds.
      timer_fd_(
          orAbort(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), "timerfd_create")) {
  add(wakeup_.get(), EPOLLIN, [this](Events) { drainCounter(wakeup_.get()); });
  add(timer_fd_.get(), EPOLLIN, [this](Events) {
    drainCounter(timer_fd_.get());
    armed_for_ = Clock::time_point::max();
  });
}

void EventLoop::add(int fd, Events events, OnEvents on_events) {
  const std::uint32_t generation = next_generation_++;
  watches_[fd] = std::make_shared<Watch>(Watch{generation, std::move(on_events)});
  epoll_event event{};
  event.events = events;
  event.data.u64 = makeKey(fd, generation);
  orAbort(epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event), "epoll_ctl add");
}

void EventLoop::modify(int fd, Events events) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = makeKey(fd, watches_.at(fd)->generation);
  orAbort(epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event), "epoll_ctl mod");
}

void EventLoop::remove(int fd) {
  watches_.erase(fd);
  orAbort(epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr), "epoll_ctl del");
}

EventLoop::Timer EventLoop::runAt(Clock::time_point when, Task task) {
  const Timer timer(when, next_timer_++);
  timers_.emplace(timer, std::move(task));
  return timer;
}

void EventLoop::cancel(Timer timer) { timers_.erase(timer); }

void EventLoop::post(Task task) {
  {
    const std::lock_guard lock(mutex_);
    posted_.push_back(std::move(task));
  }
  const std::uint64_t one = 1;
  // It fails only when the counter is full, and then the loop is awake anyway.
  [[maybe_unused]] const ssize_t ignored = ::write(wakeup_.get(), &one, sizeof one);
}

void EventLoop::stop() {
  post([this] {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  });
}

void EventLoop::run() {
  std::array<epoll_event, kEventsAtOnce> events{};
  while (true) {
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
    }
    armTimer();
    const int count = epoll_wait(epoll_.get(), events.data(), kEventsAtOnce, -1);
    if (count < 0 && errno != EINTR) orAbort(count, "epoll_wait");
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events[static_cast<std::size_t>(i)];
      onEpoll(event.data.u64, event.events);
    }
    runTimers();
    runPosted();
  }
}

void EventLoop::onEpoll(std::uint64_t key, Events events) {
  const auto found = watches_.find(static_cast<int>(key & 0xffffffff));
  if (found == watches_.end() || found->second->generation != key >> 32) return;
  const std::shared_ptr<Watch> watch = found->second;  // it may remove itself
  watch->on_events(events);
}

void EventLoop::armTimer() {
  if (timers_.empty()) return;  // a spurious wake-up later costs less than a call now
  const Clock::time_point first = timers_.begin()->first.first;
  if (first >= armed_for_) return;
  itimerspec spec{};
  spec.it_value = toTimespec(first);
  if (spec.it_value.tv_sec == 0 && spec.it_value.tv_nsec == 0) spec.it_value.tv_nsec = 1;
  orAbort(timerfd_settime(timer_fd_.get(), TFD_TIMER_ABSTIME, &spec, nullptr), "timerfd_settime");
  armed_for_ = first;
}

void EventLoop::runTimers() {
  const Clock::time_point now = Clock::now();
  while (!timers_.empty() && timers_.begin()->first.first <= now) {
    auto due = timers_.extract(timers_.begin());
    due.mapped()();
  }
}

void EventLoop::runPosted() {
  std::vector<Task> tasks;
  {
    const std::lock_guard lock(mutex_);
    tasks.swap(posted_);
  }
  for (const Task& task : tasks) task();
}

}  // namespace sudoku
