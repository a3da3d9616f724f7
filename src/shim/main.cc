// clusterctl-shim: the supervisor that clusterctl places on each host (PROTOCOL.md, "The
// executable").
#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/version.h"
#include "model/host_paths.h"
#include "shim/anchor.h"
#include "shim/control_client.h"
#include "shim/daemon.h"
#include "shim/identity.h"
#include "shim/install.h"
#include "shim/relay.h"
#include "shim/spawn.h"

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

Result<int> runInstall(Arguments& arguments) {
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
  return 0;
}

Result<int> runUninstall(Arguments& arguments) {
  UninstallRequest request;
  CCTL_TRY(request.root, takeRoot(arguments));
  request.stop_services = arguments.takeFlag("--stop-services");
  request.purge = arguments.takeFlag("--purge");
  CCTL_CHECK(nothingElse(arguments));
  CCTL_CHECK(uninstall(request));
  say(1, "{\"ok\":true}");
  return 0;
}

Result<int> runStart(Arguments& arguments) {
  CCTL_TRY(const std::string root, takeRoot(arguments));
  CCTL_CHECK(nothingElse(arguments));
  CCTL_TRY([[maybe_unused]] const bool started, startDaemon(root));
  return 0;
}

Result<Fd> takeFd(Arguments& arguments, std::string_view name) {
  const std::string text = arguments.take(name);
  if (text.empty()) return Fd();
  int number = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size() && number > 2)
    if (const int own = ::fcntl(number, F_DUPFD_CLOEXEC, kLowestFd); own >= 0) {
      ::close(number);
      return Fd(own);
    }
  return fail(Code::kUsage, "\"{}\" is not an open descriptor", text);
}

// Tells whoever waits on `ready` how it went; they read until the end.
Error told(const Fd& ready, const Error& error) {
  if (ready) say(ready.get(), error.code == Code::kLocked ? "running" : error.message);
  return error;
}

Result<int> runForeground(Arguments& arguments) {
  CCTL_TRY(Fd ready, takeFd(arguments, "--ready-fd"));
  CCTL_TRY(const std::string root, takeRoot(arguments));
  CCTL_CHECK(nothingElse(arguments));
  if (auto known = loadIdentity(root); !known) return fail(told(ready, known.error()));
  auto lock = lockRoot(root, !ready);
  if (!lock) return fail(told(ready, lock.error()));
  SharedFds fds;
  fds.lock = std::move(*lock);
  if (auto made = fds.makeMissing(); !made) return fail(told(ready, made.error()));
  return runAnchor(root, std::move(fds), std::move(ready));
}

Result<SharedFds> takeShared(Arguments& arguments) {
  SharedFds fds;
  for (const auto& [option, member] : kSharedFds) {
    CCTL_TRY(fds.*member, takeFd(arguments, option));
  }
  if (!fds.lock)
    return fail(Code::kUsage, "anchor and supervise are begun by `run`, not by people");
  CCTL_CHECK(fds.makeMissing());
  return fds;
}

Result<int> runAnchorAgain(Arguments& arguments) {
  CCTL_TRY(const std::string root, takeRoot(arguments));
  CCTL_TRY(SharedFds fds, takeShared(arguments));
  CCTL_CHECK(nothingElse(arguments));
  return runAnchor(root, std::move(fds), Fd());
}

Result<int> runSupervisor(Arguments& arguments) {
  CCTL_TRY(Fd ready, takeFd(arguments, "--ready-fd"));
  CCTL_TRY(const std::string root, takeRoot(arguments));
  CCTL_TRY(SharedFds fds, takeShared(arguments));
  const std::string anchor_text = arguments.take("--anchor");
  CCTL_CHECK(nothingElse(arguments));
  reserveLowNumbers();
  int anchor = 0;
  std::from_chars(anchor_text.data(), anchor_text.data() + anchor_text.size(), anchor);
  auto daemon = Daemon::open(root, std::move(fds), anchor);
  if (!daemon) return fail(told(ready, daemon.error()));
  const auto started = (*daemon)->start();
  if (ready) say(ready.get(), started ? "ok" : fmt::format("{}{}", kDeaf, started.error().message));
  ready.reset();
  return (*daemon)->run();
}

Result<int> runRelay(Arguments& arguments) {
  const std::string root = arguments.take("--root");
  if (!root.empty()) {
    CCTL_CHECK(nothingElse(arguments));
    CCTL_TRY(Fd fd, connectShim(root));
    return relay(std::move(fd)).map([] { return 0; });
  }
  if (arguments.rest().size() != 1)
    return fail(Code::kUsage, "relay needs --root ROOT or a socket");
  const std::string& socket = arguments.rest().front();
  const std::string owner = socket.substr(0, socket.rfind("/run/"));
  CCTL_TRY(Fd fd, socket == paths::controlSocket(owner) ? connectShim(owner) : connectUnix(socket));
  return relay(std::move(fd)).map([] { return 0; });
}

Result<int> runInfo(Arguments& arguments) {
  CCTL_TRY(const std::string root, takeRoot(arguments));
  CCTL_CHECK(nothingElse(arguments));
  say(1, infoLine(root));
  return 0;
}

Result<int> runStopWithHost(Arguments& arguments) {
  CCTL_TRY(const std::string root, takeRoot(arguments));
  CCTL_CHECK(nothingElse(arguments));
  CCTL_CHECK(stopWithHost(root));
  return 0;
}

Result<int> runVersion(Arguments&) {
  say(1, std::string("clusterctl-shim ") + kVersion);
  return 0;
}

Result<int> runSelfCheck(Arguments&) { return 0; }

using Command = Result<int> (*)(Arguments&);

int dispatch(int argc, char** argv) {
  static const std::map<std::string_view, Command> kCommands = {{"anchor", runAnchorAgain},
                                                                {"info", runInfo},
                                                                {"install", runInstall},
                                                                {"relay", runRelay},
                                                                {"run", runForeground},
                                                                {"self-check", runSelfCheck},
                                                                {"start", runStart},
                                                                {"supervise", runSupervisor},
                                                                {"stop-with-host", runStopWithHost},
                                                                {"uninstall", runUninstall},
                                                                {"version", runVersion}};
  const auto command = argc > 1 ? kCommands.find(argv[1]) : kCommands.end();
  if (command == kCommands.end())
    return failWith(
        {Code::kUsage,
         "usage: clusterctl-shim info|install|relay|run|self-check|start|uninstall|version"});
  keepInheritedFiles();
  Arguments arguments(argc, argv);
  const auto outcome = command->second(arguments);
  return outcome ? *outcome : failWith(outcome.error());
}

}  // namespace
}  // namespace cctl::shim

int main(int argc, char** argv) { return cctl::shim::dispatch(argc, argv); }
