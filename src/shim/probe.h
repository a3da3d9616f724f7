// Asks a service whether it is ready: once, or again and again until it is.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "protocol/messages.h"
#include "shim/event_loop.h"
#include "shim/spawn.h"

namespace cctl::shim {

struct ProbeTarget {
  protocol::Probe probe;
  int port = 0;                        // for tcp and http
  std::vector<std::string> addresses;  // tried in turn: 127.0.0.1, ::1, the host's own
  SpawnRequest command;                // for exec
  Millis attempt_timeout{2'000};
};

// One attempt. Destroyed, it asks no further. The callback comes from the loop, never from the
// constructor; `answer` is what was seen, in words.
class ProbeAttempt {
 public:
  using Done = std::function<void(bool ok, std::string answer)>;
  virtual ~ProbeAttempt() = default;
  static std::unique_ptr<ProbeAttempt> begin(EventLoop& loop, const ProbeTarget& target, Done done);
};

// Attempts at growing intervals, 20 ms to 250 ms, until one succeeds; that one is reported. A
// service without a probe is ready when it has lived for a quarter of a second.
class ReadinessProbe {
 public:
  // `accept` may still turn a success down: it returns why, or nothing.
  using Accept = std::function<std::string()>;
  ReadinessProbe(EventLoop& loop, ProbeTarget target, Accept accept,
                 std::function<void()> on_ready);
  const std::string& lastAnswer() const { return last_answer_; }

 private:
  void attempt();
  void onAnswer(bool ok, std::string answer);

  EventLoop& loop_;
  ProbeTarget target_;
  Accept accept_;
  std::function<void()> on_ready_;
  std::unique_ptr<ProbeAttempt> attempt_;
  Timer timer_;
  Millis interval_;
  std::string last_answer_;
};

// Asks at an interval, as long as it lives; tells of each change: so many failures in a row, and
// the first success after them.
class LivenessProbe {
 public:
  using OnChange = std::function<void(bool healthy, const std::string& answer)>;
  // `loop` must outlive it.
  LivenessProbe(EventLoop& loop, ProbeTarget target, Millis interval, int failures,
                OnChange on_change);

 private:
  void attempt();
  void onAnswer(bool ok, const std::string& answer);

  EventLoop& loop_;
  ProbeTarget target_;
  const Millis interval_;
  const int failures_;
  OnChange on_change_;
  std::unique_ptr<ProbeAttempt> attempt_;
  SteadyTime begun_{};  // of the attempt
  Timer timer_;
  int failed_ = 0;  // in a row
};

}  // namespace cctl::shim
