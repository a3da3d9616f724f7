// An HTTP/1.1 server on an EventLoop; keep-alive, pipelining, bounded memory for each
// connection, answers now or later. For the loop's thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>

#include "core/http.h"
#include "net/event_loop.h"
#include "net/log.h"
#include "net/stream.h"

namespace sudoku {

class HttpConnection;

class HttpServer {
 public:
  struct Limits {
    std::size_t max_connections = 1000;
    Clock::duration idle_timeout = std::chrono::seconds(60);
    Clock::duration head_timeout = std::chrono::seconds(10);  // from a request's first byte
  };
  // To be called once, from the loop's thread, at any time; harmless when the client
  // has gone meanwhile.
  using Respond = std::function<void(HttpResponse)>;
  using Handler = std::function<void(const HttpRequest&, Respond)>;

  HttpServer(EventLoop& loop, const Log& log, Limits limits, Handler handler);
  ~HttpServer();

  void accept(Fd fd);
  void setLimits(const Limits& limits) { limits_ = limits; }
  // Every response from now on says `Connection: close`. Connections without a request
  // are closed after `grace`: until then a request that is on its way is still answered.
  void drain(Clock::duration grace, std::function<void()> on_empty);
  std::size_t connections() const { return connections_.size(); }

 private:
  friend class HttpConnection;
  void forget(std::uint64_t id);
  void sweep();

  EventLoop& loop_;
  const Log& log_;
  Limits limits_;
  Handler handler_;
  bool draining_ = false;
  bool sweeping_ = false;
  std::function<void()> on_empty_;
  std::uint64_t next_id_ = 1;
  std::unordered_map<std::uint64_t, std::shared_ptr<HttpConnection>> connections_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for timers
};

}  // namespace sudoku
