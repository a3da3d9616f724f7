// Leaving at once, when a second interrupt does not wait for the orderly end that the first asked
// for.
#pragma once

#include <string>

namespace cctl::cli {

// What is written to standard output before. Once, by the main thread, before there are others.
void setLastWords(std::string text);

// Says on standard error that nothing is put back, writes the last words, and exits with 130.
// Async-signal-safe.
[[noreturn]] void leaveAtOnce();

}  // namespace cctl::cli
