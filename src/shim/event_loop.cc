#include "shim/event_loop.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>

namespace cctl::shim {

Watch& Watch::operator=(Watch&& other) noexcept {
  if (this == &other) return *this;
  reset();
  loop_ = std::exchange(other.loop_, nullptr);
  id_ = other.id_;
  return *this;
}

void Watch::change(uint32_t events) {
  if (loop_) loop_->change(id_, events);
}

void Watch::reset() {
  if (EventLoop* loop = std::exchange(loop_, nullptr)) loop->unwatch(id_);
}

Timer& Timer::operator=(Timer&& other) noexcept {
  if (this == &other) return *this;
  reset();
  loop_ = std::exchange(other.loop_, nullptr);
  id_ = other.id_;
  return *this;
}

void Timer::reset() {
  if (EventLoop* loop = std::exchange(loop_, nullptr)) loop->cancel(id_);
}

bool Timer::pending() const { return loop_ && loop_->timer_times_.count(id_) > 0; }

EventLoop::EventLoop(const Clock& clock) : clock_(clock), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
  if (!epoll_) std::abort();  // nothing works without it
}

Watch EventLoop::watch(int fd, uint32_t events, OnEvents callback) {
  const uint64_t id = next_id_++;
  epoll_event event{};
  event.events = events;
  event.data.u64 = id;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return {};
  entries_[id] = {fd, events, std::make_shared<OnEvents>(std::move(callback))};
  return Watch(this, id);
}

Watch EventLoop::watchChildren(OnEvents callback) {
  const uint64_t id = next_id_++;
  entries_[id] = {-1, 0, std::make_shared<OnEvents>(std::move(callback))};
  return Watch(this, id);
}

void EventLoop::childrenChanged() {
  std::vector<uint64_t> ids;
  for (const auto& [id, entry] : entries_)
    if (entry.fd < 0) ids.push_back(id);
  for (const uint64_t id : ids) call(id, 0);
}

// Not when a callback before it removed it.
void EventLoop::call(uint64_t id, uint32_t events) {
  const auto found = entries_.find(id);
  if (found == entries_.end()) return;
  const auto callback = found->second.callback;  // it may remove itself
  (*callback)(events);
}

void EventLoop::change(uint64_t id, uint32_t events) {
  const auto found = entries_.find(id);
  if (found == entries_.end() || found->second.events == events) return;
  epoll_event event{};
  event.events = events;
  event.data.u64 = id;
  found->second.events = events;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, found->second.fd, &event);
}

void EventLoop::unwatch(uint64_t id) {
  const auto found = entries_.find(id);
  if (found == entries_.end()) return;
  if (found->second.fd >= 0) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, found->second.fd, nullptr);
  entries_.erase(found);
}

Timer EventLoop::after(Millis delay, Action action) {
  const uint64_t id = next_id_++;
  const SteadyTime time = now() + delay;
  timers_.emplace(std::make_pair(time, id), std::move(action));
  timer_times_.emplace(id, time);
  return Timer(this, id);
}

void EventLoop::cancel(uint64_t id) {
  const auto found = timer_times_.find(id);
  if (found == timer_times_.end()) return;
  timers_.erase({found->second, id});
  timer_times_.erase(found);
}

void EventLoop::soon(Action action) { soon_.push_back(std::move(action)); }
void EventLoop::atTurnEnd(Action action) { turn_end_.push_back(std::move(action)); }

void EventLoop::run() {
  stopped_ = false;
  while (!stopped_) turn(Millis(3'600'000));
}

int EventLoop::waitMillis(Millis longest) const {
  if (!soon_.empty() || !turn_end_.empty()) return 0;
  if (timers_.empty()) return static_cast<int>(longest.count());
  const auto left = std::chrono::ceil<Millis>(timers_.begin()->first.first - now());
  return static_cast<int>(std::clamp<int64_t>(left.count(), 0, longest.count()));
}

void EventLoop::turn(Millis longest) {
  std::array<epoll_event, 64> ready{};
  const int count =
      ::epoll_wait(epoll_.get(), ready.data(), static_cast<int>(ready.size()), waitMillis(longest));
  std::vector<Action> work = std::exchange(soon_, {});
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = ready[static_cast<size_t>(i)];
    call(event.data.u64, event.events);
  }
  runTimers();
  for (Action& action : work) action();
  runTurnEnd();
}

void EventLoop::runTimers() {
  const SteadyTime until = now();
  while (!timers_.empty() && timers_.begin()->first.first <= until) {
    auto node = timers_.extract(timers_.begin());
    timer_times_.erase(node.key().second);
    node.mapped()();
  }
}

void EventLoop::runTurnEnd() {
  while (!turn_end_.empty()) {
    const std::vector<Action> actions = std::exchange(turn_end_, {});
    for (const Action& action : actions) action();
  }
}

}  // namespace cctl::shim
