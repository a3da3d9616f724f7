// One operation per service at a time: a lease in the registers (registry.md, "lock/S").
//
// A lease is not mutual exclusion: its holder may be paused for longer than it lasts. Every order
// to a shim therefore carries the lease's token, and shims refuse tokens lower than one they have
// seen.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/cancel.h"
#include "ops/event.h"
#include "ops/identity.h"
#include "registry/register.h"

namespace cctl::ops {

struct LockHolder {
  Identity identity;
  std::string reason;  // the command
  WallTime since{};
};

// Pure: the register's value and back; kCorrupt for anything else.
JsonText encodeLock(const LockHolder& holder);
[[nodiscard]] Result<LockHolder> decodeLock(const JsonText& value);

constexpr Millis kLeaseDuration{15'000};
constexpr Millis kHeartbeatEvery{4'000};

// Renews itself on a thread of its own until it is destroyed, which releases it.
class Lease {
 public:
  // Waits up to `wait` for another holder; kLocked says who holds it then. A holder that has not
  // renewed for kLeaseDuration, or whose process has ended on this very machine, is replaced, which
  // `events` is told.
  [[nodiscard]] static Result<std::unique_ptr<Lease>> acquire(registry::Registers& registers,
                                                              const std::string& service,
                                                              const LockHolder& holder, Millis wait,
                                                              EventSink& events,
                                                              const CancelToken* cancel);
  ~Lease();
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  uint64_t token() const { return token_; }
  // False once somebody else has taken it, or it could not be renewed for its whole duration.
  bool held() const;

 private:
  Lease(registry::Registers& registers, std::string key, LockHolder holder, uint64_t revision);
  void renewUntilReleased();
  void renew();

  registry::Registers& registers_;
  const std::string key_;
  const LockHolder holder_;
  const uint64_t token_;

  mutable std::mutex mutex_;
  std::condition_variable released_;
  bool stopping_ = false;
  bool lost_ = false;
  uint64_t revision_;
  SteadyTime renewed_ = std::chrono::steady_clock::now();
  std::thread renewer_;
};

}  // namespace cctl::ops
