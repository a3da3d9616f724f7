#include "cli/leave.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <string_view>

#include "cli/exit_codes.h"
#include "cli/live.h"

namespace cctl::cli {
namespace {

constexpr std::string_view kNotice =
    "clusterctl: interrupted again, so it left at once: what it was changing, if anything, was not "
    "put back; see 'clusterctl status', and run the same command again\n";

std::atomic<const std::string*> last_words{nullptr};  // never freed: a handler may be reading it

// Best effort: who leaves at once does not wait for a full pipe.
void put(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written <= 0) return;
    text.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace

void setLastWords(std::string text) { last_words = new std::string(std::move(text)); }

void leaveAtOnce() {
  restoreTerminal();
  put(STDERR_FILENO, kNotice);
  if (const std::string* words = last_words) put(STDOUT_FILENO, *words);
  ::_exit(kExitInterrupted);
}

}  // namespace cctl::cli
