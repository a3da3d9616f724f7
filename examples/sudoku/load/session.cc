#include "load/session.h"

#include <cerrno>
#include <utility>

#include "core/solve_json.h"
#include "core/solver.h"
#include "net/socket.h"

namespace sudoku {

OrError<Target> parseTarget(std::string_view text) {
  constexpr std::string_view kHttp = "http://";
  constexpr std::string_view kTcp = "tcp://";
  Target target;
  if (text.substr(0, kHttp.size()) == kHttp) {
    text.remove_prefix(kHttp.size());
    if (!text.empty() && text.back() == '/') text.remove_suffix(1);
  } else if (text.substr(0, kTcp.size()) == kTcp) {
    text.remove_prefix(kTcp.size());
    target.http = false;
  } else {
    return Failure{"\"" + std::string(text) + "\" is neither http://HOST:PORT nor tcp://HOST:PORT"};
  }
  const auto address = parseHostPort(text);
  if (!address) return Failure{address.error()};
  target.address = address.value();
  return target;
}

Session::Session(EventLoop& loop, const Target& target, bool keep_open, OnResult on_result)
    : loop_(loop), target_(target), keep_open_(keep_open), on_result_(std::move(on_result)) {}

Session::~Session() { disconnect(); }

void Session::disconnect() {
  if (!stream_) return;
  stream_->close();
  // This may run in one of its handlers: it must outlive that.
  loop_.post([keep = std::move(stream_)] {});
  stream_.reset();
}

void Session::send(const LoadRequest& request) {
  request_ = request;
  got_bytes_ = false;
  ++id_;
  if (!stream_) connect();
  if (stream_) stream_->write(formatRequest());
}

std::string Session::formatRequest() const {
  if (!target_.http) return formatLineRequest(std::to_string(id_), *request_->puzzle);
  return "GET /solve/" + *request_->puzzle + " HTTP/1.1\r\nHost: " + target_.address.text() +
         (keep_open_ ? "\r\n\r\n" : "\r\nConnection: close\r\n\r\n");
}

void Session::connect() {
  connected_ = false;
  used_before_ = false;
  http_ = {};
  lines_ = {};
  int connect_error = 0;
  Fd fd = beginConnect(target_.address, &connect_error);
  if (!fd.valid()) {
    // A refusal at once, as on the loopback, or no local port left.
    const Outcome outcome =
        connect_error == ECONNREFUSED ? Outcome::kRefused : Outcome::kUnreachable;
    return loop_.post([this, outcome] { finish(outcome); });
  }
  Stream::Handlers handlers;
  handlers.on_connected = [this] { connected_ = true; };
  handlers.on_data = [this](std::string_view bytes) { onData(bytes); };
  handlers.on_eof = [this] { onOver(0); };
  handlers.on_closed = [this](int error) { onOver(error); };
  stream_ = Stream::connecting(loop_, std::move(fd), std::move(handlers));
}

void Session::onOver(int error) {
  const bool stale = used_before_ && !got_bytes_;
  disconnect();
  if (!request_) return;
  if (!connected_) {
    return finish(error == ECONNREFUSED ? Outcome::kRefused : Outcome::kUnreachable);
  }
  finish(error == 0 ? Outcome::kClosed : Outcome::kReset, {}, stale && target_.http);
}

void Session::onData(std::string_view bytes) {
  got_bytes_ = true;
  if (target_.http) {
    onHttpData(bytes);
  } else {
    onLineData(bytes);
  }
}

void Session::onHttpData(std::string_view bytes) {
  http_.append(bytes);
  HttpResponseParser::Response response;
  const auto next = http_.next(&response);
  if (next == HttpResponseParser::Next::kNeedMore) return;
  const bool bad = next == HttpResponseParser::Next::kBad || !request_;
  if (bad || !response.keep_alive || !http_.empty()) disconnect();
  if (!request_) return;
  if (bad) return finish(Outcome::kBadAnswer);
  if (response.status >= 500) return finish(Outcome::kHttp5xx);
  if (response.status != 200) return finish(Outcome::kHttpOther);
  const auto answer = parseSolveAnswer(response.body);
  if (!answer) return finish(Outcome::kBadAnswer);
  finish(judge(answer->solution), answer->solver);
}

void Session::onLineData(std::string_view bytes) {
  lines_.append(bytes);
  std::string_view line;
  const auto next = lines_.next(&line);
  if (next == LineSplitter::Next::kNeedMore) return;
  const auto reply = next == LineSplitter::Next::kLine ? parseLineReply(line)
                                                       : OrError<LineReply>(Failure{"no line"});
  const bool bad = !reply || reply.value().id != std::to_string(id_) || !request_;
  if (bad) disconnect();
  if (!request_) return;
  finish(bad ? Outcome::kBadAnswer : judge(reply.value().digits));
}

Outcome Session::judge(std::string_view solution) const {
  return isSolutionOf(solution, *request_->puzzle) ? Outcome::kOk : Outcome::kWrong;
}

void Session::expire(Clock::time_point due_before) {
  if (!request_ || request_->due >= due_before) return;
  disconnect();  // its answer may come yet, and would pass for the next one's
  finish(Outcome::kTimeout);
}

void Session::finish(Outcome outcome, std::string solver, bool may_retry) {
  used_before_ = true;
  if (!keep_open_) disconnect();
  const Result result{*std::exchange(request_, std::nullopt), outcome, std::move(solver),
                      may_retry};
  on_result_(result);
}

}  // namespace sudoku
