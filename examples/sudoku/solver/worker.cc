#include "solver/worker.h"

#include <utility>

#include "solver/line_connection.h"

namespace sudoku {
namespace {

constexpr Clock::duration kSweepPeriod = std::chrono::milliseconds(500);
constexpr Clock::duration kDrainPeriod = std::chrono::milliseconds(20);
// While draining: a client that has sent nothing for this long has nothing on its way.
constexpr Clock::duration kQuiet = std::chrono::milliseconds(100);

}  // namespace

Worker::Worker(Counters& counters, const Log& log) : counters_(counters), log_(log) {
  thread_ = std::thread([this] {
    loop_.run();
    connections_.clear();  // in the thread that they belong to
  });
}

Worker::~Worker() { join(); }

void Worker::join() {
  if (!thread_.joinable()) return;
  loop_.stop();
  thread_.join();
}

void Worker::adopt(Fd fd) {
  // std::function wants to copy what it holds, hence the shared_ptr.
  loop_.post([this, shared = std::make_shared<Fd>(std::move(fd))] { open(std::move(*shared)); });
}

void Worker::open(Fd fd) {
  const std::uint64_t id = next_id_++;
  const auto connection = std::make_shared<LineConnection>(*this, id);
  connections_.emplace(id, connection);
  connection->start(std::move(fd));
}

void Worker::forget(std::uint64_t id) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  // Destroyed only after the handler that is running in it has returned.
  loop_.post([keep = std::move(found->second)] {});
  connections_.erase(found);
  counters_.connections_open.subtract();
}

void Worker::setIdleTimeout(Clock::duration timeout) {
  loop_.post([this, timeout] {
    const bool sweeping = idle_timeout_ > Clock::duration::zero();
    idle_timeout_ = timeout;
    if (!sweeping) sweepIdle();
  });
}

void Worker::sweepIdle() {
  if (idle_timeout_ == Clock::duration::zero()) return;
  const auto connections = connections_;  // closing changes the table
  for (const auto& [id, connection] : connections) {
    if (connection->isQuietFor(idle_timeout_)) connection->closeWhenAnswered();
  }
  loop_.runAfter(kSweepPeriod, [this] { sweepIdle(); });
}

void Worker::drain(Clock::duration grace, std::function<void()> on_empty) {
  loop_.post([this, grace, on_empty = std::move(on_empty)] {
    on_empty_ = on_empty;
    drainSome(Clock::now() + grace);
  });
}

void Worker::drainSome(Clock::time_point deadline) {
  if (connections_.empty()) return on_empty_();
  const bool over = Clock::now() >= deadline;
  const auto connections = connections_;
  for (const auto& [id, connection] : connections) {
    if (over || connection->isQuietFor(kQuiet)) connection->closeWhenAnswered();
  }
  loop_.runAfter(kDrainPeriod, [this, deadline] { drainSome(deadline); });
}

}  // namespace sudoku
