// The programs that this host runs when something happens to a service: `alerts` of the inventory,
// kept here so that they work with nobody connected.
#pragma once

#include <deque>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "shim/host.h"
#include "shim/program.h"

namespace cctl::shim {

struct HookLimits {
  Millis time_limit{30'000};  // then KILL, to the process group
  size_t at_once = 4;
  size_t waiting = 64;  // more than this are dropped, and counted in the journal
};

// Watches the journal: an event with an `alert` runs every hook that is for it, as the shim's own
// user, with the event as one JSON object on standard input. What fails is journalled as kHook.
// Programs that run when the shim ends are left alone, and then nobody limits their time.
class Hooks {
 public:
  // `loop` and `journal` must outlive it. Takes up what replace() has stored before.
  Hooks(std::string root, Identity identity, EventLoop& loop, Journal& journal,
        HookLimits limits = {});
  ~Hooks();
  Hooks(const Hooks&) = delete;
  Hooks& operator=(const Hooks&) = delete;

  // On disk when it returns. kBadInput for hooks that make no sense; then nothing has changed.
  [[nodiscard]] Result<void> replace(std::vector<protocol::Hook> hooks);
  const std::vector<protocol::Hook>& hooks() const { return hooks_; }

 private:
  struct Job {
    std::vector<std::string> argv;
    protocol::Event event;
  };
  struct Run {
    Job job;
    std::unique_ptr<Program> program;
  };

  void load();
  void onEvent(const protocol::Event& event);
  void wake();
  void beginWaiting();
  void tellProblem();
  void tellDropped();
  void begin(Job job);
  void onEnd(Program& program);
  void recordFailure(const Job& job, const std::string& how,
                     std::optional<protocol::ExitReport> exit);

  const std::string root_;
  const Identity identity_;
  EventLoop& loop_;
  Journal& journal_;
  const HookLimits limits_;
  std::vector<protocol::Hook> hooks_;
  uint64_t observation_ = 0;
  std::deque<Job> waiting_;
  std::list<Run> runs_;
  size_t dropped_ = 0;
  std::string problem_;  // with the file of hooks; empty once told
  Timer wake_;
};

// What a hook reads: the event as `events -o json` has it, with the host and the cluster.
std::string hookInput(const Identity& identity, const protocol::Event& event);

}  // namespace cctl::shim
