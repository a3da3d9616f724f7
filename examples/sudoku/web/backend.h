// One solver as the web server sees it: a few lasting connections, over which requests
// are pipelined. For the loop's thread only.
//
// Every request that is submitted is given back exactly once, to on_answer or to
// on_failure; neither is called from within submit().
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/line_protocol.h"
#include "core/pick.h"
#include "core/text.h"
#include "net/event_loop.h"
#include "net/log.h"

namespace sudoku {

struct SolveResult {
  enum class Kind { kSolved, kNoSolution, kFailed };
  Kind kind = Kind::kFailed;
  std::string digits;  // when kSolved
  std::string solver;  // which one answered
  std::string error;   // when kFailed: the last try's
};

// A puzzle on its way to an answer, over as many tries as it takes.
struct PendingSolve {
  std::string puzzle;
  std::function<void(const SolveResult&)> on_result;
  Clock::time_point deadline;
  std::vector<HostPort> tried;
  std::size_t tries = 0;
  std::string last_error;
};
using PendingSolvePtr = std::shared_ptr<PendingSolve>;

struct BackendConf {
  std::size_t connections = 2;
  Clock::duration attempt_timeout = std::chrono::seconds(2);
  Clock::duration eject_for = std::chrono::seconds(1);
};

class BackendLink;

class Backend {
 public:
  struct Listener {
    std::function<void(const PendingSolvePtr&, const Backend&, const LineReply&)> on_answer;
    std::function<void(const PendingSolvePtr&, const Backend&, const std::string&)> on_failure;
  };

  Backend(EventLoop& loop, const Log& log, HostPort address, const BackendConf& conf,
          const Listener& listener);
  ~Backend();

  void configure(const BackendConf& conf);
  void submit(const PendingSolvePtr& request);
  // No longer wanted: connections close as soon as nothing is outstanding on them.
  void retire();

  const HostPort& address() const { return address_; }
  bool isConnected() const;
  bool isEjected() const { return Clock::now() < ejected_until_; }
  std::size_t outstanding() const;
  bool isGone() const { return links_.empty() && waiting_.empty() && failing_ == 0; }
  std::string statsJson() const;

 private:
  friend class BackendLink;

  void connectMissing();
  void connectOne();
  void scheduleReconnect();
  void onConnected(BackendLink& link);
  void onLinkOver(const BackendLink& link, const std::string& why);
  void reportDown(const std::string& why, std::size_t requests);
  void failWaiting(const std::string& why);
  void eject();
  void onAnswered(const PendingSolvePtr& request, const LineReply& reply);
  BackendLink* leastBusyLink() const;
  void failLater(const PendingSolvePtr& request, const std::string& why);

  EventLoop& loop_;
  const Log& log_;
  HostPort address_;
  BackendConf conf_;
  const Listener& listener_;
  bool retired_ = false;
  std::vector<std::shared_ptr<BackendLink>> links_;
  std::deque<PendingSolvePtr> waiting_;  // for a connection
  EventLoop::Timer reconnect_timer_{};
  bool reconnect_planned_ = false;
  Clock::duration reconnect_delay_;
  Clock::time_point ejected_until_{};
  unsigned ejections_in_a_row_ = 0;
  std::uint64_t answered_ = 0;
  std::uint64_t failed_ = 0;
  std::size_t failing_ = 0;     // posted, not yet told to the listener
  bool reported_down_ = false;  // one log line for each time, not for each attempt
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for what is posted
};

}  // namespace sudoku
