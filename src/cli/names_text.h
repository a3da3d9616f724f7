// What `watch` says of a name, in words.
#pragma once

#include <string>

#include "base/clock.h"
#include "cli/terminal.h"
#include "model/endpoint.h"
#include "model/names.h"

namespace cctl::cli {

// A headline, and a line for each endpoint that came (+), went (-) or is another now (~).
std::string nameChangeText(WallTime at, const ServiceName& service, bool known,
                           const ServiceEndpoints& before, const ServiceEndpoints& now,
                           const Painter& painter);

}  // namespace cctl::cli
