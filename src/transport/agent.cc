#include "transport/agent.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "base/ssh_wire.h"
#include "transport/wait.h"

namespace cctl::ssh {
namespace {

constexpr char kFailure = 5;             // SSH_AGENT_FAILURE
constexpr char kRequestIdentities = 11;  // SSH_AGENTC_REQUEST_IDENTITIES
constexpr char kIdentitiesAnswer = 12;   // SSH_AGENT_IDENTITIES_ANSWER
constexpr char kSignRequest = 13;        // SSH_AGENTC_SIGN_REQUEST
constexpr char kSignResponse = 14;       // SSH_AGENT_SIGN_RESPONSE
constexpr size_t kRsaSha512 = 4;         // SSH_AGENT_RSA_SHA2_512
constexpr size_t kMaxMessage = 256u << 10;

Result<void> sendAll(int fd, std::string_view bytes, Deadline deadline, const CancelToken* cancel) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      bytes.remove_prefix(static_cast<size_t>(sent));
    } else if (errno == EAGAIN) {
      CCTL_CHECK(waitFor(fd, POLLOUT, deadline, cancel));
    } else if (errno != EINTR) {
      return failErrno(errno, "agent");
    }
  }
  return {};
}

Result<std::string> receive(int fd, size_t size, Deadline deadline, const CancelToken* cancel) {
  std::string bytes(size, '\0');
  size_t have = 0;
  while (have < size) {
    const ssize_t got = ::recv(fd, bytes.data() + have, size - have, MSG_DONTWAIT);
    if (got > 0) {
      have += static_cast<size_t>(got);
    } else if (got == 0) {
      return fail(Code::kError, "agent: closed");
    } else if (errno == EAGAIN) {
      CCTL_CHECK(waitFor(fd, POLLIN, deadline, cancel));
    } else if (errno != EINTR) {
      return failErrno(errno, "agent");
    }
  }
  return bytes;
}

Result<std::string> receiveMessage(int fd, Deadline deadline, const CancelToken* cancel) {
  CCTL_TRY(const std::string head, receive(fd, 4, deadline, cancel));
  const size_t size = WireReader(head).number();
  if (size == 0 || size > kMaxMessage) return fail(Code::kCorrupt, "agent: bad message");
  return receive(fd, size, deadline, cancel);
}

Result<void> sendMessage(int fd, const std::string& message, Deadline deadline,
                         const CancelToken* cancel) {
  std::string framed;
  putString(framed, message);
  return sendAll(fd, framed, deadline, cancel);
}

Result<std::string> askAgent(const std::string& socket, const std::string& request,
                             Deadline deadline, const CancelToken* cancel) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket.size() >= sizeof address.sun_path) return fail(Code::kError, "agent: path too long");
  std::memcpy(address.sun_path, socket.data(), socket.size());
  const Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return failErrno(errno, "socket");
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    return failErrno(errno, socket);
  }
  CCTL_CHECK(sendMessage(fd.get(), request, deadline, cancel));
  return receiveMessage(fd.get(), deadline, cancel);
}

std::vector<AgentIdentity> parseIdentities(const std::string& message) {
  std::vector<AgentIdentity> identities;
  if (message[0] != kIdentitiesAnswer) return identities;
  WireReader reader(std::string_view(message).substr(1));
  const uint32_t count = reader.number();
  for (uint32_t i = 0; i < count && !reader.failed(); ++i) {
    const auto blob = reader.string();
    const auto comment = reader.string();
    if (!reader.failed()) identities.push_back({std::string(blob), std::string(comment)});
  }
  return identities;
}

}  // namespace

std::vector<AgentIdentity> AgentDirectory::identities(const std::string& socket, Deadline deadline,
                                                      const CancelToken* cancel) {
  if (socket.empty() || socket == "none") return {};
  const std::lock_guard lock(mutex_);
  const auto known = known_.find(socket);
  if (known != known_.end()) return known->second;
  const auto answer = askAgent(socket, std::string(1, kRequestIdentities), deadline, cancel);
  return known_[socket] = answer ? parseIdentities(*answer) : std::vector<AgentIdentity>{};
}

Result<std::string> signWithAgent(const std::string& socket, std::string_view blob,
                                  std::string_view data, Deadline deadline,
                                  const CancelToken* cancel) {
  std::string request(1, kSignRequest);
  putString(request, blob);
  putString(request, data);
  putNumber(request, kRsaSha512);  // means nothing to other keys
  CCTL_TRY(const std::string answer, askAgent(socket, request, deadline, cancel));
  WireReader reader(std::string_view(answer).substr(1));
  const std::string_view signature = reader.string();
  if (answer[0] != kSignResponse || reader.failed())
    return fail(Code::kRefused,
                "the agent did not sign: it is locked, was told not to, or the "
                "key was not touched in time");
  return std::string(signature);
}

AgentRelay::AgentRelay(std::string socket, std::vector<AgentIdentity> offered, Deadline deadline,
                       const CancelToken* cancel)
    : socket_(std::move(socket)),
      offered_(std::move(offered)),
      deadline_(deadline),
      cancel_(cancel) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return;
  client_ = Fd(ends[0]);
  server_ = Fd(ends[1]);
  thread_ = std::thread([this] { serve(); });
}

AgentRelay::~AgentRelay() {
  if (!thread_.joinable()) return;
  ::shutdown(server_.get(), SHUT_RDWR);
  thread_.join();
}

void AgentRelay::serve() {
  while (true) {
    const auto request = receiveMessage(server_.get(), deadline_, cancel_);
    if (!request) break;
    if (!sendMessage(server_.get(), answer(*request), deadline_, cancel_)) break;
  }
  ::shutdown(server_.get(), SHUT_RDWR);
}

std::string AgentRelay::answer(const std::string& request) const {
  if (request[0] == kRequestIdentities) {
    std::string message(1, kIdentitiesAnswer);
    putNumber(message, offered_.size());
    for (const auto& identity : offered_) {
      putString(message, identity.blob);
      putString(message, identity.comment);
    }
    return message;
  }
  if (request[0] != kSignRequest) return std::string(1, kFailure);
  return askAgent(socket_, request, deadline_, cancel_).value_or(std::string(1, kFailure));
}

}  // namespace cctl::ssh
