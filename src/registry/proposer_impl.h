// The bodies of BasicAttempt and BasicOperation: included by proposer.cc, and by tests that put
// wrong rules in.
#pragma once

#include <algorithm>

#include "registry/proposer.h"

namespace cctl::registry {

// How many of the last writers a register remembers.
inline constexpr size_t kRecent = 8;

// ---- one attempt -----------------------------------------------------------------------------

template <typename Rules>
std::vector<Send> BasicAttempt<Rules>::start() {
  if (goal_.kind == Goal::Kind::kRead && is_first_) return enterRead();
  if (!Rules::kPreparesFirst) return enterRead();
  if (goal_.kind != Goal::Kind::kSwap) return enterPrepare();
  const auto ahead = view_.takeAhead(goal_.key);
  if (!ahead) return enterPrepare();
  sent_value_ = choose(ahead->state);
  return enterAccept(ahead->ballot);
}

template <typename Rules>
std::vector<Send> BasicAttempt<Rules>::enterRead() {
  phase_ = Phase::kRead;
  AcceptorRequest request;
  request.act = AcceptorAct::kRead;
  request.key = goal_.key;
  round_ = Round(view_.membership(), std::move(request));
  return round_.begin(view_);
}

template <typename Rules>
std::vector<Send> BasicAttempt<Rules>::enterPrepare() {
  phase_ = Phase::kPrepare;
  ballot_ = view_.nextBallot();
  AcceptorRequest request;
  request.act = AcceptorAct::kPrepare;
  request.key = goal_.key;
  request.ballot = ballot_;
  round_ = Round(view_.membership(), std::move(request));
  return round_.begin(view_);
}

template <typename Rules>
std::vector<Send> BasicAttempt<Rules>::enterAccept(const Ballot& ballot) {
  phase_ = Phase::kAccept;
  ballot_ = ballot;
  AcceptorRequest request;
  request.act = AcceptorAct::kAccept;
  request.key = goal_.key;
  request.ballot = ballot_;
  if (view_.asks_ahead && goal_.kind == Goal::Kind::kSwap) next_ = view_.nextBallot();
  request.next = next_;
  request.state = target_;
  round_ = Round(view_.membership(), std::move(request));
  return round_.begin(view_);
}

template <typename Rules>
std::vector<Send> BasicAttempt<Rules>::onReply(const std::string& acceptor,
                                               const AcceptorReply& reply) {
  if (end_ != End::kRunning) return {};
  std::vector<Send> sends;
  const Round::Took took = round_.take(acceptor, reply, view_, sends);
  if (took == Round::Took::kNewerEpoch) finish(End::kNewerEpoch);
  if (took != Round::Took::kAnswer && took != Round::Took::kRefused) return sends;
  return progress();
}

template <typename Rules>
std::vector<Send> BasicAttempt<Rules>::onLost(const std::string& acceptor) {
  if (end_ != End::kRunning) return {};
  round_.lose(acceptor);
  return progress();
}

template <typename Rules>
std::vector<Send> BasicAttempt<Rules>::progress() {
  if (phase_ == Phase::kAccept && !Rules::kTellsOnlyCommitted && !round_.answers().empty())
    tell_ = true;
  if (round_.hasQuorum()) {
    if (phase_ == Phase::kRead) return afterRead();
    if (phase_ == Phase::kPrepare) return afterPrepare();
    afterAccept();
  } else if (!round_.mayHaveQuorum()) {
    why_ = round_.missing();
    finish(round_.conflicted() ? End::kConflict : End::kNoQuorum);
  }
  return {};
}

template <typename Rules>
const AcceptorReply* BasicAttempt<Rules>::newest() const {
  const AcceptorReply* newest = nullptr;
  for (const AcceptorReply* reply : round_.answers())
    if (!newest || reply->accepted > newest->accepted) newest = reply;
  return newest;
}

// A quorum that reports one accepted ballot has committed it, and no later one was committed when
// the first of them answered.
template <typename Rules>
std::vector<Send> BasicAttempt<Rules>::afterRead() {
  const AcceptorReply* newest = this->newest();
  const RegisterState current = newest->state.value_or(RegisterState{});
  const bool same = round_.hasQuorum(
      [&](const AcceptorReply& reply) { return reply.accepted == newest->accepted; });
  age_ = round_.quorumAge(current.revision);
  if (!Rules::kPreparesFirst && choose(current)) {
    sent_value_ = true;
    return enterAccept(view_.nextBallot());
  }
  if (!same && Rules::kReadsThroughAccept) return enterPrepare();
  target_ = current;
  ballot_ = newest->accepted;
  tell_ = true;
  finish(End::kDecided);
  return {};
}

template <typename Rules>
std::vector<Send> BasicAttempt<Rules>::afterPrepare() {
  const AcceptorReply* newest = this->newest();
  const RegisterState current = newest->state.value_or(RegisterState{});
  const Ballot accepted = newest->accepted;
  const bool same =
      round_.hasQuorum([&](const AcceptorReply& reply) { return reply.accepted == accepted; });
  age_ = round_.quorumAge(current.revision);
  sent_value_ = choose(current);
  const bool settled = same || (!Rules::kReadsThroughAccept && goal_.kind == Goal::Kind::kRead);
  if (sent_value_ || !settled || goal_.kind == Goal::Kind::kCarry) return enterAccept(ballot_);
  ballot_ = accepted;
  tell_ = true;
  finish(End::kDecided);
  return {};
}

template <typename Rules>
void BasicAttempt<Rules>::afterAccept() {
  if (!next_.isNone()) view_.keepAhead(goal_.key, {next_, round_.membership().epoch, target_});
  if (sent_value_) age_ = Millis(0);
  tell_ = true;
  finish(End::kDecided);
}

template <typename Rules>
bool BasicAttempt<Rules>::choose(const RegisterState& current) {
  target_ = current;
  swapped_ = too_old_ = false;
  if (goal_.kind != Goal::Kind::kSwap || current.revision < goal_.expected) return false;
  if (current.revision == goal_.expected) {
    target_.revision = goal_.expected + 1;
    target_.value = goal_.value;
    target_.recent.insert(target_.recent.begin(), goal_.op);
    if (target_.recent.size() > kRecent) target_.recent.resize(kRecent);
    swapped_ = true;
    return true;
  }
  // This wish, should it have been granted in an earlier attempt, made revision expected + 1.
  const uint64_t back = current.revision - goal_.expected - 1;
  too_old_ = back >= current.recent.size();
  swapped_ = !too_old_ && current.recent[back] == goal_.op;
  return false;
}

// ---- attempts until the outcome is known -----------------------------------------------------

template <typename Rules>
BasicOperation<Rules>::BasicOperation(Goal goal, View& view, Timing timing)
    : goal_(std::move(goal)), view_(view), timing_(timing) {
  if (goal_.op.isNone()) goal_.op = view_.randomness().id();
}

template <typename Rules>
Actions BasicOperation<Rules>::start(SteadyTime now) {
  return begin(now);
}

template <typename Rules>
Actions BasicOperation<Rules>::begin(SteadyTime now) {
  attempt_.emplace(goal_, view_, attempts_++ == 0);
  return after(attempt_->start(), now);
}

template <typename Rules>
Actions BasicOperation<Rules>::onReply(const std::string& acceptor, const AcceptorReply& reply,
                                       SteadyTime now) {
  if (finished_) return {};
  if (!attempt_) return {{}, wake_, std::nullopt};
  return after(attempt_->onReply(acceptor, reply), now);
}

template <typename Rules>
Actions BasicOperation<Rules>::onLost(const std::string& acceptor, SteadyTime now) {
  if (finished_) return {};
  if (!attempt_) return {{}, wake_, std::nullopt};
  return after(attempt_->onLost(acceptor), now);
}

template <typename Rules>
Actions BasicOperation<Rules>::onTimer(SteadyTime now) {
  if (finished_) return {};
  if (now < wake_) return {{}, wake_, std::nullopt};
  if (!attempt_) return begin(now);
  return waitAndTry(now, attempt_->missing(), true);
}

template <typename Rules>
Actions BasicOperation<Rules>::giveUp(SteadyTime) {
  if (!finished_) finishWithout(attempt_ ? attempt_->missing() : why_);
  return {};
}

template <typename Rules>
Actions BasicOperation<Rules>::after(std::vector<Send> sends, SteadyTime now) {
  using End = typename BasicAttempt<Rules>::End;
  Actions actions;
  actions.sends = std::move(sends);
  value_sent_ = value_sent_ || attempt_->hasSentValue();
  if (attempt_->mayTell() && !told_) {
    told_ = true;
    actions.committed = Committed{goal_.key, attempt_->state()};
  }
  switch (attempt_->end()) {
    case End::kRunning:
      wake_ = now + timing_.attempt;
      actions.wake = wake_;
      return actions;
    case End::kDecided:
      decided(actions);
      return actions;
    case End::kNewerEpoch:
      return begin(now);
    case End::kConflict:
      return waitAndTry(now, attempt_->why(), false);
    case End::kNoQuorum:
      return waitAndTry(now, attempt_->why(), true);
  }
  return actions;
}

template <typename Rules>
Actions BasicOperation<Rules>::waitAndTry(SteadyTime now, std::string why, bool failed) {
  why_ = std::move(why);
  attempt_.reset();
  if (failed && ++failures_ >= timing_.most_failures) {
    finishWithout(why_);
    return {};
  }
  if (!failed && ++races_ == timing_.most_races) {
    finishWithout(why_);
    outcome_.outrun = true;
    return {};
  }
  const int doublings = std::min(conflicts_++, 16);
  const auto most =
      std::min<int64_t>(timing_.backoff_min.count() << doublings, timing_.backoff_max.count());
  const auto micros = static_cast<uint64_t>(std::max<int64_t>(most, 1)) * 1000;
  wake_ = now + std::chrono::microseconds(view_.randomness().next() % micros + 1);
  return {{}, wake_, std::nullopt};
}

template <typename Rules>
void BasicOperation<Rules>::decided(Actions& actions) {
  finished_ = true;
  outcome_.swapped = attempt_->swapped();
  outcome_.state = attempt_->state();
  outcome_.ballot = attempt_->ballot();
  outcome_.age = attempt_->age();
  outcome_.kind = Outcome::Kind::kDone;
  if (attempt_->isTooOld() && value_sent_) {
    outcome_.kind = Outcome::Kind::kUnknown;
    outcome_.why = "a write was sent, and others wrote so often since that it cannot be told";
  }
  if (!attempt_->hasAccepted()) return;
  for (const Member& member : membersOf(view_.membership())) {
    AcceptorRequest request;
    request.act = AcceptorAct::kCommitted;
    request.id = view_.nextRequest();
    request.acceptor = member.acceptor;
    request.epoch = view_.membership().epoch;
    request.key = goal_.key;
    request.ballot = outcome_.ballot;
    actions.sends.push_back({member, std::move(request), true});
  }
}

template <typename Rules>
void BasicOperation<Rules>::finishWithout(std::string why) {
  finished_ = true;
  attempt_.reset();
  outcome_.kind = value_sent_ ? Outcome::Kind::kUnknown : Outcome::Kind::kSurelyNot;
  outcome_.why = std::move(why);
}

}  // namespace cctl::registry
