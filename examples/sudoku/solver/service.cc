#include "solver/service.h"

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <thread>
#include <utility>

#include "solver/version.h"

namespace sudoku {
namespace {

// After the grace: time for the last answers to be sent and for clients to hang up.
constexpr Clock::duration kTimeToFinish = std::chrono::seconds(5);

std::size_t threadCount(const SolverSetup& setup) {
  const std::uint64_t wanted = setup.threads.value_or(setup.conf.threads);
  if (wanted > 0) return static_cast<std::size_t>(wanted);
  return std::max(1U, std::thread::hardware_concurrency());
}

std::string field(std::string_view name, std::uint64_t value) {
  return jsonString(name) + ":" + std::to_string(value);
}

std::string latencyJson(const LatencyBuckets& latency) {
  std::string json = ",\"latency_us\":{" + field("sum", latency.sum()) + ",\"buckets\":[";
  for (std::size_t i = 0; i <= LatencyBuckets::kEnds.size(); ++i) {
    const bool last = i == LatencyBuckets::kEnds.size();
    json += (i == 0 ? "{\"le\":" : ",{\"le\":");
    json += (last ? "null" : std::to_string(LatencyBuckets::kEnds[i])) + ",";
    json += field("count", latency.count(i)) + "}";
  }
  return json + "]}";
}

void appendMetric(std::string* text, const std::string& name, std::string_view type,
                  std::string_view help, std::uint64_t value) {
  text->append("# HELP ").append(name).append(" ").append(help).append("\n# TYPE ");
  text->append(name).append(" ").append(type).append("\n");
  text->append(name).append(" ").append(std::to_string(value)).append("\n");
}

void appendLatency(std::string* text, const LatencyBuckets& latency) {
  const std::string name = "sudoku_solve_seconds";
  text->append("# HELP " + name + " Time to solve one puzzle.\n# TYPE " + name + " histogram\n");
  std::uint64_t so_far = 0;
  for (std::size_t i = 0; i <= LatencyBuckets::kEnds.size(); ++i) {
    so_far += latency.count(i);
    const bool last = i == LatencyBuckets::kEnds.size();
    const std::string end =
        last ? "+Inf" : std::to_string(static_cast<double>(LatencyBuckets::kEnds[i]) / 1e6);
    text->append(name + "_bucket{le=\"" + end + "\"} " + std::to_string(so_far) + "\n");
  }
  text->append(name + "_sum " + std::to_string(static_cast<double>(latency.sum()) / 1e6) + "\n");
  text->append(name + "_count " + std::to_string(so_far) + "\n");
}

}  // namespace

SolverService::SolverService(SolverSetup setup)
    : conf_path_(setup.conf_path), signals_(loop_, [this](int signal) { onSignal(signal); }) {
  for (std::size_t i = 0, count = threadCount(setup); i < count; ++i) {
    workers_.push_back(std::make_unique<Worker>(counters_, log_));
  }
  applyConf(setup.conf);
  main_acceptor_ =
      std::make_unique<Acceptor>(loop_, log_, std::move(setup.main.fd), setup.main.inherited,
                                 [this](Fd fd) { onConnection(std::move(fd)); });
  if (!setup.admin) return;
  admin_server_ = std::make_unique<HttpServer>(
      loop_, log_, HttpServer::Limits{},
      [this](const HttpRequest& request, const HttpServer::Respond& respond) {
        respond(onAdminRequest(request));
      });
  admin_acceptor_ =
      std::make_unique<Acceptor>(loop_, log_, std::move(setup.admin->fd), setup.admin->inherited,
                                 [this](Fd fd) { admin_server_->accept(std::move(fd)); });
}

void SolverService::run() {
  announce();
  notifier_.send("READY=1");
  startWatchdog(loop_, notifier_);
  loop_.run();
  for (const auto& worker : workers_) worker->join();
  log_.info("stopped");
}

void SolverService::announce() const {
  std::string line =
      "sudoku-solver " + std::string(kVersion) + " ready: main " + main_acceptor_->address().text();
  if (admin_acceptor_) line += ", admin " + admin_acceptor_->address().text();
  std::printf("%s, %zu threads, pid %d\n", line.c_str(), workers_.size(), getpid());
  std::fflush(stdout);
}

void SolverService::applyConf(const SolverConf& conf) {
  conf_ = conf;
  log_.setLevel(conf.log_level);
  for (const auto& worker : workers_) worker->setIdleTimeout(conf.idle_timeout);
}

void SolverService::onConnection(Fd fd) {
  if (counters_.connections_open.get() >= conf_.max_connections) {
    counters_.connections_rejected.add();
    log_.warn("main " + peerAddress(fd.get()).text() + ": max_connections reached; turned away");
    return;
  }
  counters_.connections_accepted.add();
  counters_.connections_open.add();
  workers_[next_worker_++ % workers_.size()]->adopt(std::move(fd));
}

void SolverService::onSignal(int signal) { signal == SIGHUP ? reload() : stop(); }

// A file with errors changes nothing: the service goes on as it was.
void SolverService::reload() {
  if (conf_path_.empty()) return log_.info("SIGHUP: there is no --conf to read again");
  const auto text = readConfFile(conf_path_);
  const auto conf =
      text ? parseSolverConf(text.value(), conf_path_) : OrError<SolverConf>(Failure{text.error()});
  if (!conf) return log_.error("SIGHUP: the configuration stays as it was: " + conf.error());
  if (conf.value().threads != conf_.threads) log_.warn("threads changes at the next start only");
  applyConf(conf.value());
  log_.info("SIGHUP: " + conf_path_ + " read again");
}

void SolverService::stop() {
  if (std::exchange(stopping_, true)) return;
  log_.info("stopping");
  notifier_.send("STOPPING=1");
  main_acceptor_->close();
  busy_workers_ = workers_.size();
  for (const auto& worker : workers_) {
    worker->drain(conf_.shutdown_grace, [this] { loop_.post([this] { onWorkerEmpty(); }); });
  }
  loop_.runAfter(conf_.shutdown_grace + kTimeToFinish, [this] {
    log_.warn("some clients are not done; leaving them");
    loop_.stop();
  });
}

void SolverService::onWorkerEmpty() {
  if (--busy_workers_ == 0) loop_.stop();
}

HttpResponse SolverService::onAdminRequest(const HttpRequest& request) const {
  HttpResponse response;
  if (request.method != "GET" && request.method != "HEAD") {
    response.status = 405;
    response.headers = {{"Allow", "GET, HEAD"}};
  } else if (request.target == "/healthz") {
    response.status = stopping_ ? 503 : 200;
    response.body = stopping_ ? "stopping\n" : "ok\n";
  } else if (request.target == "/stats") {
    response.content_type = "application/json";
    response.body = statsJson();
  } else if (request.target == "/metrics") {
    response.content_type = "text/plain; version=0.0.4";
    response.body = metricsText();
  } else {
    response.status = 404;
    response.body = "there are /healthz, /stats and /metrics\n";
  }
  return response;
}

std::string SolverService::statsJson() const {
  const auto uptime = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - started_);
  const Counters& now = counters_;
  const std::uint64_t answered = now.solved.get() + now.no_solution.get() + now.gave_up.get();
  std::string json = "{\"format\":1,\"service\":\"sudoku-solver\",\"version\":";
  json += jsonString(kVersion) + "," + field("pid", static_cast<std::uint64_t>(getpid()));
  json += ",\"motd\":" + jsonString(conf_.motd) + ",";
  json += field("uptime_s", static_cast<std::uint64_t>(uptime.count())) + ",";
  json += field("threads", workers_.size()) + ",\"stopping\":" + (stopping_ ? "true" : "false");
  json += ",\"connections\":{" + field("open", now.connections_open.get()) + ",";
  json += field("accepted", now.connections_accepted.get()) + ",";
  json += field("rejected", now.connections_rejected.get()) + ",";
  json += field("errors", now.connection_errors.get()) + "},\"requests\":{";
  json += field("answered", answered) + "," + field("solved", now.solved.get()) + ",";
  json += field("no_solution", now.no_solution.get()) + ",";
  json += field("gave_up", now.gave_up.get()) + "," + field("bad", now.bad_requests.get()) + "}";
  if (kHasLatency) json += latencyJson(now.latency);
  return json + "}\n";
}

std::string SolverService::metricsText() const {
  std::string text =
      "# HELP sudoku_build_info The version that runs.\n"
      "# TYPE sudoku_build_info gauge\nsudoku_build_info{version=\"";
  text.append(kVersion).append("\"} 1\n");
  const Counters& now = counters_;
  appendMetric(&text, "sudoku_connections_open", "gauge", "Connections of clients now.",
               now.connections_open.get());
  appendMetric(&text, "sudoku_connections_accepted_total", "counter", "Connections taken.",
               now.connections_accepted.get());
  appendMetric(&text, "sudoku_connections_rejected_total", "counter", "Connections over the limit.",
               now.connections_rejected.get());
  appendMetric(&text, "sudoku_solved_total", "counter", "Puzzles solved.", now.solved.get());
  appendMetric(&text, "sudoku_no_solution_total", "counter", "Puzzles without a solution.",
               now.no_solution.get());
  appendMetric(&text, "sudoku_gave_up_total", "counter", "Puzzles whose search was cut short.",
               now.gave_up.get());
  appendMetric(&text, "sudoku_bad_requests_total", "counter", "Lines that were no request.",
               now.bad_requests.get());
  if (kHasLatency) appendLatency(&text, now.latency);
  return text;
}

}  // namespace sudoku
