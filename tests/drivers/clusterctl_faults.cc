// clusterctl itself, that fails at a step of its operations: `FAULT_STEP=N` (from 1) says at which,
// of all or of those called `FAULT_NAME`, `FAULT_ACTION` how: kill (SIGKILL), interrupt (SIGINT, as
// Ctrl-C), exec (runs FAULT_COMMAND, which may do harm to hosts, and goes on). Each step's number
// and name go to FAULT_LOG, when it is set.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>

#include "cli/program.h"

namespace {

std::string setting(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

void note(int number, std::string_view step) {
  const std::string path = setting("FAULT_LOG");
  if (path.empty()) return;
  std::FILE* file = std::fopen(path.c_str(), "a");
  if (file == nullptr) return;
  std::fprintf(file, "%d %.*s\n", number, static_cast<int>(step.size()), step.data());
  std::fclose(file);
}

void fail(const std::string& action) {
  if (action == "kill") std::raise(SIGKILL);
  if (action == "interrupt") std::raise(SIGINT);
  if (action == "exec" && std::system(setting("FAULT_COMMAND").c_str()) != 0)
    std::fprintf(stderr, "FAULT_COMMAND failed\n");
}

}  // namespace

int main(int argc, char** argv) {
  std::mutex mutex;
  int number = 0, counted = 0;
  const int chosen = std::atoi(setting("FAULT_STEP").c_str());
  const std::string name = setting("FAULT_NAME");
  return cctl::cli::program(argc, argv, [&](std::string_view step) {
    const std::lock_guard lock(mutex);
    note(++number, step);
    if (!name.empty() && name != step) return;
    if (++counted == chosen) fail(setting("FAULT_ACTION"));
  });
}
