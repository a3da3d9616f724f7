// From what should run and what runs to waves of steps, as data. Pure.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "model/endpoint.h"
#include "model/manifest.h"
#include "model/placement.h"

namespace cctl {

// A generated file before and after; a side without one is empty. Secrets are hidden.
struct FileDifference {
  std::string path;
  std::string before, after;
  bool is_new = false;  // there is none before
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
// The new ones must stay ready and not restart for so long; 0: look once. Undo: nothing
struct ObserveStep {
  std::vector<InstanceId> items;
  Millis duration{0};
};
struct PublishStep {  // enter the new ones in the registry. Undo: the entries as before
  std::vector<InstanceId> items;
};
struct WithdrawStep {  // take entries out of the registry. Undo: the entries as before
  std::vector<InstanceId> items;
};
// Let clients move on: at least kLeastDrain, then until nobody is connected to these for a while,
// or `most` is up. Undo: nothing
struct DrainStep {
  std::vector<OldGeneration> items;
  Millis most{0};
};
struct StopStep {  // old generations. Undo: start them again
  std::vector<OldGeneration> items;
};
// Stop and start the very generation that runs. Undo: nothing; the registry is put back only where
// it runs again
struct RestartStep {
  std::vector<OldGeneration> items;
};
struct ForgetStep {  // take instances off hosts where they no longer belong. Never undone: comes
                     // last
  std::vector<OldGeneration> items;
};
using Step = std::variant<StartStep, ObserveStep, PublishStep, WithdrawStep, DrainStep, StopStep,
                          RestartStep, ForgetStep>;

// Shortest drain after a withdrawal: what readers need to hear of it.
constexpr Millis kLeastDrain{1'000};

std::string_view stepName(const Step& step);  // "start"
bool isEmpty(const Step& step);
// The part of a step that is about these instances, and the rest of it.
Step onlyOf(const Step& step, const std::set<InstanceId>& ids);
Step without(const Step& step, const std::set<InstanceId>& ids);

struct Wave {
  std::string title;  // "sudoku-solver/[0-1] on host[1-2]: 1.0.0 → 1.1.0"
  std::vector<Step> steps;
  bool canary = false;
};

struct Plan {
  std::vector<Wave> waves;
  std::vector<InstanceId> kept;  // already as they should be
  std::vector<InstanceId> held;  // stopped by a person: left alone
  // What runs of `kept`. A roll-out that was killed may have started it and not published it.
  std::vector<ObservedInstance> kept_running;
  // Stopped at once, before anything else. Those beside what is replaced go with that instead.
  std::vector<OldGeneration> strays;

  bool empty() const { return waves.empty() && strays.empty(); }
};

struct PlanInput {
  const Manifest* manifest = nullptr;
  Version version;
  Placement placement;                     // where each instance belongs
  std::vector<ObservedInstance> observed;  // every generation known of on reachable hosts
  std::vector<int> held;
  bool force = false;  // replace also what is up to date
  // Of those of `placement` that have no generation where they belong: the files that they get.
  std::map<InstanceId, std::vector<FileDifference>> new_files{};
};

// `upgrade.canary` first of all. Creates (all at once when nothing of the service runs, else batch
// by batch like the rest), then replacements in batches of `upgrade.batch`, then what is no longer
// placed anywhere.
// A generation that runs beside its instance's current one is a stray of an unfinished roll-out.
Plan planRollout(const PlanInput& input);

struct RestartInput {
  const Manifest* manifest = nullptr;
  // The current generation of each instance to be restarted; running or not.
  std::vector<ObservedInstance> instances;
  int total = 0;  // instances of the service: what a percentage is of
  // Others of the service that are published: clients can go there meanwhile.
  int published_beside = 0;
};

// By canary and batches as a roll-out, the old process always before the new one: it is the same
// generation, and has the same ports. Where all ports are passed sockets and clients have nowhere
// else to go, an instance stays published: they wait in the socket's queue.
Plan planRestart(const RestartInput& input);

// What is published after each step of the plan that changes it, in their order; `before` is not
// among them. `fresh`: the entries that its PublishSteps make.
std::vector<std::vector<Endpoint>> endpointStages(const Plan& plan, std::vector<Endpoint> before,
                                                  const std::map<InstanceId, Endpoint>& fresh);

}  // namespace cctl
