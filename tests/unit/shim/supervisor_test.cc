#include <set>

#include "shim/backoff.h"
#include "shim/machine.h"
#include "shim/ports.h"
#include "support.h"

namespace cctl::shim {
namespace {

using protocol::InstanceState;
using A = ProcessAction;
using E = ProcessEvent;
using S = InstanceState;

TEST_CASE("the table: what each state makes of each event") {
  CHECK(actionFor(S::kStopped, E::kStart) == A::kLaunch);
  CHECK(actionFor(S::kStarting, E::kStart) == A::kJoin);
  CHECK(actionFor(S::kReady, E::kStart) == A::kAlready);
  CHECK(actionFor(S::kStopping, E::kStart) == A::kStartAfter);
  CHECK(actionFor(S::kBackoff, E::kTimer) == A::kLaunch);
  CHECK(actionFor(S::kStopping, E::kTimer) == A::kKill);
  CHECK(actionFor(S::kStarting, E::kExit) == A::kDied);
  CHECK(actionFor(S::kReady, E::kExit) == A::kDied);
  CHECK(actionFor(S::kStopping, E::kExit) == A::kStopped);
  CHECK(actionFor(S::kFailed, E::kStop) == A::kRest);
  CHECK(actionFor(S::kBackoff, E::kStop) == A::kRest);
  // A late answer of a probe or a timer that lost its race changes nothing.
  CHECK(actionFor(S::kStopping, E::kReady) == A::kIgnore);
  CHECK(actionFor(S::kReady, E::kTimeout) == A::kIgnore);
  CHECK(actionFor(S::kStopped, E::kExit) == A::kIgnore);
}

protocol::RestartPolicy policy(int limit = 100) {
  protocol::RestartPolicy made;
  made.backoff_min = Millis(100);
  made.backoff_max = Millis(3'000);
  made.limit_count = limit;
  made.limit_window = Millis(60'000);
  return made;
}

TEST_CASE("backoff: at once after a healthy life, then growing with jitter up to the most") {
  ManualClock clock;
  Backoff backoff(policy(), 1);
  backoff.wasReadyFor(Millis(1'000));
  CHECK(backoff.next(clock.steady()) == Millis(0));
  Millis expected(100);
  for (int i = 0; i < 8; ++i) {
    clock.advance(Millis(10));
    backoff.wasReadyFor(Millis(10));
    const auto delay = backoff.next(clock.steady());
    REQUIRE(delay);
    CHECK(*delay >= expected * 4 / 5);
    CHECK(*delay <= expected * 6 / 5);
    expected = std::min(expected * 2, Millis(3'000));
  }
  backoff.wasReadyFor(Backoff::kStable);
  CHECK(backoff.next(clock.steady()) == Millis(0));
}

TEST_CASE("backoff: what never became ready again waits from the first time on") {
  ManualClock clock;
  Backoff backoff(policy(), 1);
  CHECK(*backoff.next(clock.steady()) >= Millis(80));
}

TEST_CASE("backoff: more restarts than the limit within the window end it; later ones count anew") {
  ManualClock clock;
  Backoff backoff(policy(3), 1);
  for (int i = 0; i < 3; ++i) CHECK(backoff.next(clock.steady()));
  CHECK_FALSE(backoff.next(clock.steady()));
  clock.advance(Millis(60'000));
  CHECK(backoff.next(clock.steady()));
  backoff.reset();
  for (int i = 0; i < 3; ++i) CHECK(backoff.next(clock.steady()));
  CHECK_FALSE(Backoff(policy(0)).next(clock.steady()));
}

protocol::PortWish wish(const std::string& name, int fixed = 0) {
  protocol::PortWish made;
  made.name = name;
  made.fixed = fixed;
  return made;
}

TEST_CASE("ports: inside the pool, different, none that is taken or spoken for") {
  std::set<int> busy = {101, 102};
  PortChooser chooser([&](int port) { return busy.count(port) == 0; }, 3);
  ReservedPorts reserved{{103}, {104}, {105}};
  for (int i = 0; i < 50; ++i) {
    const auto ports = chooser.choose({wish("a"), wish("b")}, {100, 108}, reserved);
    REQUIRE(ports);
    CHECK(ports->at("a") != ports->at("b"));
    for (const auto& [name, port] : *ports) {
      CHECK(port >= 100);
      CHECK(port <= 108);
      CHECK(std::set<int>{101, 102, 103, 104, 105}.count(port) == 0);
    }
  }
}

TEST_CASE("ports: not always the lowest, so that a port rests after use") {
  std::set<int> seen;
  PortChooser chooser([](int) { return true; }, 3);
  for (int i = 0; i < 50; ++i)
    seen.insert(chooser.choose({wish("a")}, {21000, 29999}, {})->at("a"));
  CHECK(seen.size() > 40);
}

TEST_CASE("ports: an exhausted pool, a bad pool and bad wishes are errors that say so") {
  PortChooser none([](int) { return false; });
  auto ports = none.choose({wish("a")}, {100, 108}, {});
  REQUIRE_FALSE(ports);
  CHECK(ports.error().message.find("100-108") != std::string::npos);
  PortChooser all([](int) { return true; });
  CHECK_FALSE(all.choose({wish("a")}, {108, 100}, {}));
  CHECK_FALSE(all.choose({wish("a")}, {0, 70000}, {}));
  CHECK_FALSE(all.choose({wish("a"), wish("a")}, {100, 108}, {}));
  CHECK_FALSE(all.choose({wish("")}, {100, 108}, {}));
  CHECK_FALSE(all.choose({wish("a", 70000)}, {100, 108}, {}));
}

TEST_CASE("ports: a fixed one must be free, unless an older generation of the instance has it") {
  PortChooser busy([](int) { return false; });
  CHECK_FALSE(busy.choose({wish("a", 80)}, {100, 108}, {}));
  CHECK(busy.choose({wish("a", 80)}, {100, 108}, {{}, {80}, {}}));
  PortChooser idle([](int) { return true; });
  CHECK(idle.choose({wish("a", 80)}, {100, 108}, {}));
  CHECK_FALSE(idle.choose({wish("a", 80)}, {100, 108}, {{80}, {}, {}}));
  // An automatic one does not take a fixed one of the same wish list.
  for (int i = 0; i < 20; ++i)
    CHECK(idle.choose({wish("a"), wish("b", 100)}, {100, 101}, {})->at("a") == 101);
}

}  // namespace
}  // namespace cctl::shim
