#include "net/http_server.h"

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "net/socket.h"

namespace sudoku {
namespace {

constexpr std::size_t kMostUnsent = 64 * 1024;
constexpr std::size_t kMostUnread = 64 * 1024;
constexpr Clock::duration kSweepPeriod = std::chrono::seconds(1);

HttpResponse plainText(int status, const std::string& text) {
  HttpResponse response;
  response.status = status;
  response.body = text + "\n";
  return response;
}

}  // namespace

// One request at a time; what is pipelined waits in the parser, or in the kernel.
class HttpConnection : public std::enable_shared_from_this<HttpConnection> {
 public:
  HttpConnection(HttpServer& server, std::uint64_t id) : server_(server), id_(id) {}

  void start(Fd fd) {
    peer_ = peerAddress(fd.get()).text();
    touch(server_.limits_.idle_timeout);
    Stream::Handlers handlers;
    handlers.on_data = [this](std::string_view bytes) { onData(bytes); };
    handlers.on_eof = [this] { onEof(); };
    handlers.on_flushed = [this] { work(); };
    handlers.on_closed = [this](int error) { onClosed(error); };
    stream_ = Stream::accepted(server_.loop_, std::move(fd), std::move(handlers));
  }

  void reject(const std::string& why) {
    keep_alive_ = false;
    send(plainText(503, why));
  }

  void closeIfExpired(Clock::time_point now) {
    if (busy_ || now < deadline_) return;
    if (parser_.empty() || stream_->unsent() > 0) return stream_->finish();
    keep_alive_ = false;
    send(plainText(408, "the request did not come in time"));
  }

  // The grace is over. A request that the kernel holds already is still answered.
  void endGrace() {
    if (busy_) return;
    const auto self = shared_from_this();
    stream_->readNow(kMostUnread);
    if (!busy_) stream_->finish();
  }

 private:
  void onData(std::string_view bytes) {
    if (parser_.empty()) touch(server_.limits_.head_timeout);
    parser_.append(bytes);
    work();
  }

  void work() {
    // A response that is sent at once calls work() again: a loop, not a recursion.
    if (working_) return;
    const auto self = shared_from_this();
    working_ = true;
    while (!busy_ && !stream_->isFinishing() && stream_->unsent() < kMostUnsent && workOnce()) {
    }
    working_ = false;
    if (!stream_->isOpen()) return;
    stream_->setReading(parser_.buffered() < kMostUnread);
    if (saw_eof_ && !busy_) stream_->finish();
  }

  bool workOnce() {
    HttpRequest request;
    switch (parser_.next(&request)) {
      case HttpRequestParser::Next::kNeedMore:
        return false;
      case HttpRequestParser::Next::kError:
        server_.log_.warn("http " + peer_ + ": " + parser_.errorText());
        keep_alive_ = false;
        send(plainText(parser_.errorStatus(), parser_.errorText()));
        return false;
      case HttpRequestParser::Next::kRequest:
        break;
    }
    busy_ = true;
    keep_alive_ = request.keep_alive;
    head_only_ = request.method == "HEAD";
    server_.handler_(request, [weak = weak_from_this()](const HttpResponse& response) {
      if (const auto self = weak.lock()) self->onResponse(response);
    });
    return true;
  }

  void onResponse(const HttpResponse& response) {
    if (!busy_ || !stream_->isOpen()) return;
    busy_ = false;
    send(response);
    work();
  }

  void send(const HttpResponse& response) {
    const bool keep = keep_alive_ && !server_.draining_ && !(saw_eof_ && parser_.empty());
    touch(server_.limits_.idle_timeout);
    stream_->write(formatResponse(response, keep, head_only_));
    if (!keep) stream_->finish();
  }

  // The client has shut down its side: it may still wait for the answers.
  void onEof() {
    saw_eof_ = true;
    work();
  }

  void onClosed(int error) {
    if (error != 0) server_.log_.info("http " + peer_ + ": " + std::strerror(error));
    server_.forget(id_);
  }

  void touch(Clock::duration timeout) { deadline_ = Clock::now() + timeout; }

  HttpServer& server_;
  std::uint64_t id_;
  std::string peer_;
  std::shared_ptr<Stream> stream_;
  HttpRequestParser parser_;
  Clock::time_point deadline_;
  bool busy_ = false;  // the handler has a request and has not answered
  bool working_ = false;
  bool keep_alive_ = true;
  bool head_only_ = false;
  bool saw_eof_ = false;
};

HttpServer::HttpServer(EventLoop& loop, const Log& log, Limits limits, Handler handler)
    : loop_(loop), log_(log), limits_(limits), handler_(std::move(handler)) {}

HttpServer::~HttpServer() = default;

void HttpServer::accept(Fd fd) {
  const std::uint64_t id = next_id_++;
  const bool full = connections_.size() >= limits_.max_connections;
  auto connection = std::make_shared<HttpConnection>(*this, id);
  connections_.emplace(id, connection);
  connection->start(std::move(fd));
  if (full) {
    log_.warn("http: max_connections reached; a connection is turned away");
    connection->reject("too many connections");
  }
  if (!std::exchange(sweeping_, true)) sweep();
}

void HttpServer::forget(std::uint64_t id) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  // Destroyed only after the handler that is running in it has returned.
  loop_.post([keep = std::move(found->second)] {});
  connections_.erase(found);
  if (draining_ && connections_.empty() && on_empty_) std::exchange(on_empty_, nullptr)();
}

void HttpServer::sweep() {
  sweeping_ = !connections_.empty();
  if (!sweeping_) return;
  const Clock::time_point now = Clock::now();
  const auto connections = connections_;  // closing changes the table
  for (const auto& [id, connection] : connections) connection->closeIfExpired(now);
  loop_.runAfter(kSweepPeriod, [this, alive = std::weak_ptr(alive_)] {
    if (!alive.expired()) sweep();
  });
}

void HttpServer::drain(Clock::duration grace, std::function<void()> on_empty) {
  draining_ = true;
  on_empty_ = std::move(on_empty);
  if (connections_.empty()) return std::exchange(on_empty_, nullptr)();
  loop_.runAfter(grace, [this, alive = std::weak_ptr(alive_)] {
    if (alive.expired()) return;
    const auto connections = connections_;
    for (const auto& [id, connection] : connections) connection->endGrace();
  });
}

}  // namespace sudoku
