// Sockets of the shim that cannot be bound.
#include "shim/listeners.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>

#include "shim/notify_socket.h"
#include "support.h"

namespace cctl::shim {
namespace {

TEST_CASE("listeners: what cannot be bound is tried again each second, and told twice in all") {
  ManualClock clock;
  EventLoop loop(clock);
  std::vector<std::string> told;
  Listeners listeners(loop, [&](bool stands, const std::string& text) {
    told.push_back((stands ? "+ " : "- ") + text);
  });
  int tries = 0;
  std::string why = "/a: no room";
  CHECK(listeners.add("/b", [] { return Result<void>(); }));
  CHECK(told.empty());
  CHECK_FALSE(listeners.add("/a", [&]() -> Result<void> {
    ++tries;
    if (why.empty()) return {};
    return fail(Code::kNoSpace, "{}", why);
  }));
  CHECK(tries == 1);
  for (int i = 0; i < 5; ++i) loop.turn(Millis(0));
  CHECK(tries == 1);  // the loop does not spin
  for (int i = 0; i < 3; ++i) {
    clock.advance(Millis(1000));
    loop.turn(Millis(0));
  }
  CHECK(tries == 4);
  why = "/a: read-only";
  clock.advance(Millis(1000));
  loop.turn(Millis(0));
  CHECK(told ==
        std::vector<std::string>{"- /a: no room: cannot be opened, tried again each second"});
  REQUIRE(listeners.problems().size() == 1);
  CHECK(listeners.problems()[0].starts_with("/a: read-only"));
  why.clear();
  clock.advance(Millis(1000));
  loop.turn(Millis(0));
  CHECK(listeners.problems().empty());
  REQUIRE(told.size() == 2);
  CHECK(told[1] == "+ /a is open now");
  clock.advance(Millis(10'000));
  loop.turn(Millis(0));
  CHECK(tries == 6);
}

void send(const std::string& address, const std::string& text) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path, address.data(), address.size());
  if (address.front() == '@') name.sun_path[0] = '\0';
  const Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  REQUIRE(::sendto(socket.get(), text.data(), text.size(), 0,
                   reinterpret_cast<const sockaddr*>(&name),
                   static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address.size())) ==
          static_cast<ssize_t>(text.size()));
}

TEST_CASE("notify socket: services that begin while it cannot be bound are heard all the same") {
  TempDir dir;
  const std::string path = dir / "notify.sock";
  REQUIRE(::mkdir(path.c_str(), 0755) == 0);
  SystemClock clock;
  EventLoop loop(clock);
  auto ends = FdStore::makeEnds();
  FdStore fds(std::move(ends->first), std::move(ends->second));
  std::vector<std::string> heard;
  const auto hear = [&](int pid, const std::map<std::string, std::string>& said) {
    CHECK(pid == ::getpid());
    for (const auto& [key, value] : said) heard.push_back(value);
  };
  {
    NotifySocket socket(loop, fds, path, hear);
    CHECK_FALSE(socket.listen());
    CHECK(socket.address() == "@" + path);
    send(socket.address(), "READY=one");
    turnUntil(loop, [&] { return heard.size() == 1; });
    CHECK_FALSE(socket.listen());
    REQUIRE(::rmdir(path.c_str()) == 0);
    CHECK(socket.listen());
    CHECK(socket.address() == path);
    send(path, "READY=two");
    turnUntil(loop, [&] { return heard.size() == 2; });
    send("@" + path, "WATCHDOG=one");  // of the one that has that address since
    turnUntil(loop, [&] { return heard.size() == 3; });
  }
  // What is said while there is no supervisor is heard by the next one.
  send("@" + path, "WATCHDOG=again");
  send(path, "WATCHDOG=two");
  fds.load();
  NotifySocket next(loop, fds, path, hear);
  CHECK(next.listen());
  turnUntil(loop, [&] { return heard.size() == 5; });
}

}  // namespace
}  // namespace cctl::shim
