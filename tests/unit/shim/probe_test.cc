#include "shim/probe.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"

using namespace cctl;
using namespace cctl::shim;

namespace {

// A port of this machine that somebody listens at.
struct Listener {
  Fd socket{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  int port = 0;

  Listener() {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto* raw = reinterpret_cast<sockaddr*>(&address);
    REQUIRE(::bind(socket.get(), raw, length) == 0);
    REQUIRE(::listen(socket.get(), 4) == 0);
    REQUIRE(::getsockname(socket.get(), raw, &length) == 0);
    port = ntohs(address.sin_port);
  }
  Fd accept() const { return Fd(::accept(socket.get(), nullptr, nullptr)); }
};

ProbeTarget targetAt(const Listener& listener, protocol::ProbeKind kind) {
  ProbeTarget target;
  target.probe.kind = kind;
  target.probe.path = "/";
  target.addresses = {"127.0.0.1"};
  target.port = listener.port;
  return target;
}

// How often the loop is woken until a timer ends its rest.
int turnsOfRest(EventLoop& loop) {
  bool over = false;
  int turns = 0;
  const Timer rest = loop.after(Millis(30), [&] { over = true; });
  while (!over) {
    loop.turn(Millis(1000));
    ++turns;
  }
  return turns;
}

}  // namespace

TEST_CASE("an attempt that was answered leaves the loop alone, for as long as it is kept") {
  const SystemClock clock;
  EventLoop loop(clock);
  const Listener listener;
  std::string answer;
  const auto done = [&](bool ok, std::string text) { answer = (ok ? "+" : "-") + text; };
  std::unique_ptr<ProbeAttempt> attempt;
  SUBCASE("tcp") {
    attempt = ProbeAttempt::begin(loop, targetAt(listener, protocol::ProbeKind::kTcp), done);
    while (answer.empty()) loop.turn(Millis(1000));
    CHECK(answer == "+connected");
    CHECK(turnsOfRest(loop) < 10);
  }
  SUBCASE("http") {
    for (const auto& [text, told] :
         {std::pair("HTTP/1.1 200 OK", "+HTTP/1.1 200 OK"),
          std::pair("HTTP/1.1 503 Busy", "-HTTP/1.1 503 Busy: no database")}) {
      answer.clear();
      attempt = ProbeAttempt::begin(loop, targetAt(listener, protocol::ProbeKind::kHttp), done);
      loop.turn(Millis(1000));  // it connects: who listens need not accept for that
      {
        const Fd server = listener.accept();
        const std::string whole = std::string(text) + "\r\nSet-Cookie: token=1\r\n\r\nno database";
        REQUIRE(::write(server.get(), whole.data(), whole.size()) ==
                static_cast<ssize_t>(whole.size()));
        ::shutdown(server.get(), SHUT_WR);
        while (answer.empty()) loop.turn(Millis(1000));
        CHECK(answer == told);
        CHECK(turnsOfRest(loop) < 10);
      }
    }
  }
}
