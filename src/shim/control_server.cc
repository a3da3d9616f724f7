#include "shim/control_server.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "protocol/messages.h"

namespace cctl::shim {

using protocol::Frame;
using protocol::FrameKind;

namespace {

constexpr size_t kCongested = 1u << 20;
constexpr size_t kMostWaiting = 64u << 20;  // a backstop: one answer may exceed kCongested
constexpr Millis kStallLimit{60'000};
constexpr size_t kReadSize = 256u << 10;

}  // namespace

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  // `buffer`: of kReadSize, for the time of one read.
  Connection(EventLoop& loop, Fd fd, const ControlServer::Begin& begin, char* buffer,
             std::function<void()> on_closed)
      : loop_(loop),
        fd_(std::move(fd)),
        begin_(begin),
        buffer_(buffer),
        on_closed_(std::move(on_closed)) {}

  void open() {
    watch_ = loop_.watch(fd_.get(), EPOLLIN, [this](uint32_t events) { onEvents(events); });
  }

  void send(FrameKind kind, uint32_t id, std::string_view payload) {
    if (closing_) return;
    out_ += protocol::encodeFrame(kind, id, payload);
    if (kind == FrameKind::kReply) retire(id);
    if (out_.size() - sent_ > kMostWaiting) return close();
    update();
  }

  bool congested() const { return out_.size() - sent_ > kCongested; }
  bool knows(uint32_t id) const { return requests_.count(id) > 0; }

  // Tells why, when the client can still read it, and hangs up.
  void breakOff(const Error& error) {
    send(FrameKind::kReply, 0, protocol::encodeError(error));
    hang_up_ = true;
    update();
  }

  void flushBriefly() {
    pollfd waiting{fd_.get(), POLLOUT, 0};
    for (int i = 0; i < 20 && sent_ < out_.size() && writeSome(); ++i) ::poll(&waiting, 1, 10);
  }

 private:
  void onEvents(uint32_t events) {
    const auto keep = shared_from_this();
    if (events & EPOLLOUT) {
      if (!writeSome()) return close();
      if (!congested()) drained();
    }
    if (events & EPOLLIN) readSome();
    // Not only a half-closed peer: nothing can be sent either.
    if ((events & (EPOLLHUP | EPOLLERR)) && !(events & EPOLLIN)) return close();
    if (!closing_) update();
  }

  void readSome() {
    if (hang_up_) return;
    const ssize_t got = ::recv(fd_.get(), buffer_, kReadSize, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) return close();
    decoder_.feed(std::string_view(buffer_, static_cast<size_t>(got)));
    takeFrames();
  }

  void takeFrames() {
    while (!closing_ && !hang_up_ && !congested()) {
      auto frame = decoder_.next();
      if (!frame) return breakOff(frame.error());
      if (!*frame) return;
      take(**frame);
    }
  }

  void take(const Frame& frame) {
    const auto found = requests_.find(frame.id);
    const auto request = found == requests_.end() ? nullptr : found->second;
    switch (frame.kind) {
      case FrameKind::kRequest:
        return beginRequest(frame);
      case FrameKind::kData:  // of a request that has failed meanwhile: passed over
        return request ? request->onData(frame.payload) : void();
      case FrameKind::kEnd:
        return request ? request->onEnd() : void();
      case FrameKind::kCancel:
        return retire(frame.id);
      case FrameKind::kReply:
      case FrameKind::kItem:
        return breakOff({Code::kCorrupt, "broken stream: a client does not send replies"});
    }
  }

  void beginRequest(const Frame& frame) {
    if (frame.id == 0 || knows(frame.id) || requests_.size() >= ControlServer::kMaxRequests)
      return breakOff(
          {Code::kCorrupt,
           fmt::format("broken stream: request id {} is 0, in use, or one too many", frame.id)});
    requests_[frame.id] = nullptr;
    auto request = begin_(frame.payload, Responder(weak_from_this(), frame.id));
    // It may have been answered at once.
    if (const auto found = requests_.find(frame.id); found != requests_.end())
      found->second = std::move(request);
  }

  void retire(uint32_t id) {
    const auto found = requests_.find(id);
    if (found == requests_.end()) return;
    // Destroyed later: it may be the caller.
    loop_.soon([last = std::move(found->second)] {});
    requests_.erase(found);
  }

  void drained() {
    takeFrames();
    const auto requests = requests_;  // they may come and go
    for (const auto& [id, request] : requests)
      if (request && knows(id) && !congested()) request->onDrained();
  }

  bool writeSome() {
    while (sent_ < out_.size()) {
      const ssize_t put =
          ::send(fd_.get(), out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return errno == EAGAIN;
      sent_ += static_cast<size_t>(put);
      stall_.reset();
    }
    if (out_.capacity() > kCongested)
      out_ = {};  // a large answer's room is given back
    else
      out_.clear();
    sent_ = 0;
    return true;
  }

  // What to wait for now.
  void update() {
    if (closing_ || updating_) return;
    updating_ = true;
    if (sent_ < out_.size() && !writeSome()) {
      updating_ = false;
      return close();
    }
    updating_ = false;
    const bool waiting = sent_ < out_.size();
    if (!waiting) stall_.reset();
    if (waiting && !stall_.pending()) stall_ = loop_.after(kStallLimit, [this] { close(); });
    if (hang_up_ && !waiting) return close();
    uint32_t events = waiting ? EPOLLOUT : 0u;
    if (!congested() && !hang_up_) events |= EPOLLIN;
    watch_.change(events);
  }

  void close() {
    if (std::exchange(closing_, true)) return;
    watch_.reset();
    stall_.reset();
    // From the loop: this may be deep inside a request of ours.
    loop_.soon([keep = shared_from_this()] {
      keep->requests_.clear();
      keep->on_closed_();
    });
  }

  EventLoop& loop_;
  Fd fd_;
  Watch watch_;
  const ControlServer::Begin& begin_;
  char* buffer_;
  std::function<void()> on_closed_;
  protocol::FrameDecoder decoder_;
  std::string out_;
  size_t sent_ = 0;
  Timer stall_;
  std::map<uint32_t, std::shared_ptr<Request>> requests_;
  bool hang_up_ = false;
  bool closing_ = false;
  bool updating_ = false;
};

// ---- Responder ---------------------------------------------------------------------------------

void Responder::send(FrameKind kind, std::string_view payload) const {
  const auto connection = connection_.lock();
  if (connection && connection->knows(id_)) connection->send(kind, id_, payload);
}

void Responder::item(std::string_view payload) const { send(FrameKind::kItem, payload); }

void Responder::data(std::string_view bytes) const {
  while (!bytes.empty()) {
    send(FrameKind::kData, bytes.substr(0, protocol::kMaxDataPayload));
    bytes.remove_prefix(std::min(bytes.size(), protocol::kMaxDataPayload));
  }
}

void Responder::reply(std::string_view payload) const {
  if (payload.size() > protocol::kMaxJsonPayload)
    return error(
        {Code::kError, fmt::format("the answer has {} bytes, {} are possible; ask for less",
                                   payload.size(), protocol::kMaxJsonPayload)});
  send(FrameKind::kReply, payload);
}

void Responder::error(const Error& error) const {
  send(FrameKind::kReply, protocol::encodeError(error));
}

bool Responder::congested() const {
  const auto connection = connection_.lock();
  return connection && connection->congested();
}

// ---- ControlServer -----------------------------------------------------------------------------

Result<Fd> listenUnix(const std::string& path, mode_t mode) {
  sockaddr_un address{};
  if (path.size() >= sizeof address.sun_path)
    return fail(Code::kBadInput, "{}: too long for a socket; use a shorter root", path);
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return failErrno(errno, path);
  // Left by a shim that was killed.
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return failErrno(errno, path);
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return failErrno(errno, path);
  if (::chmod(path.c_str(), mode) != 0) return failErrno(errno, path);
  if (::listen(fd.get(), 1024) != 0) return failErrno(errno, path);
  return fd;
}

ControlServer::ControlServer(EventLoop& loop, std::function<bool(unsigned uid)> is_operator,
                             Begin begin)
    : loop_(loop),
      is_operator_(std::move(is_operator)),
      begin_(std::move(begin)),
      buffer_(new char[kReadSize]) {}  // not zeroed: pages that were never used take no memory

// A connection that has ended is kept until the next turn, and with it the requests that follow the
// journal or a log: both are gone when the loop is.
ControlServer::~ControlServer() { loop_.dropSoon(); }

Result<void> ControlServer::listen(const std::string& path) {
  // Open to connect for all: who may say something is decided by the kernel's word on the peer.
  CCTL_TRY(socket_, listenUnix(path, 0666));
  watch_ = loop_.watch(socket_.get(), EPOLLIN, [this](uint32_t) { onAccept(); });
  return {};
}

void ControlServer::refuse(int fd, const std::string& why) {
  const std::string frame =
      protocol::encodeFrame(FrameKind::kReply, 0, protocol::encodeError({Code::kRefused, why}));
  // Best effort: the socket's buffer takes it, or nobody listens.
  [[maybe_unused]] const ssize_t put =
      ::send(fd, frame.data(), frame.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

void ControlServer::onAccept() {
  for (int i = 0; i < 64; ++i) {
    Fd fd(::accept4(socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd) {
      admit(std::move(fd));
      continue;
    }
    if (errno != EMFILE && errno != ENFILE && errno != ENOMEM) return;
    watch_.change(0);  // the connection stays in the backlog; asking at once would spin
    rest_ = loop_.after(Millis(200), [this] { watch_.change(EPOLLIN); });
    return;
  }
}

void ControlServer::admit(Fd fd) {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return;
  if (peer.uid != 0 && peer.uid != ::geteuid() && !is_operator_(peer.uid))
    return refuse(fd.get(), fmt::format("uid {} may not control this host; bootstrap it with this "
                                        "login to be let in",
                                        peer.uid));
  if (connections_.size() >= kMaxConnections)
    return refuse(fd.get(), "too many connections to this shim; try again");
  const uint64_t id = next_id_++;
  auto connection = std::make_shared<Connection>(loop_, std::move(fd), begin_, buffer_.get(),
                                                 [this, id] { connections_.erase(id); });
  connections_[id] = connection;
  connection->open();
}

void ControlServer::shutdown() {
  watch_.reset();
  for (const auto& [id, connection] : connections_) connection->flushBriefly();
  connections_.clear();
  socket_.reset();
}

}  // namespace cctl::shim
