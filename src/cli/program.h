// The whole program but main(): the arguments, the embedded shim, and Ctrl-C.
#pragma once

#include <functional>
#include <string_view>

namespace cctl::cli {

// Called with the name of each step of an operation before it is done. Tests break off there.
using StepHook = std::function<void(std::string_view)>;

// Returns the exit status. Links the embedded shim.
int program(int argc, char** argv, const StepHook& on_step = {});

}  // namespace cctl::cli
