#include "shim/sockets.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace cctl::shim {
namespace {

constexpr int kBacklog = 4096;  // the kernel lowers it to net.core.somaxconn

std::string nameOf(const Sockets::Key& key) {
  return fmt::format("sock:{}/{}/{}", key.first.service, key.first.index, key.second);
}

int portOfSocket(int fd) {
  sockaddr_in6 address{};
  socklen_t length = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return 0;
  if (address.sin6_family == AF_INET6) return ntohs(address.sin6_port);
  return ntohs(reinterpret_cast<sockaddr_in*>(&address)->sin_port);
}

bool isListening(int fd) {
  int value = 0;
  socklen_t length = sizeof value;
  return ::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &length) == 0 && value != 0;
}

// On both families where the host has IPv6, else on IPv4.
Result<Fd> bindAnywhere(int port) {
  const int on = 1;
  const int off = 0;
  Fd socket(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (socket) {
    ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    ::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    sockaddr_in6 any{};
    any.sin6_family = AF_INET6;
    any.sin6_port = htons(static_cast<uint16_t>(port));
    if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&any), sizeof any) == 0) return socket;
    if (errno != EADDRNOTAVAIL && errno != EAFNOSUPPORT)
      return failErrno(errno, fmt::format("cannot bind port {}", port));
  }
  socket.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return failErrno(errno, "socket");
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in any{};
  any.sin_family = AF_INET;
  any.sin_port = htons(static_cast<uint16_t>(port));
  if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&any), sizeof any) != 0)
    return failErrno(errno, fmt::format("cannot bind port {}", port));
  return socket;
}

}  // namespace

std::optional<int> Sockets::portOf(const Key& key) const {
  const auto found = bound_.find(key);
  return found == bound_.end() ? std::nullopt : std::optional<int>(found->second.port);
}

std::vector<std::string> Sockets::namesOf(const protocol::InstanceRef& ref) const {
  std::vector<std::string> names;
  for (const auto& [key, bound] : bound_)
    if (key.first == ref) names.push_back(key.second);
  return names;
}

// Not kept: then a supervisor that takes over asks the process that has it.
void Sockets::keep(const Key& key) {
  [[maybe_unused]] const auto kept = fds_.park(nameOf(key), {bound_[key].socket.get()});
}

Result<void> Sockets::bind(const Key& key, int port) {
  if (const auto known = portOf(key); known == port) return {};
  release(key);
  CCTL_TRY(Fd socket, bindAnywhere(port));
  bound_[key] = {port, std::move(socket), false};
  keep(key);
  return {};
}

Result<int> Sockets::listen(const Key& key, int port) {
  CCTL_CHECK(bind(key, port));
  Bound& bound = bound_[key];
  if (!bound.listening && ::listen(bound.socket.get(), kBacklog) != 0)
    return failErrno(errno, fmt::format("cannot listen on port {} ({})", port, key.second));
  bound.listening = true;
  return bound.socket.get();
}

void Sockets::quiet(const Key& key) {
  const auto found = bound_.find(key);
  if (found == bound_.end() || !found->second.listening) return;
  const int port = found->second.port;
  release(key);
  // Taken by somebody else in this instant: the next start says so.
  [[maybe_unused]] const auto bound = bind(key, port);
}

void Sockets::release(const Key& key) {
  if (bound_.erase(key) > 0) fds_.dropNow(nameOf(key));
}

void Sockets::recover(const Key& key, int port) {
  std::vector<Fd> kept = fds_.take(nameOf(key));
  if (kept.size() != 1 || portOfSocket(kept[0].get()) != port) return;
  const bool listening = isListening(kept[0].get());
  bound_[key] = {port, std::move(kept[0]), listening};
}

void Sockets::recoverFrom(const Key& key, int port, int pidfd, int fd) {
  if (portOf(key) == port || pidfd < 0) return;
  Fd copy(static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd, fd, 0)));  // Linux 5.6
  if (!copy || portOfSocket(copy.get()) != port || !isListening(copy.get())) return;
  bound_[key] = {port, std::move(copy), true};
  keep(key);
}

}  // namespace cctl::shim
