#include "cli/program.h"

#include <sys/resource.h>

#include <csignal>
#include <exception>

#include "base/digest.h"
#include "base/version.h"
#include "cli/app.h"
#include "cli/leave.h"

extern "C" {
extern const unsigned char clusterctl_shim_begin[];
extern const unsigned char clusterctl_shim_end[];
}

namespace {

cctl::CancelToken* cancel_token = nullptr;  // for the handler only

// The first asks for an orderly end; the second does not wait for it.
void onInterrupt(int) {
  if (cancel_token->cancelled()) cctl::cli::leaveAtOnce();
  cancel_token->cancel();
}

void handleSignals(cctl::CancelToken& cancel) {
  cancel_token = &cancel;
  struct sigaction action {};
  action.sa_handler = onInterrupt;
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(number, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

// Each host takes a few descriptors, and there may be hundreds. Best effort: the old limit serves
// fewer hosts.
void raiseFileLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

cctl::ops::ShimImage embeddedShim() {
  const auto* begin = reinterpret_cast<const char*>(clusterctl_shim_begin);
  const std::string_view bytes(begin,
                               static_cast<size_t>(clusterctl_shim_end - clusterctl_shim_begin));
  return {bytes, cctl::sha256Hex(bytes), cctl::kVersion};
}

}  // namespace

namespace cctl::cli {

int program(int argc, char** argv, const StepHook& on_step) {
  raiseFileLimit();
  CancelToken cancel;
  handleSignals(cancel);
  try {
    return runCommandLine({argv + 1, argv + argc}, embeddedShim(), cancel, on_step);
  } catch (const std::exception& error) {
    fmt::print(stderr, "clusterctl: a fault of the program itself: {}; please report it\n",
               error.what());
    return 1;
  }
}

}  // namespace cctl::cli
