// One thread that serves its share of the connections: it reads, solves and answers.
// All members are called from the main thread, and return at once but for join().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <unordered_map>

#include "net/event_loop.h"
#include "net/log.h"
#include "solver/counters.h"

namespace sudoku {

class LineConnection;

class Worker {
 public:
  Worker(Counters& counters, const Log& log);
  ~Worker();  // stops and joins

  void adopt(Fd fd);
  void setIdleTimeout(Clock::duration timeout);
  // Connections are closed once they are quiet, all of them after `grace`, each after
  // everything that was received has been answered. Then `on_empty` runs, in the
  // worker's thread.
  void drain(Clock::duration grace, std::function<void()> on_empty);
  void join();

 private:
  friend class LineConnection;
  // The rest is for the worker's thread.
  void open(Fd fd);
  void forget(std::uint64_t id);
  void sweepIdle();
  void drainSome(Clock::time_point deadline);

  Counters& counters_;
  const Log& log_;
  EventLoop loop_;
  Clock::duration idle_timeout_{0};
  std::function<void()> on_empty_;
  std::uint64_t next_id_ = 1;
  std::unordered_map<std::uint64_t, std::shared_ptr<LineConnection>> connections_;
  std::thread thread_;  // last: it uses all the above
};

}  // namespace sudoku
