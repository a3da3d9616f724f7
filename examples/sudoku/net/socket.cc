#include "net/socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace sudoku {
namespace {

constexpr int kFirstInherited = 3;
constexpr int kBacklog = 4096;  // the kernel caps it at net.core.somaxconn

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = sizeof(sockaddr_storage);

  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

// Precondition: address.host is numeric, as parseHostPort gives it.
SocketAddress toSocketAddress(const HostPort& address) {
  SocketAddress result;
  auto* four = reinterpret_cast<sockaddr_in*>(&result.storage);
  if (inet_pton(AF_INET, address.host.c_str(), &four->sin_addr) == 1) {
    four->sin_family = AF_INET;
    four->sin_port = htons(address.port);
    result.length = sizeof(sockaddr_in);
    return result;
  }
  auto* six = reinterpret_cast<sockaddr_in6*>(&result.storage);
  inet_pton(AF_INET6, address.host.c_str(), &six->sin6_addr);
  six->sin6_family = AF_INET6;
  six->sin6_port = htons(address.port);
  result.length = sizeof(sockaddr_in6);
  return result;
}

HostPort toHostPort(const SocketAddress& address) {
  char text[INET6_ADDRSTRLEN] = "?";
  if (address.storage.ss_family == AF_INET) {
    const auto* four = reinterpret_cast<const sockaddr_in*>(&address.storage);
    inet_ntop(AF_INET, &four->sin_addr, text, sizeof text);
    return {text, ntohs(four->sin_port)};
  }
  const auto* six = reinterpret_cast<const sockaddr_in6*>(&address.storage);
  inet_ntop(AF_INET6, &six->sin6_addr, text, sizeof text);
  return {text, ntohs(six->sin6_port)};
}

void setOption(int fd, int level, int name) {
  const int on = 1;
  // These only make things faster or restarts easier: no reason to fail.
  setsockopt(fd, level, name, &on, sizeof on);
}

Fd openSocket(const SocketAddress& address) {
  return Fd(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

Failure systemFailure(const std::string& what) { return Failure{what + std::strerror(errno)}; }

bool meantForThisProcess() {
  const char* pid = std::getenv("LISTEN_PID");
  return pid != nullptr && std::to_string(getpid()) == pid;
}

}  // namespace

OrError<Fd> listenOn(const HostPort& address) {
  SocketAddress to = toSocketAddress(address);
  Fd fd = openSocket(to);
  const std::string where = "cannot listen on " + address.text() + ": ";
  if (!fd.valid()) return systemFailure(where);
  setOption(fd.get(), SOL_SOCKET, SO_REUSEADDR);
  if (bind(fd.get(), to.get(), to.length) != 0) return systemFailure(where);
  if (listen(fd.get(), kBacklog) != 0) return systemFailure(where);
  return fd;
}

Fd beginConnect(const HostPort& address, int* error) {
  SocketAddress to = toSocketAddress(address);
  Fd fd = openSocket(to);
  *error = fd.valid() ? 0 : errno;
  if (!fd.valid()) return fd;
  setOption(fd.get(), IPPROTO_TCP, TCP_NODELAY);
  if (connect(fd.get(), to.get(), to.length) == 0 || errno == EINPROGRESS) return fd;
  *error = errno;
  return Fd();
}

int pendingError(int fd) {
  int error = 0;
  socklen_t length = sizeof error;
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) return errno;
  return error;
}

void prepareAccepted(int fd) { setOption(fd, IPPROTO_TCP, TCP_NODELAY); }

HostPort localAddress(int fd) {
  SocketAddress address;
  if (getsockname(fd, address.get(), &address.length) != 0) return {"?", 0};
  return toHostPort(address);
}

HostPort peerAddress(int fd) {
  SocketAddress address;
  if (getpeername(fd, address.get(), &address.length) != 0) return {"?", 0};
  return toHostPort(address);
}

std::vector<InheritedSocket> takeInheritedSockets() {
  std::vector<InheritedSocket> sockets;
  const char* count_text = std::getenv("LISTEN_FDS");
  const auto count = parseNumber(count_text == nullptr ? "" : count_text, 1, 64);
  if (count && meantForThisProcess()) {
    const char* names_text = std::getenv("LISTEN_FDNAMES");
    const auto names = splitList(names_text == nullptr ? "" : names_text, ':');
    for (std::size_t i = 0; i < *count; ++i) {
      const int fd = kFirstInherited + static_cast<int>(i);
      fcntl(fd, F_SETFD, FD_CLOEXEC);
      fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
      sockets.push_back({i < names.size() ? names[i] : "unknown", Fd(fd)});
    }
  }
  unsetenv("LISTEN_FDS");
  unsetenv("LISTEN_PID");
  unsetenv("LISTEN_FDNAMES");
  return sockets;
}

}  // namespace sudoku
