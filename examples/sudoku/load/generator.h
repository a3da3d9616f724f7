// Open-loop load: requests are due at fixed times, whatever became of earlier ones, and
// latency counts from the time a request was due. So a stall of the service shows in
// every request that it delayed ("coordinated omission" is avoided).
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/histogram.h"
#include "load/session.h"

namespace sudoku {

struct LoadPlan {
  std::vector<Target> targets;
  double rate = 100;                        // requests a second, over all targets
  std::optional<Clock::duration> duration;  // none: until stop()
  std::size_t connections = 64;             // over all targets
  bool keep_open = true;                    // else each request has its own connection
  Clock::duration timeout = std::chrono::seconds(5);
};

struct LoadSummary {
  Clock::duration took{0};  // of sending
  std::uint64_t sent = 0;
  std::array<std::uint64_t, kOutcomeNames.size()> outcomes{};
  std::uint64_t retried = 0;     // on a fresh connection, after a kept one was found closed
  Histogram latency_us;          // of those that were ok
  Clock::duration worst_lag{0};  // how late this program itself was at worst
  std::map<std::string, std::uint64_t> answered_by;

  std::uint64_t ok() const { return outcomes[0]; }
  std::uint64_t failed() const;
};

class Generator {
 public:
  // `on_done` runs once nothing is outstanding any more after the plan's end or stop().
  Generator(EventLoop& loop, const LoadPlan& plan, std::function<void()> on_done);
  void start();
  void stop();  // sends no more; called again: waits no more either
  const LoadSummary& summary() const { return summary_; }

 private:
  void tick();
  void sweep();
  void makeDue(Clock::time_point now);
  void dispatch(const LoadRequest& request);
  Session* chooseSession();
  void onResult(const Session::Result& result);
  void record(const LoadRequest& request, Outcome outcome);
  void expireQueue(Clock::time_point due_before);
  void finishIfDone();
  Clock::time_point dueTime(std::uint64_t index) const;

  EventLoop& loop_;
  LoadPlan plan_;
  std::function<void()> on_done_;
  std::vector<std::string> puzzles_;
  std::vector<std::vector<std::unique_ptr<Session>>> sessions_;  // of each target
  std::size_t next_target_ = 0;
  std::deque<LoadRequest> queue_;  // due, but no session was free
  Clock::time_point begin_;
  std::uint64_t scheduled_ = 0;
  std::uint64_t outstanding_ = 0;
  bool stopping_ = false;
  bool done_ = false;
  LoadSummary summary_;
};

}  // namespace sudoku
