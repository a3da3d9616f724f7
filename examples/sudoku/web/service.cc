#include "web/service.h"

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <string_view>
#include <utility>

#include "core/solve_json.h"
#include "core/solver.h"
#include "web/page.h"
#include "web/version.h"

namespace sudoku {
namespace {

constexpr std::string_view kSolvePath = "/solve/";
// With a passed socket clients may be waiting already.
constexpr std::chrono::milliseconds kTimeToHear{2000};
// After the grace: time for solvers that are late, and for the last answers to be sent.
constexpr Clock::duration kTimeToFinish = std::chrono::seconds(5);

void replaceAll(std::string* text, std::string_view what, std::string_view with) {
  for (std::size_t at = text->find(what); at != std::string::npos;
       at = text->find(what, at + with.size())) {
    text->replace(at, what.size(), with);
  }
}

std::string makePage() {
  std::string page(kPageTemplate);
  replaceAll(&page, "{{VERSION}}", kVersion);
  replaceAll(&page, "{{HINTS}}", kHasHints ? "true" : "false");
  return page;
}

HttpServer::Limits makeLimits(const WebConf& conf) {
  HttpServer::Limits limits;
  limits.max_connections = static_cast<std::size_t>(conf.max_connections);
  limits.idle_timeout = conf.idle_timeout;
  return limits;
}

HttpResponse jsonResponse(int status, std::string body) {
  HttpResponse response;
  response.status = status;
  response.content_type = "application/json";
  response.headers = {{"Cache-Control", "no-store"}};
  response.body = std::move(body) + "\n";
  return response;
}

HttpResponse jsonError(int status, std::string_view error) {
  return jsonResponse(status, "{\"error\":" + jsonString(error) + "}");
}

HttpResponse plainResponse(int status, std::string body) {
  HttpResponse response;
  response.status = status;
  response.body = std::move(body);
  return response;
}

HttpResponse pageResponse(const std::string& page) {
  HttpResponse response;
  response.content_type = "text/html; charset=utf-8";
  response.headers = {{"Cache-Control", "no-cache"},
                      {"X-Content-Type-Options", "nosniff"},
                      {"Content-Security-Policy",
                       "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
                       "connect-src 'self'; img-src data:"}};
  response.body = page;
  return response;
}

std::string field(std::string_view name, std::uint64_t value) {
  return jsonString(name) + ":" + std::to_string(value);
}

}  // namespace

WebService::WebService(WebSetup setup)
    : conf_path_(setup.conf_path),
      fixed_solvers_(setup.solvers),
      fixed_service_(setup.solver_service),
      page_(makePage()),
      signals_(loop_, [this](int signal) { onSignal(signal); }),
      pool_(loop_, log_),
      names_(loop_, log_, [this](std::vector<HostPort> solvers) { onSolvers(std::move(solvers)); }),
      server_(loop_, log_, makeLimits(setup.conf),
              [this](const HttpRequest& request, const HttpServer::Respond& respond) {
                onRequest(request, respond);
              }) {
  applyConf(setup.conf);
  names_.await(kTimeToHear);
  acceptor_ =
      std::make_unique<Acceptor>(loop_, log_, std::move(setup.main.fd), setup.main.inherited,
                                 [this](Fd fd) { server_.accept(std::move(fd)); });
}

void WebService::run() {
  announce();
  notifier_.send("READY=1");
  startWatchdog(loop_, notifier_);
  loop_.run();
  log_.info("stopped");
}

void WebService::announce() const {
  std::printf("web-server %s ready: main %s, %zu solvers, pid %d\n", std::string(kVersion).c_str(),
              acceptor_->address().text().c_str(), conf_.solvers.size(), getpid());
  std::fflush(stdout);
}

void WebService::applyConf(WebConf conf) {
  if (!fixed_service_.empty()) conf.solver_service = fixed_service_;
  if (conf.solver_service != conf_.solver_service) named_solvers_.reset();
  if (!fixed_solvers_.empty()) {
    conf.solvers = fixed_solvers_;
    conf.solver_service.clear();
  }
  if (conf.solvers.empty() && conf.solver_service.empty())
    log_.warn("no solvers are configured: every puzzle will fail");
  conf_ = std::move(conf);
  if (named_solvers_) conf_.solvers = *named_solvers_;
  names_.follow(conf_.solver_service);
  log_.setLevel(conf_.log_level);
  server_.setLimits(makeLimits(conf_));
  pool_.configure(conf_);
}

// Solvers that stay keep their connections, those that went finish what they were asked.
void WebService::onSolvers(std::vector<HostPort> solvers) {
  log_.info(conf_.solver_service + ": " + std::to_string(solvers.size()) + " solvers");
  named_solvers_ = solvers;
  conf_.solvers = std::move(solvers);
  pool_.configure(conf_);
}

void WebService::onSignal(int signal) { signal == SIGHUP ? reload() : stop(); }

// A file with errors changes nothing: the service goes on as it was.
void WebService::reload() {
  if (conf_path_.empty()) return log_.info("SIGHUP: there is no --conf to read again");
  const auto text = readConfFile(conf_path_);
  auto conf =
      text ? parseWebConf(text.value(), conf_path_) : OrError<WebConf>(Failure{text.error()});
  if (!conf) return log_.error("SIGHUP: the configuration stays as it was: " + conf.error());
  applyConf(std::move(conf.value()));
  log_.info("SIGHUP: " + conf_path_ + " read again, " + std::to_string(conf_.solvers.size()) +
            " solvers");
}

void WebService::stop() {
  if (std::exchange(stopping_, true)) return;
  log_.info("stopping");
  notifier_.send("STOPPING=1");
  acceptor_->close();
  server_.drain(conf_.shutdown_grace, [this] { loop_.stop(); });
  loop_.runAfter(conf_.shutdown_grace + kTimeToFinish, [this] {
    log_.warn("some clients are not done; leaving them");
    loop_.stop();
  });
}

void WebService::onRequest(const HttpRequest& request, const HttpServer::Respond& respond) {
  if (request.method != "GET" && request.method != "HEAD") {
    HttpResponse response = plainResponse(405, "only GET and HEAD\n");
    response.headers = {{"Allow", "GET, HEAD"}};
    return respond(response);
  }
  const std::string path = request.target.substr(0, request.target.find('?'));
  if (path.rfind(kSolvePath, 0) == 0) return onSolve(path.substr(kSolvePath.size()), respond);
  respond(answerPlain(path));
}

HttpResponse WebService::answerPlain(const std::string& path) const {
  if (path == "/") return pageResponse(page_);
  if (path == "/healthz") return plainResponse(200, "ok\n");
  if (path == "/readyz") {
    if (stopping_) return plainResponse(503, "stopping\n");
    if (!pool_.isAnyConnected()) return plainResponse(503, "no solver is reachable\n");
    return plainResponse(200, "ok\n");
  }
  if (path == "/stats") return jsonResponse(200, statsJson());
  if (kHasHints && path == "/metrics") return plainResponse(200, metricsText());
  return plainResponse(404, "there are /, /solve/<81 digits>, /healthz, /readyz and /stats\n");
}

void WebService::onSolve(const std::string& puzzle, const HttpServer::Respond& respond) {
  if (!isPuzzle(puzzle)) {
    ++bad_;
    return respond(jsonError(400, "a puzzle is 81 digits, row by row, 0 for an empty cell"));
  }
  const Clock::time_point begin = Clock::now();
  pool_.solve(puzzle, [this, respond, begin](const SolveResult& result) {
    respond(onResult(result, begin));
  });
}

HttpResponse WebService::onResult(const SolveResult& result, Clock::time_point begin) {
  if (result.kind == SolveResult::Kind::kFailed) {
    ++failed_;
    log_.warn("a puzzle failed at every solver: " + result.error);
    return jsonError(503, "no solver answered: " + result.error);
  }
  const bool solved = result.kind == SolveResult::Kind::kSolved;
  ++(solved ? solved_ : no_solution_);
  const auto took =
      std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - begin).count();
  return jsonResponse(
      200, formatSolveAnswer({result.digits, result.solver, static_cast<std::uint64_t>(took)}));
}

std::string WebService::statsJson() const {
  const auto uptime = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - started_);
  std::string json = "{\"format\":1,\"service\":\"web-server\",\"version\":";
  json += jsonString(kVersion) + "," + field("pid", static_cast<std::uint64_t>(getpid()));
  json += ",\"motd\":" + jsonString(conf_.motd) + ",";
  json += field("uptime_s", static_cast<std::uint64_t>(uptime.count()));
  json += std::string(",\"stopping\":") + (stopping_ ? "true" : "false") + ",";
  json += field("connections", server_.connections()) + ",\"requests\":{";
  json += field("solved", solved_) + "," + field("no_solution", no_solution_) + ",";
  json += field("bad", bad_) + "," + field("failed", failed_) + ",";
  json += field("pending", pool_.pending()) + "," + field("retries", pool_.retries());
  return json + "},\"solvers\":" + pool_.statsJson() + "}";
}

std::string WebService::metricsText() const {
  const auto metric = [](const std::string& name, const std::string& type, std::uint64_t value) {
    return "# TYPE " + name + " " + type + "\n" + name + " " + std::to_string(value) + "\n";
  };
  return metric("sudoku_web_connections_open", "gauge", server_.connections()) +
         metric("sudoku_web_pending", "gauge", pool_.pending()) +
         metric("sudoku_web_solved_total", "counter", solved_) +
         metric("sudoku_web_no_solution_total", "counter", no_solution_) +
         metric("sudoku_web_bad_requests_total", "counter", bad_) +
         metric("sudoku_web_failed_total", "counter", failed_) +
         metric("sudoku_web_retries_total", "counter", pool_.retries());
}

}  // namespace sudoku
