// How --help reads: commands before the many global options, and only what a person types.
#pragma once

#include <memory>

namespace CLI {
class Formatter;
}

namespace cctl::cli {

std::shared_ptr<CLI::Formatter> helpFormatter();

}  // namespace cctl::cli
