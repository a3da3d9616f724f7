#include "load/generator.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/puzzles.h"

namespace sudoku {
namespace {

constexpr std::size_t kPuzzles = 1024;
constexpr std::uint64_t kSeed = 1;
constexpr Clock::duration kSweepPeriod = std::chrono::milliseconds(20);

}  // namespace

std::uint64_t LoadSummary::failed() const {
  return std::accumulate(outcomes.begin() + 1, outcomes.end(), std::uint64_t{0});
}

Generator::Generator(EventLoop& loop, const LoadPlan& plan, std::function<void()> on_done)
    : loop_(loop),
      plan_(plan),
      on_done_(std::move(on_done)),
      puzzles_(makePuzzles(kPuzzles, kSeed)),
      sessions_(plan.targets.size()) {
  const std::size_t connections = std::max(plan.connections, plan.targets.size());
  for (std::size_t i = 0; i < connections; ++i) {
    const std::size_t at = i % plan.targets.size();
    sessions_[at].push_back(
        std::make_unique<Session>(loop_, plan.targets[at], plan.keep_open,
                                  [this](const Session::Result& result) { onResult(result); }));
  }
}

void Generator::start() {
  begin_ = Clock::now();
  tick();
  sweep();
}

Clock::time_point Generator::dueTime(std::uint64_t index) const {
  return begin_ + std::chrono::duration_cast<Clock::duration>(
                      std::chrono::duration<double>(static_cast<double>(index) / plan_.rate));
}

void Generator::tick() {
  if (stopping_) return;
  makeDue(Clock::now());
  if (plan_.duration && dueTime(scheduled_) >= begin_ + *plan_.duration) return stop();
  loop_.runAt(dueTime(scheduled_), [this] { tick(); });
}

void Generator::makeDue(Clock::time_point now) {
  while (dueTime(scheduled_) <= now) {
    const Clock::time_point due = dueTime(scheduled_);
    if (plan_.duration && due >= begin_ + *plan_.duration) return;
    summary_.worst_lag = std::max(summary_.worst_lag, now - due);
    ++outstanding_;
    ++summary_.sent;
    dispatch({due, &puzzles_[scheduled_++ % puzzles_.size()], false});
  }
}

void Generator::dispatch(const LoadRequest& request) {
  Session* session = chooseSession();
  if (session == nullptr) return queue_.push_back(request);
  session->send(request);
}

// Targets in turn; at a target a connected session first.
Session* Generator::chooseSession() {
  for (std::size_t i = 0; i < sessions_.size(); ++i) {
    const auto& sessions = sessions_[(next_target_ + i) % sessions_.size()];
    Session* best = nullptr;
    for (const auto& session : sessions) {
      if (!session->isFree()) continue;
      if (best == nullptr || session->isConnected()) best = session.get();
      if (best->isConnected()) break;
    }
    if (best == nullptr) continue;
    next_target_ += i + 1;
    return best;
  }
  return nullptr;
}

void Generator::onResult(const Session::Result& result) {
  if (result.may_retry && !result.request.retried) {
    ++summary_.retried;
    LoadRequest again = result.request;
    again.retried = true;
    queue_.push_front(again);
  } else {
    if (!result.solver.empty()) ++summary_.answered_by[result.solver];
    record(result.request, result.outcome);
  }
  if (queue_.empty()) return;
  const LoadRequest next = queue_.front();
  queue_.pop_front();
  dispatch(next);
}

void Generator::record(const LoadRequest& request, Outcome outcome) {
  ++summary_.outcomes[static_cast<std::size_t>(outcome)];
  if (outcome == Outcome::kOk) {
    const auto took =
        std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - request.due);
    summary_.latency_us.record(static_cast<std::uint64_t>(std::max<std::int64_t>(took.count(), 0)));
  }
  --outstanding_;
  finishIfDone();
}

void Generator::expireQueue(Clock::time_point due_before) {
  while (!queue_.empty() && queue_.front().due < due_before) {
    const LoadRequest request = queue_.front();
    queue_.pop_front();
    record(request, Outcome::kTimeout);
  }
}

void Generator::sweep() {
  if (done_) return;
  const Clock::time_point due_before = Clock::now() - plan_.timeout;
  expireQueue(due_before);
  for (const auto& sessions : sessions_) {
    for (const auto& session : sessions) session->expire(due_before);
  }
  loop_.runAfter(kSweepPeriod, [this] { sweep(); });
}

void Generator::stop() {
  if (std::exchange(stopping_, true)) {
    const Clock::time_point all = Clock::time_point::max();
    expireQueue(all);
    for (const auto& sessions : sessions_) {
      for (const auto& session : sessions) session->expire(all);
    }
    return;
  }
  summary_.took = Clock::now() - begin_;
  finishIfDone();
}

void Generator::finishIfDone() {
  if (!stopping_ || outstanding_ > 0 || std::exchange(done_, true)) return;
  on_done_();
}

}  // namespace sudoku
