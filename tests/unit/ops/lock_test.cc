#include "ops/lock.h"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ops/fenced_registers.h"
#include "registry/membership.h"
#include "unit/ops/memory_registers.h"

using namespace cctl;
using namespace cctl::ops;

namespace {

class Heard final : public EventSink {
 public:
  void onEvent(const OpEvent& event) override { events.push_back(event); }
  std::vector<OpEvent> events;
};

ChangeRecord holderWith(int pid, std::string machine = "ws1") {
  ChangeRecord holder;
  holder.identity = {"alice", std::move(machine), "boot-1", pid, "https://ci/1"};
  holder.command = "clusterctl deploy s 1";
  holder.began = WallTime(Millis(1'700'000'000'000));
  return holder;
}

// The pid of a process that has ended.
int deadPid() {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(0);
  ::waitpid(pid, nullptr, 0);
  return pid;
}

}  // namespace

TEST_CASE("a lock's holder survives a round trip; anything else is corrupt") {
  const ChangeRecord back = decodeLock(encodeLock(holderWith(7))).value();
  CHECK(back.identity.text() == "alice@ws1 (https://ci/1)");
  CHECK(back.identity.pid == 7);
  CHECK(back.command == "clusterctl deploy s 1");
  CHECK(back.began == holderWith(7).began);
  for (const char* bad : {"{}", "[]", "7", "{\"login\":1}"})
    CHECK(decodeLock({bad}).error().code == Code::kCorrupt);
}

TEST_CASE("one at a time: the second is told who holds it; a release frees it; tokens rise") {
  test::MemoryRegisters registers;
  Heard heard;
  auto first = Lease::acquire(registers, {"s", holderWith(::getpid()), Millis(0)}, heard, nullptr);
  REQUIRE(first);
  CHECK((*first)->held());
  auto second =
      Lease::acquire(registers, {"s", holderWith(::getpid(), "ws2"), Millis(0)}, heard, nullptr);
  REQUIRE_FALSE(second);
  CHECK(second.error().code == Code::kLocked);
  CHECK(second.error().message.find("alice@ws1") != std::string::npos);
  CHECK(Lease::acquire(registers, {"other", holderWith(::getpid()), Millis(0)}, heard, nullptr));
  const uint64_t token = (*first)->token();
  first->reset();
  second =
      Lease::acquire(registers, {"s", holderWith(::getpid(), "ws2"), Millis(0)}, heard, nullptr);
  REQUIRE(second);
  CHECK((*second)->token() > token);
}

TEST_CASE("a holder that is not heard of for the lease's duration is replaced, and that is said") {
  test::MemoryRegisters registers;
  Heard heard;
  REQUIRE(registers.write("lock/s", 0, encodeLock(holderWith(1, "elsewhere"))));
  CHECK_FALSE(Lease::acquire(registers, {"s", holderWith(::getpid()), Millis(0)}, heard, nullptr));
  registers.age = kLeaseDuration + Millis(1);
  REQUIRE(Lease::acquire(registers, {"s", holderWith(::getpid()), Millis(0)}, heard, nullptr));
  REQUIRE(heard.events.size() == 1);
  CHECK(heard.events[0].text.find("alice@elsewhere") != std::string::npos);
}

TEST_CASE("a holder whose process has ended on this machine is replaced at once") {
  test::MemoryRegisters registers;
  Heard heard;
  REQUIRE(registers.write("lock/s", 0, encodeLock(holderWith(deadPid()))));
  CHECK(Lease::acquire(registers, {"s", holderWith(::getpid()), Millis(0)}, heard, nullptr));
}

TEST_CASE("waiting for a lock ends with it, or with Ctrl-C") {
  test::MemoryRegisters registers;
  Heard heard;
  auto first =
      Lease::acquire(registers, {"s", holderWith(::getpid(), "a"), Millis(0)}, heard, nullptr)
          .value();
  std::thread release([&] { first.reset(); });
  CHECK(Lease::acquire(registers, {"s", holderWith(::getpid(), "b"), Millis(60'000)}, heard,
                       nullptr));
  release.join();
  auto again =
      Lease::acquire(registers, {"s", holderWith(::getpid(), "a"), Millis(0)}, heard, nullptr)
          .value();
  CancelToken cancel;
  cancel.cancel();
  CHECK(
      Lease::acquire(registers, {"s", holderWith(::getpid(), "b"), Millis(60'000)}, heard, &cancel)
          .error()
          .code == Code::kCancelled);
}

TEST_CASE("tokens compare as (incarnation, revision)") {
  CHECK(fencingToken(0, 2) > fencingToken(0, 1));
  CHECK(fencingToken(1, 1) > fencingToken(0, 1'000'000));
  CHECK(fencingToken(2, 1) > fencingToken(1, 1'000'000'000));
  test::MemoryRegisters registers;
  Heard heard;
  const auto token = [&] {
    return Lease::acquire(registers, {"s", holderWith(::getpid()), Millis(0)}, heard, nullptr)
        .value()
        ->token();
  };
  const uint64_t before = token();
  const registry::Membership recovered{"c", {1, 1}, {{{"host1", "0123abcd"}}, false}, std::nullopt};
  REQUIRE(registers.write(registry::kConfigKey, 0, registry::encodeConfig(recovered)));
  CHECK(token() >= fencingToken(1, 0));
  CHECK(token() > before);
}

TEST_CASE("a lock that was taken by force is lost, and its old owner can say to whom") {
  test::MemoryRegisters registers;
  Heard heard;
  ChangeRecord alice = holderWith(::getpid());
  alice.id = "a";
  ChangeRecord bob = holderWith(::getpid(), "ws2");
  bob.id = "b";
  const auto old = Lease::acquire(registers, {"s", alice, Millis(0)}, heard, nullptr).value();
  FencedRegisters fenced(registers);
  fenced.guard(*old);
  REQUIRE(fenced.write("desired/s", 0, {"1"}));
  const auto fresh = Lease::acquire(registers, {"s", bob, Millis(0), true}, heard, nullptr).value();
  REQUIRE(fresh->leftBehind());
  CHECK(fresh->leftBehind()->holder.id == "a");
  CHECK(fresh->token() > old->token());
  alice.to = "2.0";
  old->note(alice);  // a heartbeat
  CHECK_FALSE(old->held());
  CHECK(old->lost().code == Code::kLocked);
  CHECK(old->lost().message.find("alice@ws2") != std::string::npos);
  for (const char* key : {"desired/s", "endpoints/s"}) {
    const auto refused = fenced.write(key, 1, {"2"});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Code::kLocked);
  }
  CHECK(fenced.write("desired/other", 0, {"1"}));
  fenced.release(*old);
  CHECK(fenced.write("desired/s", 1, {"2"}));
}

TEST_CASE("what cannot be read as a lock keeps everybody out but lock break") {
  test::MemoryRegisters registers;
  Heard heard;
  REQUIRE(registers.write("lock/s", 0, {"{\"format\":9}"}));
  const auto plain =
      Lease::acquire(registers, {"s", holderWith(::getpid()), Millis(0)}, heard, nullptr);
  REQUIRE_FALSE(plain);
  CHECK(plain.error().code == Code::kCorrupt);
  CHECK(Lease::acquire(registers, {"s", holderWith(::getpid()), Millis(0), true}, heard, nullptr));
}

TEST_CASE("locks are listed with their holders") {
  test::MemoryRegisters registers;
  Heard heard;
  CHECK(readAllLocks(registers).value().empty());
  const auto a =
      Lease::acquire(registers, {"a", holderWith(::getpid()), Millis(0)}, heard, nullptr).value();
  registers.age = Millis(20'000);
  const auto locks = readAllLocks(registers).value();
  REQUIRE(locks.size() == 1);
  CHECK(locks[0].service == "a");
  CHECK(locks[0].expired());
  CHECK(locks[0].holder.identity.ci_job == "https://ci/1");
}
