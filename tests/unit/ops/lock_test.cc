#include "ops/lock.h"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit/ops/memory_registers.h"

using namespace cctl;
using namespace cctl::ops;

namespace {

class Heard final : public EventSink {
 public:
  void onEvent(const OpEvent& event) override { events.push_back(event); }
  std::vector<OpEvent> events;
};

LockHolder holderWith(int pid, std::string machine = "ws1") {
  LockHolder holder;
  holder.identity = {"alice", std::move(machine), "boot-1", pid, "https://ci/1"};
  holder.reason = "clusterctl deploy s 1";
  holder.since = WallTime(Millis(1'700'000'000'000));
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
  const LockHolder back = decodeLock(encodeLock(holderWith(7))).value();
  CHECK(back.identity.text() == "alice@ws1 (https://ci/1)");
  CHECK(back.identity.pid == 7);
  CHECK(back.reason == "clusterctl deploy s 1");
  CHECK(back.since == holderWith(7).since);
  for (const char* bad : {"{}", "[]", "7", "{\"login\":1}"})
    CHECK(decodeLock({bad}).error().code == Code::kCorrupt);
}

TEST_CASE("one at a time: the second is told who holds it; a release frees it; tokens rise") {
  test::MemoryRegisters registers;
  Heard heard;
  auto first = Lease::acquire(registers, "s", holderWith(::getpid()), Millis(0), heard, nullptr);
  REQUIRE(first);
  CHECK((*first)->held());
  auto second =
      Lease::acquire(registers, "s", holderWith(::getpid(), "ws2"), Millis(0), heard, nullptr);
  REQUIRE_FALSE(second);
  CHECK(second.error().code == Code::kLocked);
  CHECK(second.error().message.find("alice@ws1") != std::string::npos);
  CHECK(Lease::acquire(registers, "other", holderWith(::getpid()), Millis(0), heard, nullptr));
  const uint64_t token = (*first)->token();
  first->reset();
  second = Lease::acquire(registers, "s", holderWith(::getpid(), "ws2"), Millis(0), heard, nullptr);
  REQUIRE(second);
  CHECK((*second)->token() > token);
}

TEST_CASE("a holder that is not heard of for the lease's duration is replaced, and that is said") {
  test::MemoryRegisters registers;
  Heard heard;
  REQUIRE(registers.write("lock/s", 0, encodeLock(holderWith(1, "elsewhere"))));
  CHECK_FALSE(Lease::acquire(registers, "s", holderWith(::getpid()), Millis(0), heard, nullptr));
  registers.age = kLeaseDuration + Millis(1);
  REQUIRE(Lease::acquire(registers, "s", holderWith(::getpid()), Millis(0), heard, nullptr));
  REQUIRE(heard.events.size() == 1);
  CHECK(heard.events[0].text.find("alice@elsewhere") != std::string::npos);
}

TEST_CASE("a holder whose process has ended on this machine is replaced at once") {
  test::MemoryRegisters registers;
  Heard heard;
  REQUIRE(registers.write("lock/s", 0, encodeLock(holderWith(deadPid()))));
  CHECK(Lease::acquire(registers, "s", holderWith(::getpid()), Millis(0), heard, nullptr));
}

TEST_CASE("waiting for a lock ends with it, or with Ctrl-C") {
  test::MemoryRegisters registers;
  Heard heard;
  auto first =
      Lease::acquire(registers, "s", holderWith(::getpid(), "a"), Millis(0), heard, nullptr)
          .value();
  std::thread release([&] { first.reset(); });
  CHECK(
      Lease::acquire(registers, "s", holderWith(::getpid(), "b"), Millis(60'000), heard, nullptr));
  release.join();
  auto again =
      Lease::acquire(registers, "s", holderWith(::getpid(), "a"), Millis(0), heard, nullptr)
          .value();
  CancelToken cancel;
  cancel.cancel();
  CHECK(Lease::acquire(registers, "s", holderWith(::getpid(), "b"), Millis(60'000), heard, &cancel)
            .error()
            .code == Code::kCancelled);
}
