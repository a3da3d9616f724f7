#include "model/planned_change.h"

#include <algorithm>

namespace cctl {
namespace {

// Of several generations on one host: the one that runs, the current one first.
const ObservedInstance* runningOf(const PlanInput& input, const InstanceId& id,
                                  const HostName* host) {
  const ObservedInstance* best = nullptr;
  for (const ObservedInstance& one : input.observed) {
    if (one.id != id || !one.running || (host && one.host != *host)) continue;
    if (best == nullptr || (one.current && !best->current)) best = &one;
  }
  return best;
}

const ObservedInstance* currentOf(const PlanInput& input, const InstanceId& id,
                                  const HostName& host) {
  for (const ObservedInstance& one : input.observed)
    if (one.id == id && one.host == host && one.current) return &one;
  return nullptr;
}

const Placed* placeOf(const PlanInput& input, const InstanceId& id) {
  for (const Placed& placed : input.placement)
    if (placed.instance == id) return &placed;
  return nullptr;
}

// What it gets where it belongs, against what a generation of it there has.
std::vector<FileDifference> filesOf(const PlanInput& input, const Placed& placed) {
  if (const auto* current = currentOf(input, placed.instance, placed.host))
    return current->difference.files;
  const auto fresh = input.new_files.find(placed.instance);
  return fresh == input.new_files.end() ? std::vector<FileDifference>() : fresh->second;
}

PlannedChange startOf(const PlanInput& input, const Placed& placed) {
  PlannedChange change{ChangeKind::kStart,    placed.instance, placed.host, {}, input.version, {},
                       filesOf(input, placed)};
  if (currentOf(input, placed.instance, placed.host) != nullptr)
    change.why.emplace_back("it does not run");
  else
    change.why.emplace_back("not there yet");
  return change;
}

PlannedChange replaceOf(const PlanInput& input, const Placed& placed, const ObservedInstance& old) {
  PlannedChange change{ChangeKind::kReplace, placed.instance,        placed.host,         {},
                       input.version,        old.difference.reasons, old.difference.files};
  if (!old.ready) change.why.emplace_back("it is not ready");
  if (!old.current) change.why.emplace_back("it is not what a boot would start");
  if (change.why.empty()) change.why.emplace_back("asked for");
  return change;
}

PlannedChange moveOf(const PlanInput& input, const Placed& placed, const ObservedInstance& old) {
  PlannedChange change = replaceOf(input, placed, old);
  change.kind = ChangeKind::kMove;
  change.from = old.host;
  change.files = filesOf(input, placed);
  change.why = {fmt::format("it belongs on {} now", placed.host)};
  return change;
}

PlannedChange changeFor(const PlanInput& input, const Placed& placed) {
  if (const auto* old = runningOf(input, placed.instance, &placed.host))
    return replaceOf(input, placed, *old);
  if (const auto* old = runningOf(input, placed.instance, nullptr))
    return moveOf(input, placed, *old);
  return startOf(input, placed);
}

std::optional<PlannedChange> removalOf(const PlanInput& input, const OldGeneration& old) {
  const Placed* placed = placeOf(input, old.id);
  const bool moves = placed != nullptr && runningOf(input, old.id, &old.host) != nullptr &&
                     runningOf(input, old.id, &placed->host) == nullptr;
  if (moves) return std::nullopt;
  const ObservedInstance* current = currentOf(input, old.id, old.host);
  PlannedChange change{placed ? ChangeKind::kStray : ChangeKind::kRemove, old.id, old.host, {},
                       current ? current->version : input.version,        {},     {}};
  if (placed != nullptr)
    change.why.push_back(fmt::format("it belongs on {} now", placed->host));
  else
    change.why.push_back(fmt::format(
        "{} wanted", input.placement.empty() ? std::string("none")
                                             : fmt::format("only {}", input.placement.size())));
  return change;
}

PlannedChange strayOf(const PlanInput& input, const OldGeneration& stray) {
  const auto observed =
      std::find_if(input.observed.begin(), input.observed.end(), [&](const ObservedInstance& one) {
        return one.id == stray.id && one.host == stray.host && one.generation == stray.generation;
      });
  return {ChangeKind::kStray,
          stray.id,
          stray.host,
          {},
          observed == input.observed.end() ? input.version : observed->version,
          {fmt::format("generation {} is left over from a roll-out that did not end",
                       stray.generation)},
          {}};
}

void addChanges(const PlanInput& input, const Step& step, std::vector<PlannedChange>& changes) {
  if (const auto* start = std::get_if<StartStep>(&step))
    for (const Placed& placed : start->items) changes.push_back(changeFor(input, placed));
  if (const auto* stop = std::get_if<StopStep>(&step))
    for (const OldGeneration& old : stop->items)
      if (const auto* main = runningOf(input, old.id, &old.host);
          main != nullptr && main->generation != old.generation)
        changes.push_back(strayOf(input, old));
  if (const auto* forget = std::get_if<ForgetStep>(&step))
    for (const OldGeneration& old : forget->items)
      if (auto change = removalOf(input, old)) changes.push_back(std::move(*change));
}

bool isSame(const PlannedChange& a, const PlannedChange& b) {
  return a.kind == b.kind && a.id == b.id && a.host == b.host && a.version == b.version;
}

}  // namespace

std::string_view changeName(ChangeKind kind) {
  switch (kind) {
    case ChangeKind::kStart:
      return "start";
    case ChangeKind::kReplace:
      return "replace";
    case ChangeKind::kMove:
      return "move";
    case ChangeKind::kRemove:
      return "remove";
    case ChangeKind::kStray:
      break;
  }
  return "stop-stray";
}

std::vector<PlannedChange> changesOf(const PlanInput& input, const Wave& wave) {
  std::vector<PlannedChange> changes;
  for (const Step& step : wave.steps) addChanges(input, step, changes);
  return changes;
}

std::vector<PlannedChange> changesOf(const PlanInput& input, const Plan& plan) {
  std::vector<PlannedChange> changes;
  for (const OldGeneration& stray : plan.strays) changes.push_back(strayOf(input, stray));
  for (const Wave& wave : plan.waves)
    for (PlannedChange& change : changesOf(input, wave)) changes.push_back(std::move(change));
  return changes;
}

std::vector<std::string> beyond(const PlanInput& actual_input, const Plan& actual,
                                const PlanInput& approved_input, const Plan& approved) {
  const std::vector<PlannedChange> allowed = changesOf(approved_input, approved);
  std::vector<std::string> more;
  for (const PlannedChange& change : changesOf(actual_input, actual)) {
    const bool known = std::any_of(allowed.begin(), allowed.end(),
                                   [&](const PlannedChange& one) { return isSame(one, change); });
    if (!known)
      more.push_back(fmt::format("{} {} on {}", changeName(change.kind), change.id, change.host));
  }
  return more;
}

}  // namespace cctl
