// Spreads puzzles over all solvers, and asks another one when one fails. For the loop's
// thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/conf.h"
#include "web/backend.h"

namespace sudoku {

class SolverPool {
 public:
  using OnResult = std::function<void(const SolveResult&)>;

  SolverPool(EventLoop& loop, const Log& log);

  // Takes over the solvers and limits of `conf`. Solvers that stay keep their connections;
  // those that went finish what they were asked.
  void configure(const WebConf& conf);
  // `on_result` is called once, later.
  void solve(std::string puzzle, OnResult on_result);

  bool isAnyConnected() const;
  std::size_t pending() const { return pending_; }
  std::uint64_t retries() const { return retries_; }
  std::string statsJson() const;  // a JSON array of the solvers

 private:
  using Backends = std::vector<std::unique_ptr<Backend>>;

  void dispatch(const PendingSolvePtr& request);
  Backend* choose(const PendingSolve& request);
  void onAnswer(const PendingSolvePtr& request, const Backend& backend, const LineReply& reply);
  void onFailure(const PendingSolvePtr& request, const Backend& backend, const std::string& why);
  void finish(const PendingSolvePtr& request, const SolveResult& result);
  void finishLater(const PendingSolvePtr& request, const std::string& error);
  std::unique_ptr<Backend> takeOver(const HostPort& address, Backends& old);
  void removeRetired();

  EventLoop& loop_;
  const Log& log_;
  BackendConf backend_conf_;
  std::uint64_t max_pending_ = 0;
  Backend::Listener listener_;
  Backends backends_;
  Backends retiring_;
  std::size_t next_start_ = 0;
  std::size_t pending_ = 0;
  std::uint64_t retries_ = 0;
};

}  // namespace sudoku
