// One operation per service at a time: a lease in the registers (registry.md, "lock/S").
//
// A lease is not mutual exclusion: its holder may be paused for longer than it lasts. Three things
// keep a paused holder from acting when it wakes: every order to a shim carries the lease's token,
// and shims refuse tokens lower than one they have seen; FencedRegisters refuses its writes; and
// whoever takes its lock over tells the shims the new token before doing anything else
// (ops/change.h).
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/cancel.h"
#include "ops/change_record.h"
#include "ops/event.h"
#include "registry/register.h"

namespace cctl::ops {

constexpr Millis kLeaseDuration{15'000};
constexpr Millis kHeartbeatEvery{4'000};

// Pure: the register's value and back; kCorrupt for anything else.
JsonText encodeLock(const ChangeRecord& holder);
[[nodiscard]] Result<ChangeRecord> decodeLock(const JsonText& value);

// (incarnation, revision) as one number that compares as the pair does: forced recovery of the
// quorum raises the incarnation, and with it every later token.
uint64_t fencingToken(uint64_t incarnation, uint64_t revision);

// A lock as it stands, whoever holds it.
struct LockState {
  std::string service;
  ChangeRecord holder;
  uint64_t revision = 0;
  Millis age{0};  // since its last heartbeat, as the registers measure it
  bool expired() const { return age > kLeaseDuration; }
};
[[nodiscard]] Result<std::optional<LockState>> readLock(registry::Registers& registers,
                                                        const std::string& service);
[[nodiscard]] Result<std::vector<LockState>> readAllLocks(registry::Registers& registers);

// alice@ws1 ("clusterctl deploy …", since …, last heard of 3 s ago)
std::string describeLock(const LockState& lock);

// kLocked.
Error heldBySomebody(const LockState& lock);

// A process of this machine and boot that is no more cannot act any more either: no need to wait
// for its lease to run out.
bool holderIsGone(const Identity& holder, const Identity& us);
// Left behind: free for whoever comes next.
bool isLeftBehind(const LockState& lock, const Identity& us);

// How a lock is taken.
struct LockRequest {
  std::string service;
  ChangeRecord holder;
  Millis wait{0};
  bool force = false;  // takes it from whoever holds it: `lock break`
};

// Renews itself on a thread of its own until it is destroyed, which releases it.
class Lease {
 public:
  // Waits up to `wait` for another holder; kLocked says who holds it then. A holder that has not
  // renewed for kLeaseDuration, or whose process has ended on this very machine, is replaced, which
  // `events` is told.
  [[nodiscard]] static Result<std::unique_ptr<Lease>> acquire(registry::Registers& registers,
                                                              const LockRequest& request,
                                                              EventSink& events,
                                                              const CancelToken* cancel);
  ~Lease();
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  const std::string& service() const { return service_; }
  uint64_t token() const { return token_; }
  // False once somebody else has taken it, or it could not be renewed for its whole duration.
  bool held() const;
  // Why it is not held, with whoever holds it now: one read of the registers.
  Error lost() const;
  // The operation that this one took the lock from because it was not heard of any more.
  const std::optional<LockState>& leftBehind() const { return left_behind_; }

  ChangeRecord holder() const;
  // Puts more into the lock's value, for whoever must finish the record; at once, as far as
  // possible.
  void note(const ChangeRecord& holder);

 private:
  struct Taken {
    uint64_t revision = 0;
    uint64_t token = 0;
    std::optional<LockState> left_behind;
  };
  Lease(registry::Registers& registers, const LockRequest& request, Taken taken);
  void renewUntilReleased();
  void renew();

  registry::Registers& registers_;
  const std::string service_;
  const uint64_t token_;
  const std::optional<LockState> left_behind_;

  mutable std::mutex mutex_;  // guards what follows
  std::mutex writing_;        // one heartbeat at a time; taken before mutex_
  std::condition_variable released_;
  ChangeRecord holder_;
  bool stopping_ = false;
  bool lost_ = false;
  uint64_t revision_;
  SteadyTime renewed_ = std::chrono::steady_clock::now();
  std::thread renewer_;
};

}  // namespace cctl::ops
