#include "ops/lock.h"

#include <poll.h>
#include <signal.h>

#include <cerrno>
#include <nlohmann/json.hpp>

#include "registry/membership.h"

namespace cctl::ops {
namespace {

constexpr int kFormat = 1;
constexpr Millis kPollEvery{300};
constexpr std::string_view kPrefix = "lock/";

std::string lockKey(const std::string& service) { return std::string(kPrefix) + service; }

Result<void> waitAWhile(const CancelToken* cancel) {
  pollfd fd{cancel ? cancel->fd() : -1, POLLIN, 0};
  (void)::poll(&fd, 1, static_cast<int>(kPollEvery.count()));
  if (cancel && cancel->cancelled())
    return fail(Code::kCancelled, "interrupted while waiting for the lock");
  return {};
}

Result<std::optional<LockState>> stateOf(const std::string& service,
                                         const protocol::RegisterValue& value) {
  if (value.value.isNull()) return std::nullopt;
  CCTL_TRY(ChangeRecord holder, decodeLock(value.value));
  return LockState{service, std::move(holder), value.revision, value.age};
}

// 1 until the registry was recovered by force; 0 before there is one.
Result<uint64_t> readIncarnation(registry::Registers& registers) {
  CCTL_TRY(const protocol::RegisterValue value, registers.read(registry::kConfigKey));
  if (value.value.isNull()) return 0;
  CCTL_TRY(const registry::Membership membership, registry::decodeConfig(value.value));
  return membership.epoch.incarnation;
}

bool isFree(const std::optional<LockState>& lock, const LockRequest& request) {
  return !lock || request.force || isLeftBehind(*lock, request.holder.identity);
}

// The revision at which the lock is ours, or nothing when somebody was faster. A write without an
// answer is read back: a lock that nobody knows he holds would stand in everybody's way.
Result<std::optional<uint64_t>> tryTake(registry::Registers& registers, const LockRequest& request,
                                        uint64_t expected) {
  const JsonText value = encodeLock(request.holder);
  const auto reply = registers.write(lockKey(request.service), expected, value);
  if (reply)
    return reply->swapped ? std::optional<uint64_t>(reply->current.revision) : std::nullopt;
  if (reply.error().code != Code::kUnknownOutcome) return fail(reply.error());
  auto now = registers.read(lockKey(request.service));
  if (!now) return fail(reply.error());
  return now->value == value ? std::optional<uint64_t>(now->revision) : std::nullopt;
}

}  // namespace

bool holderIsGone(const Identity& holder, const Identity& us) {
  if (holder.machine != us.machine || holder.boot_id != us.boot_id) return false;
  return ::kill(holder.pid, 0) != 0 && errno == ESRCH;
}

bool isLeftBehind(const LockState& lock, const Identity& us) {
  return lock.expired() || holderIsGone(lock.holder.identity, us);
}

Error heldBySomebody(const LockState& lock) {
  return {Code::kLocked,
          fmt::format("{}: another operation is in progress: {}; wait for it with --lock-wait, see "
                      "'clusterctl lock show'",
                      lock.service, describeLock(lock))};
}

uint64_t fencingToken(uint64_t incarnation, uint64_t revision) {
  return incarnation << 40 | revision;
}

JsonText encodeLock(const ChangeRecord& holder) {
  Json json = encodeChange(holder);
  json["format"] = kFormat;
  return {dumpJson(json)};
}

Result<ChangeRecord> decodeLock(const JsonText& value) {
  CCTL_TRY(const Json json, parseJson(value.text));
  try {
    if (json.at("format") != kFormat)
      return fail(Code::kCorrupt, "the lock is of a newer clusterctl; use that one");
    return decodeChange(json);
  } catch (const std::exception& error) {
    return fail(Code::kCorrupt, "the lock in the registry cannot be read: {}", jsonProblem(error));
  }
}

std::string describeLock(const LockState& lock) {
  return fmt::format("{} (\"{}\", since {}, last heard of {} ago)", lock.holder.identity.text(),
                     lock.holder.command, formatTime(lock.holder.began), humanDuration(lock.age));
}

Result<std::optional<LockState>> readLock(registry::Registers& registers,
                                          const std::string& service) {
  CCTL_TRY(const protocol::RegisterValue value, registers.read(lockKey(service)));
  return stateOf(service, value);
}

Result<std::vector<LockState>> readAllLocks(registry::Registers& registers) {
  CCTL_TRY(const std::vector<std::string> keys, registers.list(std::string(kPrefix)));
  std::vector<LockState> locks;
  for (const std::string& key : keys) {
    CCTL_TRY(auto lock, readLock(registers, key.substr(kPrefix.size())));
    if (lock) locks.push_back(std::move(*lock));
  }
  return locks;
}

Result<std::unique_ptr<Lease>> Lease::acquire(registry::Registers& registers,
                                              const LockRequest& request, EventSink& events,
                                              const CancelToken* cancel) {
  const Deadline deadline = Deadline::in(request.wait);
  CCTL_TRY(const uint64_t incarnation, readIncarnation(registers));
  for (bool told = false;;) {
    CCTL_TRY(const protocol::RegisterValue current, registers.read(lockKey(request.service)));
    auto state = stateOf(request.service, current);
    if (!state && request.force) state = std::optional<LockState>();  // not even readable: broken
    if (!state) return fail(state.error());
    std::optional<LockState> lock = std::move(*state);
    if (isFree(lock, request)) {
      CCTL_TRY(const auto revision, tryTake(registers, request, current.revision));
      if (!revision) continue;
      if (lock)
        events.warning(
            request.service,
            fmt::format("took over the lock {} {}",
                        request.force ? "of" : "that was left behind by", describeLock(*lock)));
      return std::unique_ptr<Lease>(new Lease(
          registers, request, {*revision, fencingToken(incarnation, *revision), std::move(lock)}));
    }
    if (deadline.passed()) return fail(heldBySomebody(*lock));
    if (!told) events.step(request.service, fmt::format("waiting for {}", describeLock(*lock)));
    told = true;
    CCTL_CHECK(waitAWhile(cancel));
  }
}

Lease::Lease(registry::Registers& registers, const LockRequest& request, Taken taken)
    : registers_(registers),
      service_(request.service),
      token_(taken.token),
      left_behind_(std::move(taken.left_behind)),
      holder_(request.holder),
      revision_(taken.revision),
      renewer_([this] { renewUntilReleased(); }) {}

Lease::~Lease() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  released_.notify_all();
  renewer_.join();
  // Should this fail, the lease runs out by itself.
  if (!lost_) (void)registers_.write(lockKey(service_), revision_, JsonText{});
}

bool Lease::held() const {
  const std::lock_guard lock(mutex_);
  return !lost_ && std::chrono::steady_clock::now() - renewed_ < kLeaseDuration;
}

Error Lease::lost() const {
  const auto lock = readLock(registers_, service_);
  std::string now;
  if (!lock) now = "who holds it now is not known: " + lock.error().message;
  if (lock && !*lock) now = "nobody holds it now";
  if (lock && *lock) {
    const bool ours = (*lock)->holder.id == holder().id;
    now = ours ? "it could not be renewed in time" : "it is held now by " + describeLock(**lock);
  }
  return {Code::kLocked, fmt::format("the lock on {} was lost: {}", service_, now)};
}

ChangeRecord Lease::holder() const {
  const std::lock_guard lock(mutex_);
  return holder_;
}

void Lease::note(const ChangeRecord& holder) {
  {
    const std::lock_guard lock(mutex_);
    if (holder_ == holder) return;
    holder_ = holder;
  }
  renew();
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

// Ours is what carries our id: an earlier beat may have been written without an answer.
void Lease::renew() {
  const std::lock_guard writing(writing_);
  const auto before = std::chrono::steady_clock::now();
  std::unique_lock lock(mutex_);
  const ChangeRecord holder = holder_;
  const uint64_t revision = revision_;
  lock.unlock();
  const auto reply = registers_.write(lockKey(service_), revision, encodeLock(holder));
  lock.lock();
  if (!reply) return;  // tried again at the next beat; held() counts the time
  const auto now = decodeLock(reply->current.value);
  const bool ours = reply->swapped || (now && now->id == holder.id && !holder.id.empty());
  lost_ = !ours;
  if (!ours) return;
  revision_ = reply->current.revision;
  if (reply->swapped) renewed_ = before;
}

}  // namespace cctl::ops
