#include "shim/backoff.h"

#include <algorithm>

namespace cctl::shim {

// std::random_device takes its time where the processor is a virtual one.
unsigned Backoff::anySeed() {
  static std::minstd_rand seeds(std::random_device{}());
  return static_cast<unsigned>(seeds());
}

std::optional<Millis> Backoff::next(SteadyTime now) {
  while (!restarts_.empty() && now - restarts_.front() >= policy_.limit_window)
    restarts_.pop_front();
  if (restarts_.size() >= static_cast<size_t>(policy_.limit_count)) return std::nullopt;
  restarts_.push_back(now);
  if (std::exchange(immediate_, false)) return Millis(0);
  Millis delay = policy_.backoff_min;
  for (int i = 0; i < consecutive_ && delay < policy_.backoff_max; ++i) delay *= 2;
  ++consecutive_;
  return withJitter(std::min(delay, policy_.backoff_max));
}

void Backoff::wasReadyFor(Millis lived) {
  // The first crash of a run that was ready is restarted at once, the next ones are not.
  if (lived >= kStable) consecutive_ = 0;
  immediate_ = consecutive_ == 0 && (lived >= kStable || restarts_.empty());
}

void Backoff::reset() {
  restarts_.clear();
  consecutive_ = 0;
  immediate_ = false;
}

Millis Backoff::withJitter(Millis delay) {
  const int64_t fifth = delay.count() / 5;
  return delay + Millis(std::uniform_int_distribution<int64_t>(-fifth, fifth)(random_));
}

}  // namespace cctl::shim
