// One thread's loop over epoll(7): descriptors, timers, and work posted by other threads.
// All members but post() and stop() are for the loop's own thread (or before run()).
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "net/fd.h"

namespace sudoku {

using Clock = std::chrono::steady_clock;

class EventLoop {
 public:
  using Events = std::uint32_t;  // EPOLLIN and so on
  using OnEvents = std::function<void(Events)>;
  using Task = std::function<void()>;
  using Timer = std::pair<Clock::time_point, std::uint64_t>;

  EventLoop();  // aborts when the kernel gives no descriptors: nothing can run then
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // `fd` is borrowed and must be removed before it is closed.
  void add(int fd, Events events, OnEvents on_events);
  void modify(int fd, Events events);
  void remove(int fd);

  Timer runAt(Clock::time_point when, Task task);
  Timer runAfter(Clock::duration delay, Task task) { return runAt(Clock::now() + delay, task); }
  void cancel(Timer timer);  // no-op when it has run

  // From any thread: runs `task` in the loop's thread, after the events at hand.
  void post(Task task);
  // From any thread: run() returns once the posted tasks before it are done.
  void stop();
  void run();

  // Space for reading into, shared by all who read in this thread.
  std::array<char, 64 * 1024>& readBuffer() { return read_buffer_; }

 private:
  struct Watch {
    std::uint32_t generation;
    OnEvents on_events;
  };

  void onEpoll(std::uint64_t key, Events events);
  void armTimer();
  void runTimers();
  void runPosted();

  Fd epoll_;
  Fd wakeup_;
  Fd timer_fd_;
  std::unordered_map<int, std::shared_ptr<Watch>> watches_;
  std::uint32_t next_generation_ = 1;
  std::map<Timer, Task> timers_;
  std::uint64_t next_timer_ = 1;
  Clock::time_point armed_for_ = Clock::time_point::max();
  std::mutex mutex_;  // guards posted_ and stopping_
  std::vector<Task> posted_;
  bool stopping_ = false;
  std::array<char, 64 * 1024> read_buffer_;
};

}  // namespace sudoku
