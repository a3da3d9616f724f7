#include "transport/fan_out.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace cctl::ssh {
namespace {

class FanOut {
 public:
  FanOut(size_t count, const FanOutOptions& options, const std::function<void(size_t)>& work)
      : options_(options), work_(work), slots_(count) {}

  std::vector<bool> run() {
    const size_t threads = std::min(std::max<size_t>(options_.forks, 1), slots_.size());
    std::thread watcher;
    if (options_.on_late) watcher = std::thread([this] { watch(); });
    std::vector<std::thread> workers;
    for (size_t i = 0; i < threads; ++i) workers.emplace_back([this] { drain(); });
    for (auto& worker : workers) worker.join();
    if (watcher.joinable()) {
      finish();
      watcher.join();
    }
    std::vector<bool> begun;
    for (const auto& slot : slots_) begun.push_back(slot.state != State::kWaiting);
    return begun;
  }

 private:
  enum class State { kWaiting, kRunning, kDone };
  struct Slot {
    State state = State::kWaiting;
    bool reported = false;
    SteadyTime begun{};
  };

  void drain() {
    while (const auto index = take()) {
      work_(*index);
      const std::lock_guard lock(mutex_);
      slots_[*index].state = State::kDone;
    }
  }

  std::optional<size_t> take() {
    const std::lock_guard lock(mutex_);
    if (next_ == slots_.size()) return std::nullopt;
    if (options_.cancel != nullptr && options_.cancel->cancelled()) return std::nullopt;
    slots_[next_].state = State::kRunning;
    slots_[next_].begun = std::chrono::steady_clock::now();
    changed_.notify_one();
    return next_++;
  }

  void finish() {
    const std::lock_guard lock(mutex_);
    finished_ = true;
    changed_.notify_one();
  }

  // Work begins in the order of the indices, so the first one that runs unreported is due next.
  void watch() {
    std::unique_lock lock(mutex_);
    while (!finished_) {
      const auto due = nextDue();
      if (!due) {
        changed_.wait(lock);
      } else if (std::chrono::steady_clock::now() < slots_[*due].begun + options_.late_after) {
        changed_.wait_until(lock, slots_[*due].begun + options_.late_after);
      } else {
        reportLate(*due, lock);
      }
    }
  }

  std::optional<size_t> nextDue() const {
    for (size_t i = 0; i < next_; ++i) {
      if (slots_[i].state == State::kRunning && !slots_[i].reported) return i;
    }
    return std::nullopt;
  }

  void reportLate(size_t index, std::unique_lock<std::mutex>& lock) {
    slots_[index].reported = true;
    const auto elapsed =
        std::chrono::duration_cast<Millis>(std::chrono::steady_clock::now() - slots_[index].begun);
    lock.unlock();
    options_.on_late(index, elapsed);
    lock.lock();
  }

  const FanOutOptions& options_;
  const std::function<void(size_t)>& work_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Slot> slots_;
  size_t next_ = 0;
  bool finished_ = false;
};

}  // namespace

std::vector<bool> fanOut(size_t count, const FanOutOptions& options,
                         const std::function<void(size_t)>& work) {
  return FanOut(count, options, work).run();
}

}  // namespace cctl::ssh
