// Plans for people and for scripts.
#pragma once

#include <string>

#include "base/json.h"
#include "cli/terminal.h"
#include "model/planned_change.h"

namespace cctl::cli {

// "  + web/2 on host3: start 1.1.0 (not there yet)\n"
std::string changeText(const PlannedChange& change, const Painter& painter);
// "start → publish → drain 2 s → stop the old"
std::string stepsText(const Wave& wave);
// The changes of a plan, wave by wave, with the steps of each; then what is left alone.
std::string planText(const PlanInput& input, const Plan& plan, const Painter& painter);
// "1 to start, 2 to replace, 1 to remove"; "nothing to do"
std::string countsText(const std::vector<PlannedChange>& changes);

// {"action", "instance", "host", "from_host", "from_version", "version", "why"}
Json changeJson(const PlannedChange& change);
// {"changes": […], "waves": [{"title", "steps": […]}], "kept": […], "held": […]}
Json planJson(const PlanInput& input, const Plan& plan);

}  // namespace cctl::cli
