// What an operation tells while it runs. Operations print nothing; whoever runs them shows this.
#pragma once

#include <string>
#include <vector>

#include "base/clock.h"
#include "model/names.h"

namespace cctl::ops {

enum class OpEventKind {
  kPhase,    // text: "pushing sudoku-solver 1.1.0 to 3 hosts"
  kStep,     // something about one host or instance was done
  kLate,     // a host has not answered for a while
  kWarning,  // goes on, but a person should know
  kFailure,  // a host or an instance failed
};

struct OpEvent {
  OpEventKind kind = OpEventKind::kStep;
  std::string subject;  // host or instance; may be empty
  std::string text;
  std::vector<std::string> details;  // e.g. the last output lines
};

// Called from several threads, one call at a time is not promised: implementations lock.
class EventSink {
 public:
  virtual ~EventSink() = default;
  virtual void onEvent(const OpEvent& event) = 0;

  void phase(std::string text) { onEvent({OpEventKind::kPhase, "", std::move(text), {}}); }
  void step(std::string subject, std::string text) {
    onEvent({OpEventKind::kStep, std::move(subject), std::move(text), {}});
  }
  void warning(std::string subject, std::string text) {
    onEvent({OpEventKind::kWarning, std::move(subject), std::move(text), {}});
  }
};

}  // namespace cctl::ops
