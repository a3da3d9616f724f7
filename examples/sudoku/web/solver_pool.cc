#include "web/solver_pool.h"

#include <algorithm>
#include <utility>

namespace sudoku {
namespace {

// A request may take this many attempts' time in all.
constexpr int kDeadlineInAttempts = 3;

}  // namespace

SolverPool::SolverPool(EventLoop& loop, const Log& log) : loop_(loop), log_(log) {
  listener_.on_answer = [this](const auto& request, const auto& backend, const auto& reply) {
    onAnswer(request, backend, reply);
  };
  listener_.on_failure = [this](const auto& request, const auto& backend, const auto& why) {
    onFailure(request, backend, why);
  };
}

void SolverPool::configure(const WebConf& conf) {
  backend_conf_.connections = static_cast<std::size_t>(conf.connections_per_solver);
  backend_conf_.attempt_timeout = conf.solver_timeout;
  backend_conf_.eject_for = conf.eject_for;
  max_pending_ = conf.max_pending;
  Backends old = std::exchange(backends_, {});
  for (const HostPort& address : conf.solvers) backends_.push_back(takeOver(address, old));
  for (auto& backend : old) {
    if (!backend) continue;
    backend->retire();
    retiring_.push_back(std::move(backend));
  }
  removeRetired();
}

std::unique_ptr<Backend> SolverPool::takeOver(const HostPort& address, Backends& old) {
  const auto found = std::find_if(old.begin(), old.end(), [&](const auto& backend) {
    return backend && backend->address() == address;
  });
  if (found == old.end()) {
    return std::make_unique<Backend>(loop_, log_, address, backend_conf_, listener_);
  }
  (*found)->configure(backend_conf_);
  return std::move(*found);
}

// Posted, since a backend that has just given its last answer is still at work.
void SolverPool::removeRetired() {
  if (retiring_.empty()) return;
  loop_.post(
      [this] { std::erase_if(retiring_, [](const auto& backend) { return backend->isGone(); }); });
}

void SolverPool::solve(std::string puzzle, OnResult on_result) {
  auto request = std::make_shared<PendingSolve>();
  request->puzzle = std::move(puzzle);
  request->on_result = std::move(on_result);
  request->deadline = Clock::now() + backend_conf_.attempt_timeout * kDeadlineInAttempts;
  ++pending_;
  if (pending_ > max_pending_) return finishLater(request, "too many requests are waiting");
  dispatch(request);
}

void SolverPool::dispatch(const PendingSolvePtr& request) {
  // One try more than there are solvers: a single one that was restarted has closed its
  // old connections, and answers over a new one.
  const bool may_try = request->tries <= backends_.size() && Clock::now() < request->deadline;
  Backend* backend = may_try ? choose(*request) : nullptr;
  if (backend == nullptr && may_try) {
    request->tried.clear();
    backend = choose(*request);
  }
  if (backend == nullptr) {
    return finishLater(request,
                       backends_.empty() ? "no solvers are configured" : request->last_error);
  }
  ++request->tries;
  request->tried.push_back(backend->address());
  backend->submit(request);
}

Backend* SolverPool::choose(const PendingSolve& request) {
  std::vector<Candidate> candidates;
  candidates.reserve(backends_.size());
  for (const auto& backend : backends_) {
    const bool tried = std::find(request.tried.begin(), request.tried.end(), backend->address()) !=
                       request.tried.end();
    candidates.push_back(
        {backend->isConnected(), backend->isEjected(), tried, backend->outstanding()});
  }
  const auto picked = pickSolver(candidates, next_start_);
  if (!picked) return nullptr;
  next_start_ = *picked + 1;
  return backends_[*picked].get();
}

void SolverPool::onAnswer(const PendingSolvePtr& request, const Backend& backend,
                          const LineReply& reply) {
  const bool solved = reply.kind == LineReply::Kind::kSolution;
  finish(request, {solved ? SolveResult::Kind::kSolved : SolveResult::Kind::kNoSolution,
                   reply.digits,
                   backend.address().text(),
                   {}});
  removeRetired();
}

void SolverPool::onFailure(const PendingSolvePtr& request, const Backend& backend,
                           const std::string& why) {
  request->last_error = backend.address().text() + ": " + why;
  ++retries_;
  dispatch(request);
  removeRetired();
}

void SolverPool::finish(const PendingSolvePtr& request, const SolveResult& result) {
  --pending_;
  request->on_result(result);
}

void SolverPool::finishLater(const PendingSolvePtr& request, const std::string& error) {
  loop_.post([this, request, error] {
    finish(request, {SolveResult::Kind::kFailed, {}, {}, error});
  });
}

bool SolverPool::isAnyConnected() const {
  return std::any_of(backends_.begin(), backends_.end(),
                     [](const auto& backend) { return backend->isConnected(); });
}

std::string SolverPool::statsJson() const {
  std::string json = "[";
  for (const auto& backend : backends_) {
    json += (json.size() > 1 ? "," : "") + backend->statsJson();
  }
  return json + "]";
}

}  // namespace sudoku
