#include "shim/notify_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>

namespace cctl::shim {
namespace {

constexpr size_t kMaxMessage = 4096;
constexpr int kMessagesPerTurn = 64;
constexpr char kParked[] = "notify";
constexpr char kParkedSpare[] = "notify-spare";

// What came with the message: who sent it; descriptors, which nobody asked for, are closed.
int senderOf(msghdr& message) {
  int pid = 0;
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET) continue;
    if (c->cmsg_type == SCM_CREDENTIALS) {
      ucred credentials{};
      std::memcpy(&credentials, CMSG_DATA(c), sizeof credentials);
      pid = credentials.pid;
    }
    if (c->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
      ::close(fd);
    }
  }
  return pid;
}

// "@NAME": of the abstract namespace, as sd_notify(3) writes it.
Result<Fd> bindDatagram(const std::string& address) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (address.size() >= sizeof name.sun_path)
    return fail(Code::kBadInput, "{}: too long for a socket", address);
  std::memcpy(name.sun_path, address.c_str(), address.size() + 1);
  const bool abstract = address.front() == '@';
  if (abstract) name.sun_path[0] = '\0';
  const size_t length = abstract ? offsetof(sockaddr_un, sun_path) + address.size() : sizeof name;
  Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return failErrno(errno, "socket");
  const int on = 1;
  if (!abstract && ::unlink(address.c_str()) != 0 && errno != ENOENT)
    return failErrno(errno, address);
  if (::setsockopt(socket.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0 ||
      ::bind(socket.get(), reinterpret_cast<sockaddr*>(&name), static_cast<socklen_t>(length)) != 0)
    return failErrno(errno, address);
  if (!abstract && ::chmod(address.c_str(), 0666) != 0)  // services of any user speak here
    return failErrno(errno, address);
  return socket;
}

}  // namespace

std::map<std::string, std::string> parseNotification(std::string_view text) {
  std::map<std::string, std::string> pairs;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const size_t equals = line.find('=');
    if (equals != std::string_view::npos && equals > 0)
      pairs[std::string(line.substr(0, equals))] = line.substr(equals + 1);
  }
  return pairs;
}

NotifySocket::NotifySocket(EventLoop& loop, FdStore& fds, std::string path, OnMessage on_message)
    : loop_(loop), fds_(fds), path_(std::move(path)), on_message_(std::move(on_message)) {}

Result<void> NotifySocket::open(Socket& socket, const std::string& address, const char* parked) {
  std::vector<Fd> kept = fds_.take(parked);
  if (kept.size() == 1 && (address.front() == '@' || ::access(address.c_str(), F_OK) == 0)) {
    socket.fd = std::move(kept[0]);
  } else {
    kept.clear();
    CCTL_TRY(socket.fd, bindDatagram(address));
    // Not kept: what is said while no supervisor lives is then lost.
    [[maybe_unused]] const auto done = fds_.park(parked, {socket.fd.get()});
  }
  const int fd = socket.fd.get();
  socket.watch = loop_.watch(fd, EPOLLIN, [this, fd](uint32_t) { onReadable(fd); });
  return {};
}

Result<void> NotifySocket::listen() {
  // Whoever else has this name: there is just no spare one then.
  if (!spare_.fd) {
    [[maybe_unused]] const auto done = open(spare_, "@" + path_, kParkedSpare);
  }
  return open(socket_, path_, kParked);
}

std::string NotifySocket::address() const { return socket_.fd || !spare_.fd ? path_ : "@" + path_; }

void NotifySocket::onReadable(int fd) {
  for (int i = 0; i < kMessagesPerTurn && receive(fd); ++i) {
  }
}

bool NotifySocket::receive(int fd) {
  std::array<char, kMaxMessage> text{};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(ucred)) + CMSG_SPACE(64 * sizeof(int))>
      control{};
  iovec part{text.data(), text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t got = ::recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0) return errno == EINTR;
  const int pid = senderOf(message);
  if (pid > 0 && (message.msg_flags & MSG_TRUNC) == 0)
    on_message_(pid, parseNotification({text.data(), static_cast<size_t>(got)}));
  return true;
}

}  // namespace cctl::shim
