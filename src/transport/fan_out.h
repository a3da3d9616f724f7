// The same work on many hosts at once.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <vector>

#include "base/cancel.h"
#include "base/result.h"

namespace cctl::ssh {

struct FanOutOptions {
  size_t forks = 64;        // at most this many at one time, each on a thread of its own
  Millis late_after{3000};  // on_late is called for work that takes longer
  // Once per index, as soon as it is late, on a thread of its own; must be thread-safe.
  std::function<void(size_t index, Millis elapsed)> on_late;
  const CancelToken* cancel = nullptr;  // once set, no further work is begun
};

// Calls work(i) for every i below `count`, on up to options.forks threads; blocks until all have
// ended. Work that had not begun when the token was set is left out: `begun` is then false for it.
// `work` must not throw.
std::vector<bool> fanOut(size_t count, const FanOutOptions& options,
                         const std::function<void(size_t)>& work);

// Results in the order of the indices; kCancelled for what was never begun.
//   auto pings = forEachHost<Pong>(hosts.size(), options, [&](size_t i) { return ping(hosts[i]);
//   });
template <typename T>
std::vector<Result<T>> forEachHost(size_t count, const FanOutOptions& options,
                                   const std::function<Result<T>(size_t)>& work) {
  std::vector<std::optional<Result<T>>> slots(count);
  fanOut(count, options, [&](size_t index) { slots[index].emplace(work(index)); });
  std::vector<Result<T>> results;
  results.reserve(count);
  for (auto& slot : slots) {
    if (slot) {
      results.push_back(std::move(*slot));
    } else {
      results.push_back(fail(Code::kCancelled, "interrupted before it was begun"));
    }
  }
  return results;
}

}  // namespace cctl::ssh
