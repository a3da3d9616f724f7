// From what should run and what runs to waves of steps, as data. Pure.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "model/manifest.h"
#include "model/placement.h"

namespace cctl {

// A generated file before and after; a side without one is empty. Secrets are blotted out.
struct FileDifference {
  std::string path;
  std::string before, after;
  friend bool operator==(const FileDifference&, const FileDifference&) = default;
};

// How a generation differs from what would be rendered today.
struct Difference {
  std::vector<std::string> reasons;  // "version 1.0.0 → 1.1.0", "config app.conf", …
  std::vector<FileDifference> files;
  bool empty() const { return reasons.empty(); }
  friend bool operator==(const Difference&, const Difference&) = default;
};

// One generation of one instance as its host's shim reports it.
struct ObservedInstance {
  InstanceId id;
  HostName host;
  int generation = 0;
  Version version;
  bool running = false;  // a process exists
  bool ready = false;
  bool current = false;     // what a boot would start
  bool wanted = false;      // its shim keeps it running
  bool up_to_date = false;  // renders to exactly what runs: nothing would change
  Difference difference;    // why it is not; of current generations only
  std::map<std::string, int> ports;
};

// A generation that exists on a host.
struct OldGeneration {
  InstanceId id;
  HostName host;
  int generation = 0;
  bool running = false;
  friend auto operator<=>(const OldGeneration&, const OldGeneration&) = default;
};

// Steps. All items of one step are done at the same time; undone means: put back as before.
struct StartStep {  // new generations: allocate ports, render, start, await readiness. Undo: stop
                    // them
  std::vector<Placed> items;
};
struct PublishStep {  // enter the new ones in the registry. Undo: the entries as before
  std::vector<InstanceId> items;
};
struct WithdrawStep {  // take entries out of the registry. Undo: the entries as before
  std::vector<InstanceId> items;
};
struct DrainStep {  // let clients move on. Undo: nothing
  Millis duration{0};
};
struct StopStep {  // old generations. Undo: start them again
  std::vector<OldGeneration> items;
};
struct ForgetStep {  // take instances off hosts where they no longer belong. Never undone: comes
                     // last
  std::vector<OldGeneration> items;
};
using Step = std::variant<StartStep, PublishStep, WithdrawStep, DrainStep, StopStep, ForgetStep>;

struct Wave {
  std::string title;  // "sudoku-solver/0 on host1: 1.0.0 → 1.1.0"
  std::vector<Step> steps;
};

struct Plan {
  std::vector<Wave> waves;
  std::vector<InstanceId> kept;  // already as they should be
  std::vector<InstanceId> held;  // stopped by a person: left alone
  // What runs of `kept`. A roll-out that was killed may have started it and not published it.
  std::vector<ObservedInstance> kept_running;
  std::vector<OldGeneration> strays;  // stopped at once, before anything else

  bool empty() const { return waves.empty() && strays.empty(); }
};

struct PlanInput {
  const Manifest* manifest = nullptr;
  Version version;
  Placement placement;                     // where each instance belongs
  std::vector<ObservedInstance> observed;  // every generation known of on reachable hosts
  std::vector<int> held;
  bool force = false;  // replace also what is up to date
};

// Creates first (all at once when nothing of the service runs, else batch by batch like the rest),
// then replacements in batches of `upgrade.batch`, then what is no longer placed anywhere.
// A generation that runs beside its instance's current one is a stray of an unfinished roll-out.
Plan planRollout(const PlanInput& input);

}  // namespace cctl
