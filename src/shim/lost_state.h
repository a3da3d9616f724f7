// The state of the shim, made anew when its file is lost or damaged.
#pragma once

#include <string>
#include <vector>

#include "shim/state.h"

namespace cctl::shim {

// The instances whose generations are on the disk, in the order of their names: which generations
// there are, with their ports, and which one is current. What the disk does not tell is as new:
// that somebody had stopped one, restarts, tokens. What cannot be read is left out. Blocks.
std::vector<InstanceRecord> recordsOnDisk(const std::string& root);

}  // namespace cctl::shim
