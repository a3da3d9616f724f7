// What sudoku-load prints at its end. Pure.
#pragma once

#include <string>

#include "load/generator.h"

namespace sudoku {

std::string reportText(const LoadPlan& plan, const LoadSummary& summary);
// One object with "format":1; latencies in milliseconds.
std::string reportJson(const LoadPlan& plan, const LoadSummary& summary);

}  // namespace sudoku
