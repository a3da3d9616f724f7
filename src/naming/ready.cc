#include "clusterctl/ready.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

namespace {

constexpr int kFirstPassed = 3;  // sd_listen_fds(3)

// The number in an environment variable; 0 when it is none.
unsigned long long numberIn(const char* variable) {
  const char* text = std::getenv(variable);
  if (text == nullptr || *text < '0' || *text > '9') return 0;
  char* end = nullptr;
  const unsigned long long number = std::strtoull(text, &end, 10);
  return *end == '\0' ? number : 0;
}

// What is meant for another process, of which we inherited the environment, is not for us.
bool isForUs(const char* variable, bool when_unset) {
  if (std::getenv(variable) == nullptr) return when_unset;
  return numberIn(variable) == static_cast<unsigned long long>(::getpid());
}

int send(const char* state, const sockaddr_un& address, socklen_t size) {
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  const ssize_t put = ::sendto(fd, state, std::strlen(state), MSG_NOSIGNAL,
                               reinterpret_cast<const sockaddr*>(&address), size);
  const int error = errno;
  ::close(fd);
  errno = error;
  return put < 0 ? -1 : 1;
}

}  // namespace

int clusterctl_notify(const char* state) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr || *path == '\0') return 0;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::size_t length = std::strlen(path);
  if ((path[0] != '/' && path[0] != '@') || length >= sizeof address.sun_path) {
    errno = EINVAL;
    return -1;
  }
  std::memcpy(address.sun_path, path, length);
  if (path[0] == '@') address.sun_path[0] = '\0';  // an abstract name (unix(7))
  return send(state, address, static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length));
}

int clusterctl_ready(void) { return clusterctl_notify("READY=1"); }
int clusterctl_stopping(void) { return clusterctl_notify("STOPPING=1"); }
int clusterctl_watchdog(void) { return clusterctl_notify("WATCHDOG=1"); }

int clusterctl_status(const char* text) {
  char message[1024] = "STATUS=";
  std::strncat(message, text, sizeof message - std::strlen(message) - 1);
  for (char* c = message; *c != '\0'; ++c)
    if (*c == '\n') *c = ' ';
  return clusterctl_notify(message);
}

uint64_t clusterctl_watchdog_usec(void) {
  return isForUs("WATCHDOG_PID", true) ? numberIn("WATCHDOG_USEC") : 0;
}

int clusterctl_listen_fd(const char* name) {
  const unsigned long long count = isForUs("LISTEN_PID", false) ? numberIn("LISTEN_FDS") : 0;
  const char* names = std::getenv("LISTEN_FDNAMES");
  std::string_view left = names == nullptr ? std::string_view() : std::string_view(names);
  for (unsigned long long i = 0; i < count && i < 1024; ++i) {
    const std::size_t end = left.find(':');
    if (name == nullptr || left.substr(0, end) == name) {
      const int fd = kFirstPassed + static_cast<int>(i);
      return ::fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 ? fd : -1;
    }
    left = end == std::string_view::npos ? std::string_view() : left.substr(end + 1);
  }
  return -1;
}
