// The control socket: connections, frames, back-pressure. What requests mean is ops.h's business.
//
// A client that does not read is paused: its requests wait, and its streams are asked for no more,
// while more than a megabyte waits for it. One that takes nothing for a minute is dropped.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "protocol/frame.h"
#include "shim/event_loop.h"

namespace cctl::shim {

class Connection;

// One request, to be answered at any later time; harmless once the connection is gone. Copies
// speak for the same request.
class Responder {
 public:
  Responder(std::weak_ptr<Connection> connection, uint32_t id)
      : connection_(std::move(connection)), id_(id) {}

  void item(std::string_view payload) const;
  void data(std::string_view bytes) const;
  // The last frame of the request.
  void reply(std::string_view payload) const;
  void error(const Error& error) const;

  // False when nobody waits any more.
  bool alive() const { return !connection_.expired(); }
  // True when enough waits to be sent: stop until Request::onDrained().
  bool congested() const;

 private:
  void send(protocol::FrameKind kind, std::string_view payload) const;
  std::weak_ptr<Connection> connection_;
  uint32_t id_;
};

// A request under way. Destroyed when it is answered, cancelled, or its connection ends.
class Request {
 public:
  virtual ~Request() = default;
  virtual void onData(std::string_view) {}
  virtual void onEnd() {}
  virtual void onDrained() {}
};

class ControlServer {
 public:
  // Begins a request. What it returns is kept until the answer; null when there is nothing to keep.
  using Begin =
      std::function<std::shared_ptr<Request>(std::string_view payload, const Responder& responder)>;

  static constexpr size_t kMaxConnections = 256;
  static constexpr size_t kMaxRequests = 1024;  // under way, on one connection

  // `is_operator`: whom to let in beside root and ourselves. `loop` must outlive it.
  ControlServer(EventLoop& loop, std::function<bool(unsigned uid)> is_operator, Begin begin);
  ~ControlServer();

  // Replaces a socket that is there: the caller holds the lock that makes it the only shim.
  [[nodiscard]] Result<void> listen(const std::string& path);
  // Sends what waits, as far as that goes without blocking for long, and closes.
  void shutdown();

 private:
  void onAccept();
  void admit(Fd fd);
  void refuse(int fd, const std::string& why);

  EventLoop& loop_;
  std::function<bool(unsigned uid)> is_operator_;
  Begin begin_;
  std::unique_ptr<char[]> buffer_;  // what any connection reads goes through it
  Fd socket_;
  Watch watch_;
  Timer rest_;  // while descriptors are short
  uint64_t next_id_ = 1;
  std::map<uint64_t, std::shared_ptr<Connection>> connections_;
};

// A stream socket bound to `path` with the mode, listening. At most 107 bytes of path (unix(7)).
[[nodiscard]] Result<Fd> listenUnix(const std::string& path, mode_t mode);

}  // namespace cctl::shim
