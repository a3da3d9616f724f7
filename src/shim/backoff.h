// When to start again what has died.
#pragma once

#include <deque>
#include <optional>
#include <random>

#include "protocol/messages.h"

namespace cctl::shim {

class Backoff {
 public:
  explicit Backoff(protocol::RestartPolicy policy, unsigned seed = anySeed())
      : policy_(policy), random_(seed) {}

  // How long to wait before the restart that is due now: nothing after the crash of what was
  // stable, then backoff_min, doubled each time up to backoff_max, each with a fifth of jitter
  // either way. No value: more restarts than the limit within the window.
  std::optional<Millis> next(SteadyTime now);

  // It became ready and stayed so for `lived`: a long enough life starts the count anew.
  void wasReadyFor(Millis lived);
  // An operator starts it: all is forgotten.
  void reset();

  static constexpr Millis kStable{10'000};

 private:
  static unsigned anySeed();
  Millis withJitter(Millis delay);

  protocol::RestartPolicy policy_;
  std::minstd_rand random_;  // one for each process: small
  std::deque<SteadyTime> restarts_;
  int consecutive_ = 0;
  bool immediate_ = false;
};

}  // namespace cctl::shim
