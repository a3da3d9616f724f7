// One epoll for everything the shim waits for: descriptors and timers (epoll(7)).
//
// Not thread-safe; callbacks run one after the other on the thread that calls run() or turn(), and
// may add and remove watches and timers, their own included. Entries are found by id, never by
// pointer or descriptor, so that an event of a closed descriptor reaches nobody.
#pragma once

#include <sys/epoll.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"

namespace cctl::shim {

class EventLoop;

// Ends the watch when destroyed. Destroy it before the descriptor is closed: a descriptor that a
// child still holds would stay in the epoll set for ever.
class Watch {
 public:
  Watch() = default;
  Watch(EventLoop* loop, uint64_t id) : loop_(loop), id_(id) {}
  Watch(Watch&& other) noexcept : loop_(std::exchange(other.loop_, nullptr)), id_(other.id_) {}
  Watch& operator=(Watch&& other) noexcept;
  ~Watch() { reset(); }
  void change(uint32_t events);
  void reset();
  explicit operator bool() const { return loop_ != nullptr; }

 private:
  EventLoop* loop_ = nullptr;
  uint64_t id_ = 0;
};

// Cancels when destroyed. True while the timer has not run.
class Timer {
 public:
  Timer() = default;
  Timer(EventLoop* loop, uint64_t id) : loop_(loop), id_(id) {}
  Timer(Timer&& other) noexcept : loop_(std::exchange(other.loop_, nullptr)), id_(other.id_) {}
  Timer& operator=(Timer&& other) noexcept;
  ~Timer() { reset(); }
  void reset();
  bool pending() const;

 private:
  EventLoop* loop_ = nullptr;
  uint64_t id_ = 0;
};

class EventLoop {
 public:
  using OnEvents = std::function<void(uint32_t events)>;
  using Action = std::function<void()>;

  // `clock` must outlive it.
  explicit EventLoop(const Clock& clock);

  const Clock& clock() const { return clock_; }
  SteadyTime now() const { return clock_.steady(); }

  // EPOLLIN, EPOLLOUT…, level-triggered.
  [[nodiscard]] Watch watch(int fd, uint32_t events, OnEvents callback);
  [[nodiscard]] Timer after(Millis delay, Action action);
  // At each childrenChanged(), which one it was not being known: for processes without descriptors.
  [[nodiscard]] Watch watchChildren(OnEvents callback);
  void childrenChanged();
  // In the next turn, after what is ready now: for work cut into slices.
  void soon(Action action);
  // Forgets all of that: what it holds may refer to parts that end before the loop does.
  void dropSoon() { soon_.clear(); }
  // At the end of this turn, before the loop waits again: for one sync on behalf of many changes.
  void atTurnEnd(Action action);

  // Runs what was put off to the end of the turn, for work done before the first one.
  void endTurn() { runTurnEnd(); }

  void run();
  void stop() { stopped_ = true; }
  // Waits at most `longest` for something to happen and handles it.
  void turn(Millis longest);

 private:
  friend class Watch;
  friend class Timer;
  struct Entry {
    int fd;  // -1: one that watches children
    uint32_t events;
    std::shared_ptr<OnEvents> callback;
  };

  void change(uint64_t id, uint32_t events);
  void call(uint64_t id, uint32_t events);
  void unwatch(uint64_t id);
  void cancel(uint64_t id);
  int waitMillis(Millis longest) const;
  void runTimers();
  void runTurnEnd();

  const Clock& clock_;
  Fd epoll_;
  uint64_t next_id_ = 1;
  std::map<uint64_t, Entry> entries_;
  std::map<std::pair<SteadyTime, uint64_t>, Action> timers_;
  std::map<uint64_t, SteadyTime> timer_times_;
  std::vector<Action> soon_;
  std::vector<Action> turn_end_;
  bool stopped_ = false;
};

}  // namespace cctl::shim
