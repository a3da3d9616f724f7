// What a plan does, instance by instance and for people: why each step. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/plan.h"

namespace cctl {

enum class ChangeKind {
  kStart,    // nothing of the instance runs
  kReplace,  // another generation of it runs on the same host
  kMove,     // it runs on another host
  kRemove,   // it belongs nowhere any more
  kStray,    // left over from a roll-out that did not end
};

std::string_view changeName(ChangeKind kind);  // "start", "replace", …

struct PlannedChange {
  ChangeKind kind = ChangeKind::kStart;
  InstanceId id;
  HostName host;                      // where it will be, or is no longer
  std::optional<HostName> from;       // of a move
  Version version;                    // afterwards; of a removal: what runs
  std::vector<std::string> why;       // never empty
  std::vector<FileDifference> files;  // that differ, or are new
};

// Of one wave, in the order of its steps. A move counts where it starts, not where it ends.
std::vector<PlannedChange> changesOf(const PlanInput& input, const Wave& wave);
// Of the whole plan: strays first, then wave by wave.
std::vector<PlannedChange> changesOf(const PlanInput& input, const Plan& plan);

// What `actual` does beyond `approved`, as lines; empty when it stays within it. Steps that became
// needless meanwhile may be missing from `actual`.
std::vector<std::string> beyond(const PlanInput& actual_input, const Plan& actual,
                                const PlanInput& approved_input, const Plan& approved);

}  // namespace cctl
