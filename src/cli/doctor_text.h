// The words of `doctor`: what is wrong, and what to do about it.
#pragma once

#include <string>

#include "ops/doctor.h"

namespace cctl::cli {

struct FindingText {
  std::string check;    // one stable word, for scripts: "disk"
  std::string problem;  // one line
  std::string mend;     // the same: a command where there is one
};

FindingText findingText(const Inventory& inventory, const ops::Finding& finding);

}  // namespace cctl::cli
