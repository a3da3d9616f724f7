// The solver as a service: its ports, its workers, its life from start to SIGTERM.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "core/conf.h"
#include "net/acceptor.h"
#include "net/http_server.h"
#include "net/service.h"
#include "solver/counters.h"
#include "solver/worker.h"

namespace sudoku {

struct SolverSetup {
  ListenSocket main;
  std::optional<ListenSocket> admin;
  SolverConf conf;
  std::string conf_path;                 // empty: none
  std::optional<std::uint64_t> threads;  // the option, which wins over the file
};

class SolverService {
 public:
  explicit SolverService(SolverSetup setup);
  // Serves until SIGTERM or SIGINT, then finishes what it has. Blocks.
  void run();

 private:
  void applyConf(const SolverConf& conf);
  void onConnection(Fd fd);
  void onSignal(int signal);
  void reload();
  void stop();
  void onWorkerEmpty();
  void announce() const;
  HttpResponse onAdminRequest(const HttpRequest& request) const;
  std::string statsJson() const;
  std::string metricsText() const;

  Log log_;
  SolverConf conf_;
  std::string conf_path_;
  Clock::time_point started_ = Clock::now();
  Counters counters_;
  EventLoop loop_;
  Notifier notifier_;
  Signals signals_;  // before the workers: their threads inherit the mask
  std::vector<std::unique_ptr<Worker>> workers_;
  std::size_t next_worker_ = 0;
  std::size_t busy_workers_ = 0;
  bool stopping_ = false;
  std::unique_ptr<HttpServer> admin_server_;
  std::unique_ptr<Acceptor> admin_acceptor_;
  std::unique_ptr<Acceptor> main_acceptor_;
};

}  // namespace sudoku
