#include "ops/lock.h"

#include <poll.h>
#include <signal.h>

#include <cerrno>
#include <nlohmann/json.hpp>

namespace cctl::ops {
namespace {

constexpr Millis kPollEvery{300};

std::string lockKey(const std::string& service) { return "lock/" + service; }

std::string describe(const LockHolder& holder, Millis age) {
  return fmt::format("{} (\"{}\", since {}, last heard of {} ago)", holder.identity.text(),
                     holder.reason, formatTime(holder.since), humanDuration(age));
}

// A process of this machine and boot that is no more cannot act any more either: no need to wait
// for its lease to run out.
bool holderIsGone(const Identity& holder, const Identity& us) {
  if (holder.machine != us.machine || holder.boot_id != us.boot_id) return false;
  return ::kill(holder.pid, 0) != 0 && errno == ESRCH;
}

Result<void> waitAWhile(const CancelToken* cancel) {
  pollfd fd{cancel ? cancel->fd() : -1, POLLIN, 0};
  (void)::poll(&fd, 1, static_cast<int>(kPollEvery.count()));
  if (cancel && cancel->cancelled())
    return fail(Code::kCancelled, "interrupted while waiting for the lock");
  return {};
}

// What stands in the way of taking the lock; nothing when it is free.
struct Obstacle {
  std::string who;
  bool replaceable = false;
};

Result<std::optional<Obstacle>> obstacleIn(const protocol::RegisterValue& value,
                                           const Identity& us) {
  if (value.value.isNull()) return std::nullopt;
  CCTL_TRY(const LockHolder holder, decodeLock(value.value));
  return Obstacle{describe(holder, value.age),
                  value.age > kLeaseDuration || holderIsGone(holder.identity, us)};
}

}  // namespace

JsonText encodeLock(const LockHolder& holder) {
  const Identity& who = holder.identity;
  return {dumpJson(Json{{"format", 1},
                        {"login", who.login},
                        {"machine", who.machine},
                        {"boot_id", who.boot_id},
                        {"pid", who.pid},
                        {"ci_job", who.ci_job},
                        {"reason", holder.reason},
                        {"since", formatTime(holder.since)}})};
}

Result<LockHolder> decodeLock(const JsonText& value) {
  CCTL_TRY(const Json json, parseJson(value.text));
  try {
    LockHolder holder;
    holder.identity = {json.at("login"), json.at("machine"), json.at("boot_id"), json.at("pid"),
                       json.at("ci_job")};
    holder.reason = json.at("reason");
    CCTL_TRY(holder.since, parseTime(json.at("since").get<std::string>()));
    return holder;
  } catch (const std::exception& error) {
    return fail(Code::kCorrupt, "the lock in the registry cannot be read: {}", error.what());
  }
}

Result<std::unique_ptr<Lease>> Lease::acquire(registry::Registers& registers,
                                              const std::string& service, const LockHolder& holder,
                                              Millis wait, EventSink& events,
                                              const CancelToken* cancel) {
  const std::string key = lockKey(service);
  const Deadline deadline = Deadline::in(wait);
  bool told = false;
  for (;;) {
    CCTL_TRY(const protocol::RegisterValue current, registers.read(key));
    CCTL_TRY(const auto obstacle, obstacleIn(current, holder.identity));
    if (!obstacle || obstacle->replaceable) {
      if (obstacle)
        events.warning(service,
                       fmt::format("took over the lock that {} left behind", obstacle->who));
      CCTL_TRY(const auto reply, registers.write(key, current.revision, encodeLock(holder)));
      if (reply.swapped)
        return std::unique_ptr<Lease>(new Lease(registers, key, holder, reply.current.revision));
      continue;
    }
    if (deadline.passed())
      return fail(Code::kLocked,
                  "{}: another operation is in progress: {}; wait for it with --lock-wait", service,
                  obstacle->who);
    if (!told) events.step(service, fmt::format("waiting for {}", obstacle->who));
    told = true;
    CCTL_CHECK(waitAWhile(cancel));
  }
}

Lease::Lease(registry::Registers& registers, std::string key, LockHolder holder, uint64_t revision)
    : registers_(registers),
      key_(std::move(key)),
      holder_(std::move(holder)),
      token_(revision),
      revision_(revision),
      renewer_([this] { renewUntilReleased(); }) {}

Lease::~Lease() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  released_.notify_all();
  renewer_.join();
  // Should this fail, the lease runs out by itself.
  if (!lost_) (void)registers_.write(key_, revision_, JsonText{});
}

bool Lease::held() const {
  const std::lock_guard lock(mutex_);
  return !lost_ && std::chrono::steady_clock::now() - renewed_ < kLeaseDuration;
}

void Lease::renewUntilReleased() {
  std::unique_lock lock(mutex_);
  while (!released_.wait_for(lock, kHeartbeatEvery, [this] { return stopping_; })) {
    lock.unlock();
    renew();
    lock.lock();
    if (lost_) return;
  }
}

void Lease::renew() {
  const auto before = std::chrono::steady_clock::now();
  const auto reply = registers_.write(key_, revision_, encodeLock(holder_));
  const std::lock_guard lock(mutex_);
  if (!reply) return;  // tried again at the next beat; held() counts the time
  const bool ours = reply->swapped || reply->current.value == encodeLock(holder_);
  lost_ = !ours;
  if (!ours) return;
  revision_ = reply->current.revision;
  renewed_ = before;
}

}  // namespace cctl::ops
