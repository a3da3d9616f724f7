// Plans for people and for scripts.
#pragma once

#include <string>

#include "base/json.h"
#include "cli/terminal.h"
#include "model/planned_change.h"
#include "ops/dependants.h"

namespace cctl::cli {

// "  + web/2 on host3: start 1.1.0 (not there yet)\n"
std::string changeText(const PlannedChange& change, const Painter& painter);
// "start → publish → drain 2 s → stop the old"
std::string stepsText(const Wave& wave);
// The changes of a plan, wave by wave, with the steps of each; then what is left alone.
std::string planText(const PlanInput& input, const Plan& plan, const Painter& painter);
// Who follows the changed endpoints, and what that does to them; a line each.
std::string dependantsText(const std::vector<ops::DependantChange>& dependants);
// [{"service", "on_change", "batch", "instances": {"web/0": 3}}]
Json dependantsJson(const std::vector<ops::DependantChange>& dependants);
// How generated files change, as `diff -u` writes it, each difference once for all the instances
// that it is the same for (the lines around it are the first one's); empty when none does.
std::string diffText(const std::vector<PlannedChange>& changes, const Painter& painter);
// A difference of one file of one instance, for the above.
struct FileDiff {
  std::string instance;  // "web/0"
  std::string path;
  std::string text;  // unified
};
std::string diffText(const std::vector<FileDiff>& diffs, const Painter& painter);
std::vector<FileDiff> diffsOf(const std::string& instance,
                              const std::vector<FileDifference>& files);

// "1 to start, 2 to replace, 1 to remove"; "nothing to do"
std::string countsText(const std::vector<PlannedChange>& changes);

// {"action", "instance", "host", "from_host", "version", "why"}, and with `diff` "files":
// [{"path", "diff"}]
Json changeJson(const PlannedChange& change, bool diff);
// {"changes": […], "waves": [{"title", "steps": […]}], "kept": […], "held": […]}
Json planJson(const PlanInput& input, const Plan& plan, bool diff);
Json diffsJson(const std::vector<FileDiff>& diffs);  // [{"path", "diff"}]

}  // namespace cctl::cli
