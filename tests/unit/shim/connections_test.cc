#include "shim/connections.h"

#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "support.h"

using namespace cctl;
using namespace cctl::shim;

namespace {

constexpr const char* kTable =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "
    "inode\n"
    "   0: 0100007F:520A 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 "
    "4242 1 0 100 0 0 10 0\n"
    "   1: 0100007F:520A 0200007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 "
    "4243 1 0 20 4 30 10 -1\n";
constexpr const char* kTable6 =
    "   0: 0000000000000000FFFF00000B00000A:520A 0000000000000000FFFF00000C00000A:0050 08 "
    "00000000:00000000 00:00000000 00000000     0        0 7 1 0 20 4 30 10 -1\n"
    "   1: 00000000000000000000000001000000:520A 00000000000000000000000001000000:0051 01 "
    "00000000:00000000 00:00000000 00000000     0        0 8 1 0 20 4 30 10 -1\n";

int portOf(int fd) {
  sockaddr_in address{};
  socklen_t length = sizeof address;
  REQUIRE(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0);
  return ntohs(address.sin_port);
}

Fd listening() {
  Fd fd(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(::listen(fd.get(), 8) == 0);
  return fd;
}

Fd connectedTo(int port) {
  Fd fd(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  return fd;
}

// A session of its own, as a service is, that accepts one connection each time it is told to.
class Acceptor {
 public:
  explicit Acceptor(int socket) {
    REQUIRE(::pipe(told_) == 0);
    REQUIRE(::pipe(said_) == 0);
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      ::setsid();
      char byte = 0;
      ssize_t moved = ::write(said_[1], "s", 1);
      while (moved == 1 && ::read(told_[0], &byte, 1) == 1)
        if (::accept(socket, nullptr, nullptr) >= 0) moved = ::write(said_[1], "a", 1);
      ::_exit(0);
    }
    wait();
  }
  ~Acceptor() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    for (const int fd : {told_[0], told_[1], said_[0], said_[1]}) ::close(fd);
  }
  void accept() {
    REQUIRE(::write(told_[1], "a", 1) == 1);
    wait();
  }
  int pid() const { return pid_; }

 private:
  void wait() {
    char byte = 0;
    REQUIRE(::read(said_[0], &byte, 1) == 1);
  }
  int told_[2];
  int said_[2];
  int pid_ = 0;
};

Supervisor::Running service(int generation, int pid, int port, bool shared) {
  Supervisor::Running one;
  one.ref = {"svc", 0};
  one.version = "1";
  one.pid = pid;
  one.generation = generation;
  one.ports = {{"main", port}};
  if (shared) one.sockets = {"main"};
  return one;
}

size_t countTo(int generation, const std::vector<Supervisor::Running>& running) {
  protocol::ConnectionsRequest request;
  request.service = "svc";
  request.generation = generation;
  return connectionsToServices(request, running).size();
}

}  // namespace

TEST_CASE(
    "the kernel's table: addresses of both families, states, inodes; nonsense is passed over") {
  const auto sockets = parseTcpTable(kTable);
  REQUIRE(sockets.size() == 2);
  CHECK(sockets[0].state == TcpState::kListen);
  CHECK(sockets[1].local() == "127.0.0.1:21002");
  CHECK(sockets[1].peer() == "127.0.0.2:54321");
  CHECK(sockets[1].inode == 4243);
  const auto six = parseTcpTable(kTable6);
  REQUIRE(six.size() == 2);
  CHECK(six[0].local() == "10.0.0.11:21002");
  CHECK(six[0].peer() == "10.0.0.12:80");
  CHECK(six[0].state == TcpState::kCloseWait);
  CHECK(six[1].local() == "[::1]:21002");
  CHECK(parseTcpTable("0: 01:02 03:04 01 0 0 0 0 0 9\n\n : :\n0: 0100007F:99999 0:0 01 0 0 0 0 0 1")
            .empty());
}

TEST_CASE("connections to a port of its own count from the moment that the kernel took them") {
  const Fd listener = listening();
  const int port = portOf(listener.get());
  Acceptor acceptor(listener.get());
  const std::vector<Supervisor::Running> running = {service(1, acceptor.pid(), port, false)};
  CHECK(countTo(1, running) == 0);
  Fd client = connectedTo(port);
  CHECK(countTo(1, running) == 1);
  CHECK(countTo(2, running) == 0);
  acceptor.accept();
  protocol::ConnectionsRequest request;
  const auto found = connectionsToServices(request, running);
  REQUIRE(found.size() == 1);
  CHECK(found[0].port == "main");
  CHECK(found[0].pid == acceptor.pid());
  CHECK(found[0].peer == fmt::format("127.0.0.1:{}", portOf(client.get())));
}

TEST_CASE("of a socket that two generations share each has the connections that it accepted") {
  const Fd listener = listening();
  const int port = portOf(listener.get());
  Acceptor before(listener.get());
  Acceptor after(listener.get());
  const std::vector<Supervisor::Running> running = {service(1, before.pid(), port, true),
                                                    service(2, after.pid(), port, true)};
  const Fd first = connectedTo(port);
  CHECK(countTo(0, running) == 0);  // nobody's yet
  before.accept();
  const Fd second = connectedTo(port), third = connectedTo(port);
  after.accept();
  after.accept();
  CHECK(countTo(1, running) == 1);
  CHECK(countTo(2, running) == 2);
}

TEST_CASE("who here is connected to an address: process, and service where it is one") {
  const Fd listener = listening();
  const int port = portOf(listener.get());
  const Fd client = connectedTo(port);
  const std::string address = fmt::format("127.0.0.1:{}", port);
  CHECK(connectionsFromHere({"127.0.0.1:1"}, {}).empty());
  const auto found = connectionsFromHere({address}, {});
  REQUIRE(found.size() == 1);
  CHECK(found[0].peer == address);
  CHECK(found[0].pid == ::getpid());
  CHECK(found[0].service.empty());
  const auto named = connectionsFromHere({address}, {service(3, ::getpid(), 1, false)});
  REQUIRE(named.size() == 1);
  CHECK(named[0].service == "svc");
  CHECK(named[0].generation == 3);
}
