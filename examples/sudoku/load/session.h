// One connection of the load generator, with at most one request on it. For the loop's
// thread only.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/http.h"
#include "core/line_protocol.h"
#include "core/text.h"
#include "net/stream.h"

namespace sudoku {

struct Target {
  bool http = true;  // else the solvers' line protocol
  HostPort address;
};
OrError<Target> parseTarget(std::string_view text);  // http://host:port or tcp://host:port

enum class Outcome {
  kOk,
  kRefused,      // nobody listens there
  kUnreachable,  // any other failure to connect
  kReset,
  kClosed,  // the end of the connection instead of an answer
  kTimeout,
  kBadAnswer,  // not what the protocol says
  kHttp5xx,
  kHttpOther,  // any other status but 200
  kWrong       // not a solution of the puzzle
};
inline constexpr std::array<std::string_view, 10> kOutcomeNames{
    "ok",      "refused",    "unreachable", "reset",      "closed",
    "timeout", "bad_answer", "http_5xx",    "http_other", "wrong_solution"};

struct LoadRequest {
  Clock::time_point due;  // when it should have been sent
  const std::string* puzzle = nullptr;
  bool retried = false;
};

class Session {
 public:
  struct Result {
    LoadRequest request;
    Outcome outcome = Outcome::kOk;
    std::string solver;  // who answered, when the answer says so
    // The server had closed a kept connection before it saw this request: RFC 9112 9.3.1
    // has clients send it again.
    bool may_retry = false;
  };
  using OnResult = std::function<void(const Result&)>;

  // `on_result` is never called from within send().
  Session(EventLoop& loop, const Target& target, bool keep_open, OnResult on_result);
  ~Session();

  // Precondition: isFree(). Connects first where necessary.
  void send(const LoadRequest& request);
  bool isFree() const { return !request_; }
  bool isConnected() const { return stream_ != nullptr; }
  void expire(Clock::time_point due_before);  // what is older has timed out
  const Target& target() const { return target_; }

 private:
  void connect();
  void onData(std::string_view bytes);
  void onOver(int error);
  void onHttpData(std::string_view bytes);
  void onLineData(std::string_view bytes);
  std::string formatRequest() const;
  void finish(Outcome outcome, std::string solver = {}, bool may_retry = false);
  void disconnect();
  Outcome judge(std::string_view solution) const;

  EventLoop& loop_;
  Target target_;
  bool keep_open_;
  OnResult on_result_;
  std::shared_ptr<Stream> stream_;
  bool connected_ = false;
  bool used_before_ = false;  // this connection has brought an answer
  bool got_bytes_ = false;    // of the answer to the present request
  HttpResponseParser http_;
  LineSplitter lines_;
  std::optional<LoadRequest> request_;
  std::uint64_t id_ = 0;
};

}  // namespace sudoku
