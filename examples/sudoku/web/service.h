// The web server as a service: page, /solve, /healthz, /readyz, /stats, and its life from
// start to SIGTERM. One thread: it only passes puzzles on.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/conf.h"
#include "net/acceptor.h"
#include "net/http_server.h"
#include "net/service.h"
#include "web/solver_names.h"
#include "web/solver_pool.h"

namespace sudoku {

struct WebSetup {
  ListenSocket main;
  WebConf conf;
  std::string conf_path;          // empty: none
  std::string solver_service;     // the option, which wins over the file unless it is empty
  std::vector<HostPort> solvers;  // the option, which wins over the file unless it is empty
};

class WebService {
 public:
  explicit WebService(WebSetup setup);
  // Serves until SIGTERM or SIGINT, then finishes what it has. Blocks.
  void run();

 private:
  void applyConf(WebConf conf);
  void onSolvers(std::vector<HostPort> solvers);
  void onSignal(int signal);
  void reload();
  void stop();
  void announce() const;
  void onRequest(const HttpRequest& request, const HttpServer::Respond& respond);
  void onSolve(const std::string& puzzle, const HttpServer::Respond& respond);
  HttpResponse onResult(const SolveResult& result, Clock::time_point begin);
  HttpResponse answerPlain(const std::string& path) const;
  std::string statsJson() const;
  std::string metricsText() const;

  Log log_;
  WebConf conf_;
  std::string conf_path_;
  std::vector<HostPort> fixed_solvers_;
  std::string fixed_service_;
  std::optional<std::vector<HostPort>> named_solvers_;  // as the naming socket told them
  std::string page_;
  Clock::time_point started_ = Clock::now();
  bool stopping_ = false;
  std::uint64_t solved_ = 0;
  std::uint64_t no_solution_ = 0;
  std::uint64_t bad_ = 0;
  std::uint64_t failed_ = 0;
  EventLoop loop_;
  Notifier notifier_;
  Signals signals_;
  SolverPool pool_;
  SolverNames names_;
  HttpServer server_;
  std::unique_ptr<Acceptor> acceptor_;
};

}  // namespace sudoku
