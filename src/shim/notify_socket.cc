#include "shim/notify_socket.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace cctl::shim {
namespace {

constexpr size_t kMaxMessage = 4096;
constexpr int kMessagesPerTurn = 64;
constexpr char kParked[] = "notify";

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

Result<Fd> NotifySocket::open(const std::string& path) {
  Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return failErrno(errno, "socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return fail(Code::kBadInput, "{}: too long for a socket", path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  ::unlink(path.c_str());
  const int on = 1;
  if (::setsockopt(socket.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0 ||
      ::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::chmod(path.c_str(), 0666) != 0)  // services of any user speak here
    return failErrno(errno, path);
  // Not kept: what is said while no supervisor lives is then lost.
  [[maybe_unused]] const auto kept = fds_.park(kParked, {socket.get()});
  return socket;
}

Result<void> NotifySocket::listen(const std::string& path, OnMessage on_message) {
  on_message_ = std::move(on_message);
  std::vector<Fd> kept = fds_.take(kParked);
  if (kept.size() == 1 && ::access(path.c_str(), F_OK) == 0) {
    socket_ = std::move(kept[0]);
  } else {
    CCTL_TRY(socket_, open(path));
  }
  watch_ = loop_.watch(socket_.get(), EPOLLIN, [this](uint32_t) { onReadable(); });
  return {};
}

void NotifySocket::onReadable() {
  for (int i = 0; i < kMessagesPerTurn && receive(); ++i) {
  }
}

bool NotifySocket::receive() {
  std::array<char, kMaxMessage> text{};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(ucred)) + CMSG_SPACE(64 * sizeof(int))>
      control{};
  iovec part{text.data(), text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t got = ::recvmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0) return errno == EINTR;
  const int pid = senderOf(message);
  if (pid > 0 && (message.msg_flags & MSG_TRUNC) == 0)
    on_message_(pid, parseNotification({text.data(), static_cast<size_t>(got)}));
  return true;
}

}  // namespace cctl::shim
