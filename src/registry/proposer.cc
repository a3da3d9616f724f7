#include "registry/proposer.h"

#include <sys/random.h>

#include <cerrno>
#include <cstdlib>

#include "registry/proposer_impl.h"

namespace cctl::registry {

template class BasicAttempt<ProposerRules>;
template class BasicOperation<ProposerRules>;

UniqueId Randomness::id() {
  UniqueId id;
  while (id.high == 0) id = {next(), next()};  // 0 is for importBallot()
  return id;
}

uint64_t SystemRandomness::next() {
  uint64_t number = 0;
  while (::getrandom(&number, sizeof number, 0) != static_cast<ssize_t>(sizeof number))
    if (errno != EINTR) std::abort();
  return number;
}

bool View::adopt(const Membership& membership) {
  const bool ours = membership_.cluster.empty() || membership_.cluster == membership.cluster;
  if (!ours || membership.epoch <= membership_.epoch) return false;
  membership_ = membership;
  ahead_.clear();
  return true;
}

Ballot View::nextBallot() { return {++counter_, randomness_.id()}; }

void View::keepAhead(const std::string& key, Ahead ahead) {
  constexpr size_t kMost = 1'000;
  if (ahead_.size() >= kMost) ahead_.clear();
  ahead_[key] = std::move(ahead);
}

std::optional<View::Ahead> View::takeAhead(const std::string& key) {
  const auto found = ahead_.find(key);
  if (found == ahead_.end()) return std::nullopt;
  const Ahead ahead = std::move(found->second);
  ahead_.erase(found);
  if (ahead.epoch != membership_.epoch) return std::nullopt;
  return ahead;
}

// ---- listing ---------------------------------------------------------------------------------

Actions Listing::start(SteadyTime now) {
  ++tries_;
  keys_.clear();
  AcceptorRequest request;
  request.act = AcceptorAct::kList;
  request.key = prefix_;
  round_ = Round(view_.membership(), std::move(request));
  return {round_.begin(view_), now + timing_.attempt, std::nullopt};
}

Actions Listing::onReply(const std::string& acceptor, const AcceptorReply& reply, SteadyTime now) {
  if (finished_) return {};
  std::vector<Send> sends;
  const Round::Took took = round_.take(acceptor, reply, view_, sends);
  if (took == Round::Took::kNewerEpoch) return start(now);
  if (took == Round::Took::kAnswer) {
    add(reply);
    if (reply.more && !reply.keys.empty()) {
      AcceptorRequest request;
      request.act = AcceptorAct::kList;
      request.key = prefix_;
      request.after = reply.keys.back().key;
      round_.ask(acceptor, std::move(request), view_, sends);
    }
  }
  return progress(now, std::move(sends));
}

void Listing::add(const AcceptorReply& reply) {
  for (const protocol::ListedKey& listed : reply.keys) {
    const auto [at, added] = keys_.try_emplace(listed.key, listed);
    if (!added && listed.accepted > at->second.accepted) at->second = listed;
  }
}

Actions Listing::progress(SteadyTime now, std::vector<Send> sends) {
  if (round_.hasQuorum()) {
    finished_ = true;
    return {};
  }
  if (round_.mayHaveQuorum()) return {std::move(sends), now + timing_.attempt, std::nullopt};
  return giveUp(now);
}

Actions Listing::onLost(const std::string& acceptor, SteadyTime now) {
  if (finished_) return {};
  round_.lose(acceptor);
  return progress(now, {});
}

Actions Listing::onTimer(SteadyTime now) {
  if (finished_) return {};
  return tries_ < timing_.most_failures ? start(now) : giveUp(now);
}

Actions Listing::giveUp(SteadyTime) {
  if (finished_) return {};
  finished_ = failed_ = true;
  why_ = round_.missing();
  return {};
}

std::vector<std::string> Listing::present() const {
  std::vector<std::string> keys;
  for (const auto& [key, listed] : keys_)
    if (listed.present) keys.push_back(key);
  return keys;
}

std::vector<std::string> Listing::all() const {
  std::vector<std::string> keys;
  for (const auto& [key, listed] : keys_) keys.push_back(key);
  return keys;
}

}  // namespace cctl::registry
