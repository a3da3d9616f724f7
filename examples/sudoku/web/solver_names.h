// The solvers as the naming socket of this host knows them (clusterctl/naming.h): no restart and no
// new configuration when one comes, goes or moves. For the loop's thread only.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "clusterctl/naming.h"
#include "core/text.h"
#include "net/event_loop.h"
#include "net/log.h"

namespace sudoku {

class SolverNames {
 public:
  using OnSolvers = std::function<void(std::vector<HostPort>)>;

  // `loop` and `log` must outlive it. `on_solvers` is called from the loop, and by await().
  SolverNames(EventLoop& loop, const Log& log, OnSolvers on_solvers);
  ~SolverNames();
  SolverNames(const SolverNames&) = delete;
  SolverNames& operator=(const SolverNames&) = delete;

  // Follows the port `main` of this service from now on; an empty name: none.
  void follow(const std::string& service);
  // Until the first answer, for so long at most: whoever serves before it knows of no solver.
  void await(std::chrono::milliseconds most);

 private:
  void onChange(const clusterctl::Service& service);
  void process();

  EventLoop& loop_;
  const Log& log_;
  OnSolvers on_solvers_;
  clusterctl::Naming naming_;
  std::string service_;
  std::string told_;  // the error that was logged last
};

// Whom to ask: those that are ready; when none is, those that run at least. Not those that are
// about to stop.
std::vector<HostPort> solversOf(const clusterctl::Service& service);

}  // namespace sudoku
