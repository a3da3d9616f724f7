#include "web/backend.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "net/socket.h"
#include "net/stream.h"

namespace sudoku {
namespace {

constexpr Clock::duration kFirstReconnectDelay = std::chrono::milliseconds(100);
constexpr Clock::duration kLongestReconnectDelay = std::chrono::seconds(1);
constexpr unsigned kMostDoublings = 5;

std::string describe(int error) {
  return error == 0 ? "closed by the solver" : std::strerror(error);
}

}  // namespace

// One connection to the solver.
class BackendLink : public std::enable_shared_from_this<BackendLink> {
 public:
  explicit BackendLink(Backend& backend) : backend_(backend) {}
  ~BackendLink() {
    for (const auto& [id, flight] : flights_) backend_.loop_.cancel(flight.timer);
    backend_.loop_.cancel(connect_timer_);
  }

  void start(Fd fd) {
    Stream::Handlers handlers;
    handlers.on_connected = [this] { onConnected(); };
    handlers.on_data = [this](std::string_view bytes) { onData(bytes); };
    handlers.on_eof = [this] { over(describe(0)); };
    handlers.on_closed = [this](int error) { over(describe(error)); };
    stream_ = Stream::connecting(backend_.loop_, std::move(fd), std::move(handlers));
    connect_timer_ = backend_.loop_.runAfter(backend_.conf_.attempt_timeout,
                                             [this] { over("no connection in time"); });
  }

  void send(const PendingSolvePtr& request) {
    const std::uint64_t id = next_id_++;
    const auto timer = backend_.loop_.runAfter(backend_.conf_.attempt_timeout,
                                               [this] { over("no answer in time"); });
    flights_.emplace(id, Flight{request, timer});
    stream_->write(formatLineRequest(std::to_string(id), request->puzzle));
  }

  bool isConnected() const { return connected_; }
  std::size_t outstanding() const { return flights_.size(); }

  std::vector<PendingSolvePtr> takeOutstanding() {
    std::vector<PendingSolvePtr> requests;
    for (const auto& [id, flight] : flights_) {
      backend_.loop_.cancel(flight.timer);
      requests.push_back(flight.request);
    }
    flights_.clear();
    return requests;
  }

  void closeIfIdle() {
    if (flights_.empty()) over("");
  }

 private:
  struct Flight {
    PendingSolvePtr request;
    EventLoop::Timer timer;
  };

  void onConnected() {
    connected_ = true;
    backend_.loop_.cancel(connect_timer_);
    backend_.onConnected(*this);
  }

  void onData(std::string_view bytes) {
    const auto self = shared_from_this();
    lines_.append(bytes);
    std::string_view line;
    while (stream_->isOpen()) {
      const auto next = lines_.next(&line);
      if (next == LineSplitter::Next::kNeedMore) return;
      if (next == LineSplitter::Next::kBad || !onLine(line)) return over("a senseless answer");
    }
  }

  bool onLine(std::string_view line) {
    const auto reply = parseLineReply(line);
    if (!reply || reply.value().kind == LineReply::Kind::kBadRequest) return false;
    const auto id = parseNumber(reply.value().id, 1, UINT64_MAX);
    const auto found = id ? flights_.find(*id) : flights_.end();
    if (found == flights_.end()) return false;
    const Flight flight = found->second;
    flights_.erase(found);
    backend_.loop_.cancel(flight.timer);
    backend_.onAnswered(flight.request, reply.value());
    return true;
  }

  void over(const std::string& why) {
    const auto self = shared_from_this();
    stream_->close();
    backend_.loop_.cancel(connect_timer_);
    backend_.onLinkOver(*this, why);
  }

  Backend& backend_;
  std::shared_ptr<Stream> stream_;
  LineSplitter lines_;
  std::unordered_map<std::uint64_t, Flight> flights_;
  std::uint64_t next_id_ = 1;
  bool connected_ = false;
  EventLoop::Timer connect_timer_{};
};

Backend::Backend(EventLoop& loop, const Log& log, HostPort address, const BackendConf& conf,
                 const Listener& listener)
    : loop_(loop),
      log_(log),
      address_(std::move(address)),
      conf_(conf),
      listener_(listener),
      reconnect_delay_(kFirstReconnectDelay) {
  // Connected before the first request comes: no request pays for it, and /readyz knows.
  connectMissing();
}

Backend::~Backend() { loop_.cancel(reconnect_timer_); }

void Backend::configure(const BackendConf& conf) {
  conf_ = conf;
  connectMissing();
}

bool Backend::isConnected() const { return leastBusyLink() != nullptr; }

std::size_t Backend::outstanding() const {
  std::size_t sum = waiting_.size();
  for (const auto& link : links_) sum += link->outstanding();
  return sum;
}

BackendLink* Backend::leastBusyLink() const {
  BackendLink* best = nullptr;
  for (const auto& link : links_) {
    if (!link->isConnected()) continue;
    if (best == nullptr || link->outstanding() < best->outstanding()) best = link.get();
  }
  return best;
}

void Backend::submit(const PendingSolvePtr& request) {
  if (BackendLink* link = leastBusyLink()) return link->send(request);
  waiting_.push_back(request);
  // Somebody waits now: this does not wait for the next planned attempt.
  if (links_.empty()) connectOne();
}

void Backend::connectMissing() {
  reconnect_planned_ = false;
  while (!retired_ && links_.size() < conf_.connections && !reconnect_planned_) connectOne();
}

void Backend::connectOne() {
  int error = 0;
  Fd fd = beginConnect(address_, &error);
  if (!fd.valid()) {
    failWaiting(describe(error));
    return scheduleReconnect();
  }
  links_.push_back(std::make_shared<BackendLink>(*this));
  links_.back()->start(std::move(fd));
}

void Backend::scheduleReconnect() {
  if (retired_ || std::exchange(reconnect_planned_, true)) return;
  reconnect_timer_ = loop_.runAfter(reconnect_delay_, [this] { connectMissing(); });
  reconnect_delay_ = std::min(2 * reconnect_delay_, kLongestReconnectDelay);
}

void Backend::onConnected(BackendLink& link) {
  reconnect_delay_ = kFirstReconnectDelay;
  reported_down_ = false;
  log_.debug("solver " + address_.text() + ": connected");
  for (const auto& request : std::exchange(waiting_, {})) link.send(request);
  if (retired_) link.closeIfIdle();
}

void Backend::onLinkOver(const BackendLink& link, const std::string& why) {
  const auto found = std::find_if(links_.begin(), links_.end(),
                                  [&](const auto& known) { return known.get() == &link; });
  if (found == links_.end()) return;
  const std::shared_ptr<BackendLink> keep = *found;
  links_.erase(found);
  const auto requests = keep->takeOutstanding();
  if (!retired_) {
    reportDown(why, requests.size());
    eject();
  }
  for (const auto& request : requests) failLater(request, why);
  if (links_.empty()) failWaiting(why);
  scheduleReconnect();
}

void Backend::reportDown(const std::string& why, std::size_t requests) {
  if (requests == 0 && std::exchange(reported_down_, true)) return;
  const std::string moved =
      requests == 0 ? "" : "; " + std::to_string(requests) + " requests go to another";
  log_.info("solver " + address_.text() + ": " + why + moved);
}

void Backend::failWaiting(const std::string& why) {
  for (const auto& request : std::exchange(waiting_, {})) failLater(request, why);
}

// A solver that failed is left alone for a while, longer each time until it answers.
void Backend::eject() {
  if (isEjected()) return;
  ejected_until_ = Clock::now() + conf_.eject_for * (1 << ejections_in_a_row_);
  ejections_in_a_row_ = std::min(ejections_in_a_row_ + 1, kMostDoublings);
}

// Not at once: the listener may submit it to this very backend again.
void Backend::failLater(const PendingSolvePtr& request, const std::string& why) {
  ++failed_;
  ++failing_;
  loop_.post([this, request, why, alive = std::weak_ptr(alive_)] {
    if (alive.expired()) return;
    --failing_;
    listener_.on_failure(request, *this, why);
  });
}

void Backend::onAnswered(const PendingSolvePtr& request, const LineReply& reply) {
  ++answered_;
  ejections_in_a_row_ = 0;
  listener_.on_answer(request, *this, reply);
  if (retired_) retire();
}

void Backend::retire() {
  retired_ = true;
  loop_.cancel(reconnect_timer_);
  const auto links = links_;  // closing changes the list
  for (const auto& link : links) {
    if (waiting_.empty()) link->closeIfIdle();
  }
}

std::string Backend::statsJson() const {
  return "{\"address\":" + jsonString(address_.text()) +
         ",\"connected\":" + (isConnected() ? "true" : "false") +
         ",\"ejected\":" + (isEjected() ? "true" : "false") +
         ",\"outstanding\":" + std::to_string(outstanding()) +
         ",\"answered\":" + std::to_string(answered_) + ",\"failed\":" + std::to_string(failed_) +
         "}";
}

}  // namespace sudoku
