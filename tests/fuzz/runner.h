// Runs one fuzz target: mutated inputs, bounded in memory and time, the one that fails kept.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/file.h"
#include "mutate.h"

namespace cctl::fuzz {

using Corpus = std::vector<std::string>;

struct Target {
  Corpus corpus;
  std::function<void(const std::string& input, Mutator&)> run;
};
using Targets = std::map<std::string, Target (*)()>;

constexpr size_t kMostMemory = 512u << 20;  // resident, at any time, sanitizers included
constexpr unsigned kMostSeconds = 20;       // for one input

inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

inline size_t residentBytes() {
  const auto text = readFile("/proc/self/statm", 4096);
  const size_t space = text ? text->find(' ') : std::string::npos;
  return space == std::string::npos ? 0
                                    : std::strtoul(text->c_str() + space, nullptr, 10) *
                                          static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

inline int runTarget(const std::string& name, const Target& target, double seconds, uint64_t seed) {
  const std::string kept = "fuzz-" + name + ".input";
  const Fd current(::open(kept.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  Mutator mutator(seed);
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  size_t count = 0;
  size_t most = 0;
  for (; std::chrono::steady_clock::now() < end; ++count) {
    const std::string input = mutator.input(target.corpus);
    (void)::ftruncate(current.get(), 0);
    (void)::pwrite(current.get(), input.data(), input.size(), 0);
    ::alarm(kMostSeconds);
    target.run(input, mutator);
    if (count % 64 == 0) most = std::max(most, residentBytes());
    require(most < kMostMemory, "memory is bounded");
  }
  ::alarm(0);
  ::unlink(kept.c_str());
  std::printf("%s: %zu inputs, seed %llu, %zu MiB\n", name.c_str(), count,
              static_cast<unsigned long long>(seed), most >> 20);
  return 0;
}

// PROGRAM TARGET [SECONDS [SEED]]; 64 and the list of targets for anything else.
inline int runFuzzer(const Targets& targets, int argc, char** argv) {
  const auto found = argc < 2 ? targets.end() : targets.find(argv[1]);
  if (found != targets.end())
    return runTarget(found->first, found->second(), argc > 2 ? std::atof(argv[2]) : 2.0,
                     argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 1);
  std::fprintf(stderr, "usage: %s TARGET [SECONDS [SEED]]; targets:", argv[0]);
  for (const auto& [name, make] : targets) std::fprintf(stderr, " %s", name.c_str());
  std::fprintf(stderr, "\n");
  return 64;
}

}  // namespace cctl::fuzz
