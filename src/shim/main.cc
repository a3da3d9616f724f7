// clusterctl-shim: the supervisor that clusterctl places on each host (PROTOCOL.md, "The
// executable").
#include <unistd.h>

#include <charconv>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/version.h"
#include "model/host_paths.h"
#include "shim/daemon.h"
#include "shim/identity.h"
#include "shim/install.h"
#include "shim/relay.h"

namespace cctl::shim {
namespace {

constexpr int kExitError = 1;
constexpr int kExitUsage = 64;
constexpr int kExitNoShim = 69;
constexpr int kExitRefused = 77;

void say(int fd, const std::string& line) {
  [[maybe_unused]] const auto written = writeAll(fd, line + "\n");  // nobody left to tell
}

int exitCodeOf(const Error& error) {
  switch (error.code) {
    case Code::kUsage:
    case Code::kBadInput:
      return kExitUsage;
    case Code::kUnreachable:
      return kExitNoShim;
    case Code::kRefused:
      return kExitRefused;
    default:
      return kExitError;
  }
}

int failWith(const Error& error) {
  say(2, "clusterctl-shim: " + error.message);
  return exitCodeOf(error);
}

// "--name value", "--flag", and the rest.
class Arguments {
 public:
  Arguments(int argc, char** argv) : words_(argv + std::min(argc, 2), argv + argc) {}

  bool takeFlag(std::string_view name) {
    for (size_t i = 0; i < words_.size(); ++i) {
      if (words_[i] != name) continue;
      words_.erase(words_.begin() + static_cast<std::ptrdiff_t>(i));
      return true;
    }
    return false;
  }
  std::vector<std::string> takeAll(std::string_view name) {
    std::vector<std::string> values;
    for (size_t i = 0; i + 1 < words_.size();) {
      if (words_[i] != name) {
        ++i;
        continue;
      }
      values.push_back(words_[i + 1]);
      const auto at = words_.begin() + static_cast<std::ptrdiff_t>(i);
      words_.erase(at, at + 2);
    }
    return values;
  }
  std::string take(std::string_view name) {
    const auto values = takeAll(name);
    return values.empty() ? std::string() : values.back();
  }
  const std::vector<std::string>& rest() const { return words_; }

 private:
  std::vector<std::string> words_;
};

Result<void> nothingElse(const Arguments& arguments) {
  if (arguments.rest().empty()) return {};
  return fail(Code::kUsage, "unexpected argument \"{}\"", arguments.rest().front());
}

Result<std::string> takeRoot(Arguments& arguments) {
  std::string root = arguments.take("--root");
  CCTL_CHECK(checkRoot(root));
  return root;
}

Result<unsigned> parseUid(const std::string& text) {
  unsigned uid = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), uid);
  if (error == std::errc() && end == text.data() + text.size()) return uid;
  return fail(Code::kUsage, "\"{}\" is not a uid", text);
}

// ---- the subcommands ---------------------------------------------------------------------------

Result<void> runInstall(Arguments& arguments) {
  InstallRequest request;
  CCTL_TRY(request.root, takeRoot(arguments));
  request.cluster = arguments.take("--cluster");
  request.host = arguments.take("--host");
  request.advertise = arguments.take("--advertise");
  request.boot_hook = !arguments.takeFlag("--no-boot-hook");
  for (const std::string& text : arguments.takeAll("--operator")) {
    CCTL_TRY(const unsigned uid, parseUid(text));
    request.operators.insert(uid);
  }
  CCTL_CHECK(nothingElse(arguments));
  if (request.cluster.empty() || request.host.empty())
    return fail(Code::kUsage, "install needs --cluster and --host");
  CCTL_TRY(const InstallOutcome outcome, install(request));
  say(1, outcomeLine(outcome));
  return {};
}

Result<void> runUninstall(Arguments& arguments) {
  UninstallRequest request;
  CCTL_TRY(request.root, takeRoot(arguments));
  request.stop_services = arguments.takeFlag("--stop-services");
  request.purge = arguments.takeFlag("--purge");
  CCTL_CHECK(nothingElse(arguments));
  CCTL_CHECK(uninstall(request));
  say(1, "{\"ok\":true}");
  return {};
}

Result<void> runStart(Arguments& arguments) {
  CCTL_TRY(const std::string root, takeRoot(arguments));
  CCTL_CHECK(nothingElse(arguments));
  CCTL_TRY([[maybe_unused]] const bool started, startDaemon(root));
  return {};
}

// Tells whoever waits on `ready` how it went; they read until the end.
Result<void> runForeground(Arguments& arguments) {
  const std::string ready_text = arguments.take("--ready-fd");
  CCTL_TRY(const std::string root, takeRoot(arguments));
  CCTL_CHECK(nothingElse(arguments));
  int number = -1;
  std::from_chars(ready_text.data(), ready_text.data() + ready_text.size(), number);
  Fd ready(number);
  auto daemon = Daemon::open(root);
  if (!daemon) {
    if (ready)
      say(ready.get(), daemon.error().code == Code::kLocked ? "running" : daemon.error().message);
    return fail(daemon.error());
  }
  if (ready) say(ready.get(), "ok");
  ready.reset();
  (*daemon)->run();
  return {};
}

Result<void> runRelay(Arguments& arguments) {
  const std::string root = arguments.take("--root");
  if (!root.empty()) {
    CCTL_CHECK(nothingElse(arguments));
    return relay(paths::controlSocket(root));
  }
  if (arguments.rest().size() != 1)
    return fail(Code::kUsage, "relay needs --root ROOT or a socket");
  return relay(arguments.rest().front());
}

Result<void> runInfo(Arguments& arguments) {
  CCTL_TRY(const std::string root, takeRoot(arguments));
  CCTL_CHECK(nothingElse(arguments));
  say(1, infoLine(root));
  return {};
}

Result<void> runVersion(Arguments&) {
  say(1, std::string("clusterctl-shim ") + kVersion);
  return {};
}

Result<void> runSelfCheck(Arguments&) { return {}; }

using Command = Result<void> (*)(Arguments&);

int dispatch(int argc, char** argv) {
  static const std::map<std::string_view, Command> kCommands = {
      {"info", runInfo},           {"install", runInstall},      {"relay", runRelay},
      {"run", runForeground},      {"self-check", runSelfCheck}, {"start", runStart},
      {"uninstall", runUninstall}, {"version", runVersion}};
  const auto command = argc > 1 ? kCommands.find(argv[1]) : kCommands.end();
  if (command == kCommands.end())
    return failWith(
        {Code::kUsage,
         "usage: clusterctl-shim info|install|relay|run|self-check|start|uninstall|version"});
  Arguments arguments(argc, argv);
  const auto outcome = command->second(arguments);
  return outcome ? 0 : failWith(outcome.error());
}

}  // namespace
}  // namespace cctl::shim

int main(int argc, char** argv) { return cctl::shim::dispatch(argc, argv); }
