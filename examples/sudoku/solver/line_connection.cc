#include "solver/line_connection.h"

#include <cstring>
#include <utility>

#include "core/solver.h"
#include "net/socket.h"
#include "solver/worker.h"

namespace sudoku {
namespace {

constexpr int kRequestsAtOnce = 32;  // then it is another connection's turn
constexpr std::size_t kMostUnsent = 64 * 1024;
constexpr std::size_t kMostUnread = 256 * 1024;

}  // namespace

void LineConnection::start(Fd fd) {
  peer_ = peerAddress(fd.get()).text();
  Stream::Handlers handlers;
  handlers.on_data = [this](std::string_view bytes) { onData(bytes); };
  handlers.on_eof = [this] { onEof(); };
  handlers.on_flushed = [this] { work(); };
  handlers.on_closed = [this](int error) { onClosed(error); };
  stream_ = Stream::accepted(worker_.loop_, std::move(fd), std::move(handlers));
}

bool LineConnection::isQuietFor(Clock::duration time) const {
  return lines_.buffered() == 0 && stream_->unsent() == 0 && Clock::now() - last_data_ >= time;
}

void LineConnection::closeWhenAnswered() {
  if (std::exchange(closing_, true)) return;
  stream_->readNow(kMostUnread);
  work();
}

void LineConnection::onData(std::string_view bytes) {
  last_data_ = Clock::now();
  lines_.append(bytes);
  work();
}

// The client may have shut down its side only, and wait for the answers.
void LineConnection::onEof() {
  saw_eof_ = true;
  work();
}

void LineConnection::onClosed(int error) {
  if (error != 0) {
    worker_.counters_.connection_errors.add();
    worker_.log_.warn("main " + peer_ + ": " + std::strerror(error));
  }
  worker_.forget(id_);
}

// Answers what is there, in portions; while a client does not read its answers, nothing
// more is read from it, so that it cannot make us hold more than the limits above.
void LineConnection::work() {
  if (!stream_->isOpen() || stream_->isFinishing()) return;
  std::string answers;
  const bool more = answerSome(&answers);
  if (!answers.empty()) stream_->write(answers);
  const bool may_go_on = stream_->unsent() < kMostUnsent;
  stream_->setReading(!more && !closing_);
  if (!more && (saw_eof_ || closing_)) return stream_->finish();
  if (!more || !may_go_on || std::exchange(work_posted_, true)) return;
  worker_.loop_.post([weak = weak_from_this()] {
    const auto self = weak.lock();
    if (!self) return;
    self->work_posted_ = false;
    self->work();
  });
}

// True when there may be further requests to answer.
bool LineConnection::answerSome(std::string* answers) {
  if (stream_->unsent() >= kMostUnsent) return true;
  for (int i = 0; i < kRequestsAtOnce; ++i) {
    std::string_view line;
    const auto next = lines_.next(&line);
    if (next == LineSplitter::Next::kNeedMore) {
      if (saw_eof_ && lines_.buffered() > 0) refuse(answers, "the last line has no end");
      return false;
    }
    bool bad = next == LineSplitter::Next::kBad;
    if (!bad) *answers += answer(line, &bad);
    if (!bad) continue;
    refuse(answers, "not a request");
    return false;
  }
  return true;
}

std::string LineConnection::answer(std::string_view line, bool* bad) {
  const auto request = parseLineRequest(line);
  *bad = !request;
  if (*bad) return {};
  Counters& counters = worker_.counters_;
  const Clock::time_point begin = Clock::now();
  const Solution solution = solve(request.value().puzzle);
  counters.latency.record(
      std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - begin));
  switch (solution.verdict) {
    case Verdict::kSolved:
      counters.solved.add();
      break;
    case Verdict::kNoSolution:
      counters.no_solution.add();
      break;
    case Verdict::kGaveUp:
      counters.gave_up.add();
      worker_.log_.warn("main " + peer_ + ": gave up on " + request.value().puzzle);
      break;
  }
  return formatLineReply(request.value().id, solution.digits);
}

void LineConnection::refuse(std::string* answers, const char* why) {
  worker_.counters_.bad_requests.add();
  worker_.log_.warn("main " + peer_ + ": bad request: " + why);
  answers->append(kBadRequestLine);
  closing_ = true;
}

}  // namespace sudoku
