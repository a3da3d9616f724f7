#include "shim/ports.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>

#include "base/fd.h"

namespace cctl::shim {
namespace {

void allowReuse(int fd, PortTest test) {
  // With this set, bind(2) still fails beside a socket that listens, and passes beside the remains
  // of its connections (TIME_WAIT).
  const int on = test == PortTest::kBindable ? 1 : 0;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
}

bool bindable4(int port, PortTest test) {
  const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return true;
  allowReuse(fd.get(), test);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  return ::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
}

bool bindable6(int port, PortTest test) {
  const Fd fd(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return true;  // a kernel without IPv6
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  allowReuse(fd.get(), test);
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(static_cast<uint16_t>(port));
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return true;
  return errno == EADDRNOTAVAIL || errno == EAFNOSUPPORT;  // IPv6 is switched off
}

}  // namespace

bool portFree(int port, PortTest test) { return bindable4(port, test) && bindable6(port, test); }

std::vector<std::string> takenPorts(const std::map<std::string, int>& ports) {
  std::vector<std::string> taken;
  for (const auto& [name, port] : ports)
    if (!portFree(port, PortTest::kBindable)) taken.push_back(name);
  return taken;
}

PortChooser::PortChooser(IsFree is_free, unsigned seed)
    : is_free_(std::move(is_free)), random_(seed) {}

Result<int> PortChooser::chooseOne(PortPool pool, const std::set<int>& avoid) {
  if (pool.low < 1 || pool.high > 65535 || pool.low > pool.high)
    return fail(Code::kBadInput, "port pool {}-{} is not a range of ports", pool.low, pool.high);
  const int size = pool.high - pool.low + 1;
  const int start = std::uniform_int_distribution<int>(0, size - 1)(random_);
  for (int i = 0; i < size; ++i) {
    const int port = pool.low + (start + i) % size;
    if (avoid.count(port) == 0 && is_free_(port)) return port;
  }
  return fail(Code::kFailed,
              "no port of the pool {}-{} is free on this host; widen `ports` in cluster.yaml",
              pool.low, pool.high);
}

Result<void> PortChooser::checkFixed(const protocol::PortWish& wish,
                                     const ReservedPorts& reserved) const {
  if (reserved.others.count(wish.fixed) > 0)
    return fail(Code::kFailed, "port {} ({}) belongs to another instance on this host", wish.fixed,
                wish.name);
  if (reserved.own.count(wish.fixed) == 0 && !is_free_(wish.fixed))
    return fail(Code::kFailed, "port {} ({}) is held by another process on this host", wish.fixed,
                wish.name);
  return {};
}

Result<std::map<std::string, int>> PortChooser::choose(
    const std::vector<protocol::PortWish>& wishes, PortPool pool, const ReservedPorts& reserved) {
  std::map<std::string, int> ports;
  std::set<int> avoid = reserved.others;
  avoid.insert(reserved.own.begin(), reserved.own.end());
  avoid.insert(reserved.avoid.begin(), reserved.avoid.end());
  for (const protocol::PortWish& wish : wishes) avoid.insert(wish.fixed);
  for (const protocol::PortWish& wish : wishes) {
    if (wish.fixed < 0 || wish.fixed > 65535 || wish.name.empty() || ports.count(wish.name) > 0)
      return fail(Code::kBadInput, "port \"{}\": {} is not a port, or its name stands twice",
                  wish.name, wish.fixed);
    if (wish.fixed != 0) {
      CCTL_CHECK(checkFixed(wish, reserved));
      ports[wish.name] = wish.fixed;
      continue;
    }
    CCTL_TRY(const int port, chooseOne(pool, avoid));
    ports[wish.name] = port;
    avoid.insert(port);
  }
  return ports;
}

}  // namespace cctl::shim
