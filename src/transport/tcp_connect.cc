#include "transport/tcp_connect.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "transport/wait.h"

namespace cctl::ssh {
namespace {

constexpr Millis kStagger{250};
constexpr int kDeadAfterMs = 15'000;

struct AddrinfoDeleter {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, AddrinfoDeleter>;

struct Lookup {
  std::string host, port;
  int family = AF_UNSPEC;
  int flags = 0;
  int error = 0;
  Addresses addresses;
  Signal done;

  void run() {
    addrinfo hints{};
    hints.ai_family = family;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = flags | AI_NUMERICSERV;
    addrinfo* list = nullptr;
    error = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &list);
    addresses.reset(error == 0 ? list : nullptr);
  }
};

Result<Addresses> lookUp(const std::string& host, int port, int family, Deadline deadline,
                         const CancelToken* cancel) {
  auto lookup = std::make_shared<Lookup>();
  lookup->host = host;
  lookup->port = std::to_string(port);
  lookup->family = family;
  lookup->flags = AI_NUMERICHOST;
  lookup->run();
  if (lookup->addresses) return std::move(lookup->addresses);
  lookup->flags = 0;
  // getaddrinfo(3) knows no deadline; the thread shares ownership and may outlive this call.
  std::thread([lookup] {
    lookup->run();
    lookup->done.set();
  }).detach();
  if (auto waited = lookup->done.wait(deadline, cancel); !waited) {
    if (waited.error().code == Code::kCancelled) return fail(waited.error());
    return fail(Code::kUnreachable, "looking up the name {} took too long (DNS)", host);
  }
  if (lookup->addresses) return std::move(lookup->addresses);
  return fail(Code::kUnreachable, "{}: {}; give the host's `address` in the inventory", host,
              lookup->error == EAI_SYSTEM ? std::strerror(errno) : ::gai_strerror(lookup->error));
}

void setOption(int fd, int level, int name, int value) {
  // Best effort: without them a connection is slower or dies later, but works.
  [[maybe_unused]] const int rc = ::setsockopt(fd, level, name, &value, sizeof value);
}

void tune(int fd) {
  setOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  setOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  setOption(fd, IPPROTO_TCP, TCP_KEEPIDLE, 5);
  setOption(fd, IPPROTO_TCP, TCP_KEEPINTVL, 3);
  setOption(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
  setOption(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, kDeadAfterMs);
  armQuickAck(fd);
}

// The attempts under way.
class Race {
 public:
  Race(Addresses addresses, std::string where)
      : addresses_(std::move(addresses)), next_(addresses_.get()), where_(std::move(where)) {}

  Result<Fd> run(Deadline deadline, const CancelToken* cancel) {
    auto stagger = Deadline::in(Millis(0));
    while (true) {
      if (next_ != nullptr && (pending_.empty() || stagger.passed())) {
        if (auto fd = begin()) return std::move(*fd);
        stagger = Deadline::in(kStagger);
        continue;
      }
      if (pending_.empty()) return fail(lastError());
      if (deadline.passed()) return fail(Code::kUnreachable, "{}: no answer", where_);
      if (cancel != nullptr && cancel->cancelled()) return fail(Code::kCancelled, "interrupted");
      if (auto fd = await(deadline, stagger, cancel)) return std::move(*fd);
    }
  }

 private:
  // nullopt unless it is connected at once.
  std::optional<Fd> begin() {
    const addrinfo& address = *next_;
    next_ = next_->ai_next;
    Fd fd(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) return note(errno);
    tune(fd.get());
    if (::connect(fd.get(), address.ai_addr, address.ai_addrlen) == 0) return fd;
    if (errno != EINPROGRESS) return note(errno);
    pending_.push_back(std::move(fd));
    return std::nullopt;
  }

  std::optional<Fd> note(int error) {
    error_ = error;
    return std::nullopt;
  }

  std::optional<Fd> await(Deadline deadline, Deadline stagger, const CancelToken* cancel) {
    std::vector<pollfd> fds;
    for (const auto& fd : pending_) fds.push_back({fd.get(), POLLOUT, 0});
    fds.push_back({cancel != nullptr ? cancel->fd() : -1, POLLIN, 0});
    int timeout = deadline.pollTimeout();
    if (next_ != nullptr) timeout = std::min(timeout, stagger.pollTimeout());
    if (::poll(fds.data(), fds.size(), timeout) <= 0) return std::nullopt;
    for (size_t i = 0; i < pending_.size(); ++i) {
      if (fds[i].revents == 0) continue;
      int error = 0;
      socklen_t size = sizeof error;
      ::getsockopt(fds[i].fd, SOL_SOCKET, SO_ERROR, &error, &size);
      // Cut off at once: as if right after, so that the caller tries again.
      if (error == 0 || error == ECONNRESET) return std::move(pending_[i]);
      error_ = error;
      pending_.erase(pending_.begin() + static_cast<ptrdiff_t>(i));
      return std::nullopt;
    }
    return std::nullopt;
  }

  Error lastError() const {
    if (error_ == ECONNREFUSED) {
      return {Code::kUnreachable,
              where_ + ": connection refused: no sshd listens there (wrong port, or not running)"};
    }
    return {Code::kUnreachable, fmt::format("{}: {}", where_, std::strerror(error_))};
  }

  const Addresses addresses_;
  const addrinfo* next_;
  const std::string where_;
  std::vector<Fd> pending_;
  int error_ = EADDRNOTAVAIL;
};

}  // namespace

void armQuickAck(int fd) { setOption(fd, IPPROTO_TCP, TCP_QUICKACK, 1); }

Result<Fd> connectTcp(const std::string& host, int port, int address_family, Deadline deadline,
                      const CancelToken* cancel) {
  CCTL_TRY(auto addresses, lookUp(host, port, address_family, deadline, cancel));
  return Race(std::move(addresses), fmt::format("{} port {}", host, port)).run(deadline, cancel);
}

}  // namespace cctl::ssh
