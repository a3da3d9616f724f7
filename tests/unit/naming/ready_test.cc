#include "clusterctl/ready.h"

#include <fcntl.h>

#include <cstdlib>

#include "unit/naming/fake_shim.h"

namespace {

int datagramSocket(const std::string& path) {
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  return fd;
}

std::string received(int fd) {
  char buffer[2000];
  const ssize_t got = ::recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
  return got < 0 ? "" : std::string(buffer, static_cast<std::size_t>(got));
}

}  // namespace

TEST_CASE("ready: what is told reaches the socket; without one nothing happens") {
  ::unsetenv("NOTIFY_SOCKET");
  CHECK(clusterctl_ready() == 0);
  const fixture::Root root;
  const int fd = datagramSocket(root.socket());
  ::setenv("NOTIFY_SOCKET", root.socket().c_str(), 1);
  CHECK(clusterctl_ready() == 1);
  CHECK(received(fd) == "READY=1");
  CHECK(clusterctl_status("busy\nREADY=1") == 1);
  CHECK(received(fd) == "STATUS=busy READY=1");
  CHECK(clusterctl_status(std::string(5000, 'x').c_str()) == 1);
  CHECK(received(fd).size() < 1100);
  CHECK(clusterctl_watchdog() == 1);
  CHECK(received(fd) == "WATCHDOG=1");
  CHECK(clusterctl_stopping() == 1);
  ::close(fd);
  CHECK(clusterctl_ready() == -1);
  ::setenv("NOTIFY_SOCKET", "relative", 1);
  CHECK(clusterctl_ready() == -1);
  ::unsetenv("NOTIFY_SOCKET");
}

TEST_CASE("ready: a watchdog and sockets only when they are meant for this process") {
  const std::string me = std::to_string(::getpid());
  CHECK(clusterctl_watchdog_usec() == 0);
  ::setenv("WATCHDOG_USEC", "3000000", 1);
  CHECK(clusterctl_watchdog_usec() == 3'000'000);
  ::setenv("WATCHDOG_PID", "1", 1);
  CHECK(clusterctl_watchdog_usec() == 0);
  ::unsetenv("WATCHDOG_USEC");
  ::unsetenv("WATCHDOG_PID");

  CHECK(clusterctl_listen_fd(nullptr) == -1);
  ::setenv("LISTEN_FDS", "2", 1);
  ::setenv("LISTEN_FDNAMES", "main:admin", 1);
  CHECK(clusterctl_listen_fd("main") == -1);
  ::setenv("LISTEN_PID", me.c_str(), 1);
  if (::fcntl(3, F_GETFD) >= 0) CHECK(clusterctl_listen_fd("main") == 3);
  CHECK(clusterctl_listen_fd("other") == -1);
  ::setenv("LISTEN_FDS", "x", 1);
  CHECK(clusterctl_listen_fd("main") == -1);
  for (const char* name : {"LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"}) ::unsetenv(name);
}
