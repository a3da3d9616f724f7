// What a roll-out that is about to be put back leaves for whoever has to find out why.
//
//   DIR/SERVICE-VERSION-TIME/summary.txt      what was wanted, by whom, and why it failed
//                           /timeline.jsonl   what was done when: {"at","kind","subject","text"}
//                           /failures.json    problem, health answer and exit of each instance
//                           /HOST-S-I/        status.json, output.log, events.jsonl, config.diff
//
// Directories are 0700 and files 0600: what a service writes may hold secrets. Those that the
// inventory names are hidden in config.diff.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "ops/rollout.h"

namespace cctl::ops {

// Passes everything on and remembers when it was.
class Timeline : public EventSink {
 public:
  explicit Timeline(EventSink& next) : next_(next) {}
  void onEvent(const OpEvent& event) override;
  std::string jsonLines() const;

 private:
  EventSink& next_;
  mutable std::mutex mutex_;
  std::vector<std::pair<WallTime, OpEvent>> events_;
};

struct EvidenceInput {
  ServiceName service;
  Version version;
  std::string previous_version;
  WallTime begun{};
  Error cause;
  const Timeline* timeline = nullptr;
  std::vector<InstanceFailure> failures;
  // Of each instance that failed: the generation that was started, and the one that ran before.
  std::map<InstanceId, int> fresh;
  std::map<InstanceId, int> old;
};

// Asks the hosts of the instances that failed; what cannot be had is said in its file. The
// directory that was made, absolute.
[[nodiscard]] Result<std::string> writeEvidence(Operation& operation, const EvidenceInput& input,
                                                const std::string& parent);

}  // namespace cctl::ops
