// A program that the shim runs for its own ends (alerts, reloads of views): as the shim's user,
// with a time limit, and with the last of its output kept.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/fd.h"
#include "protocol/messages.h"
#include "shim/event_loop.h"

namespace cctl::shim {

class Program {
 public:
  // Called once, from the loop, when it has ended; it may destroy this object.
  using OnEnd = std::function<void(Program&)>;

  // `loop` must outlive it. A program that runs when this is destroyed is left alone, and then
  // nobody limits its time.
  Program(EventLoop& loop, Millis time_limit, OnEnd on_end)
      : loop_(loop), time_limit_(time_limit), on_end_(std::move(on_end)) {}
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // Begins `argv` (an absolute path first), with `input` as its standard input. Beyond the time
  // limit it is killed with its process group.
  [[nodiscard]] Result<void> begin(const std::vector<std::string>& argv, const std::string& input);

  // Once it has ended.
  const protocol::ExitReport& report() const { return report_; }
  bool succeeded() const { return !timed_out_ && report_.exit_status == 0; }
  // "killed after 30s", "exit status 3", …
  std::string describe() const;

 private:
  void watch();
  bool readOutput();
  void onExit();

  EventLoop& loop_;
  const Millis time_limit_;
  OnEnd on_end_;
  Fd input_;
  Fd output_;
  Fd pidfd_;
  Watch output_watch_;
  Watch exit_watch_;
  Timer limit_timer_;
  SteadyTime begun_{};
  protocol::ExitReport report_;
  bool timed_out_ = false;
  std::string tail_;
};

}  // namespace cctl::shim
