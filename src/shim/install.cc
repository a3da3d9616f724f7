#include "shim/install.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <climits>
#include <nlohmann/json.hpp>

#include "base/digest.h"
#include "base/file.h"
#include "base/subprocess.h"
#include "base/version.h"
#include "model/host_paths.h"
#include "protocol/messages.h"
#include "shim/boot_hook.h"
#include "shim/control_client.h"
#include "shim/daemon.h"
#include "shim/identity.h"
#include "shim/proc.h"
#include "shim/spawn.h"

namespace cctl::shim {
namespace {

constexpr Millis kAnswerTime{10'000};
constexpr Millis kHandOverTime{15'000};
constexpr Millis kLockLeft{5'000};
constexpr int kMostOrders = 20;  // to supervisors that come back as what they were

using protocol::Caller;
const Caller kUpgrade{"bootstrap", "upgrade", 0};

// ---- placing -----------------------------------------------------------------------------------

Result<Fd> lockBootstrap(const std::string& root) {
  CCTL_CHECK(makeDirs(paths::shimBinDir(root)));
  CCTL_TRY(Fd fd, openFile(paths::bootstrapLock(root), O_RDWR | O_CREAT, 0644));
  while (::flock(fd.get(), LOCK_EX) != 0)
    if (errno != EINTR) return failErrno(errno, paths::bootstrapLock(root));
  return fd;
}

Result<void> checkBelongs(const InstallRequest& request) {
  const auto there = loadIdentity(request.root);
  if (!there && there.error().code == Code::kNotFound) return {};
  if (!there) return fail(there.error());
  if (there->cluster != request.cluster)
    return fail(Code::kRefused,
                "{} on this host belongs to cluster \"{}\", not \"{}\": use another `root`, or "
                "unbootstrap it there first",
                request.root, there->cluster, request.cluster);
  if (there->host != request.host)
    return fail(Code::kRefused,
                "{} was bootstrapped as host \"{}\" of this cluster, not \"{}\": two names for one "
                "machine? unbootstrap it first to rename it",
                request.root, there->host, request.host);
  return {};
}

// ROOT/shim/bin/clusterctl-shim-DIGEST is this executable, wherever it was run from.
Result<std::string> placeSelf(const std::string& root, const std::string& digest) {
  const std::string target = paths::shimBinary(root, digest);
  const auto there = sha256HexOfFile(target);
  if (!there || *there != digest) {
    CCTL_TRY(const std::string self, readFile("/proc/self/exe", 256u << 20));
    CCTL_CHECK(replaceFile(target, self, 0755));
  } else if (::chmod(target.c_str(), 0755) != 0) {
    return failErrno(errno, target);
  }
  return target;
}

Result<void> pointLink(const std::string& link, const std::string& target) {
  const std::string temporary = link + ".new";
  ::unlink(temporary.c_str());  // of a bootstrap that was cut off
  if (::symlink(target.c_str(), temporary.c_str()) != 0) return failErrno(errno, temporary);
  if (::rename(temporary.c_str(), link.c_str()) != 0) return failErrno(errno, link);
  return {};
}

// Two names for the shim in use: ROOT/shim/current, and ROOT/shim/bin/clusterctl-shim beside it.
Result<void> pointCurrent(const std::string& root, const std::string& binary) {
  const std::string name = binary.substr(binary.rfind('/') + 1);
  CCTL_CHECK(pointLink(paths::shimCurrent(root), "bin/" + name));
  CCTL_CHECK(pointLink(paths::shimCommand(root), name));
  return syncDir(paths::shimDir(root));
}

// Of two versions, either of which may be unknown.
std::string newerOf(const std::string& a, const std::string& b) {
  return !b.empty() && (a.empty() || compareVersions(b, a) > 0) ? b : a;
}

// Keeps what `current` names and what it named before.
void removeOldBinaries(const std::string& root, const std::string& keep,
                       const std::string& before) {
  const auto names = listDir(paths::shimBinDir(root));
  if (!names) return;
  for (const std::string& name : *names) {
    const std::string path = paths::join(paths::shimBinDir(root), name);
    if (path != keep && path != before && name.starts_with("clusterctl-shim-"))
      ::unlink(path.c_str());  // a file that stays costs two megabytes
  }
}

// The last word of `current version`; empty when there is none that runs.
std::string installedVersion(const std::string& root) {
  if (!exists(paths::shimCurrent(root))) return {};
  const auto result =
      runSubprocess({{paths::shimCurrent(root), "version"}, {}, 4096}, Deadline::in(kAnswerTime));
  if (!result || result->exit_status != 0) return {};
  std::string text = result->out.substr(0, result->out.find('\n'));
  return text.substr(text.rfind(' ') + 1);
}

// ---- running -----------------------------------------------------------------------------------

Result<protocol::HelloReply> greet(const std::string& root, Millis longest = kAnswerTime) {
  return ask<protocol::HelloReply>(
      root, protocol::HelloRequest{protocol::kProtocolVersion, kVersion}, Deadline::in(longest));
}

template <typename Condition>
bool await(Condition condition, Millis longest) {
  const Deadline deadline = Deadline::in(longest);
  while (!condition()) {
    if (deadline.passed()) return false;
    ::usleep(10'000);  // another process's doing: there is nothing to wait on
  }
  return true;
}

bool gone(const std::string& root) { return runningShim(root) == 0; }

Result<void> orderAway(const std::string& root, protocol::ShutdownRequest request) {
  return ask<protocol::Empty>(root, request, Deadline::in(kAnswerTime)).map([](auto) {});
}

bool isShimOf(const std::string& root, int pid) {
  return pid > 1 &&
         commandLineOf(pid).find(fmt::format("--root{0}{1}{0}", '\0', root)) != std::string::npos;
}

// What the file of the lock names may be gone by now, and its pid another's.
void signalShim(const std::string& root, int pid, int number) {
  if (pid <= 1) return;
  const Fd handle = openPidfd(pid);
  if (isShimOf(root, pid)) signalProcess(handle, pid, number);
}

// Its services live on all the same. The anchor first: it would start another.
void killShim(const std::string& root) {
  const RunningShim shim = runningShimFacts(root);
  signalShim(root, shim.anchor, SIGSTOP);
  signalShim(root, shim.pid, SIGKILL);
  signalShim(root, shim.anchor, SIGKILL);
}

Result<void> takeDown(const std::string& root, bool stop_services, const Caller& caller) {
  const auto asked = orderAway(root, {stop_services, false, caller});
  if (asked && await([&] { return gone(root); }, stop_services ? Millis(300'000) : kHandOverTime))
    return {};
  killShim(root);
  if (await([&] { return gone(root); }, kHandOverTime)) return {};
  return fail(Code::kTimeout, "the running shim of {} (pid {}) does not make way", root,
              runningShim(root));
}

Result<void> bringUp(const InstallRequest& request, bool systemd) {
  if (!systemd) return startDaemon(request.root).map([](bool) {});
  CCTL_CHECK(systemctl("restart", request.cluster));
  if (await([&] { return greet(request.root).has_value(); }, kAnswerTime)) return {};
  return fail(Code::kTimeout, "the shim does not answer; see `systemctl status {}`",
              paths::bootUnit(request.cluster));
}

// The running shim goes on as the new executable, its services and its anchor's pid staying what
// they are; one that cannot do that is taken down and started anew.
Result<void> handOver(const InstallRequest& request, const std::string& digest, bool systemd) {
  const std::string& root = request.root;
  const int before = runningShim(root);
  int ordered = 0;  // the supervisor that took the order; killed meanwhile, the next one gets it
  int orders = 0;
  const auto replaced = [&] {
    const RunningShim shim = runningShimFacts(root);
    if (shim.pid == 0) return true;
    if (shim.digest == digest && shim.pid != before) return greet(root).has_value();
    if (shim.pid != ordered && orders < kMostOrders && orderAway(root, {false, true, kUpgrade})) {
      ordered = shim.pid;
      ++orders;
    }
    return false;
  };
  if (await(replaced, kHandOverTime) && !gone(root)) return {};
  CCTL_CHECK(takeDown(root, false, kUpgrade));
  return bringUp(request, systemd);
}

Result<void> letIn(const InstallRequest& request) {
  std::set<unsigned> operators = loadOperators(request.root);
  operators.insert(request.operators.begin(), request.operators.end());
  return saveOperators(request.root, operators);
}

Result<InstallOutcome> leaveNewer(const InstallRequest& request, const std::string& version) {
  InstallOutcome outcome;
  CCTL_TRY(const bool started, startDaemon(request.root));
  if (started) outcome.action = InstallOutcome::Action::kStarted;
  CCTL_CHECK(letIn(request));
  CCTL_TRY(const auto hello, greet(request.root));
  const std::string binary = paths::shimBinary(request.root, hello.digest);
  if (!brokenLink(request.root, hello.digest).empty() && exists(binary))
    CCTL_CHECK(pointCurrent(request.root, binary));
  outcome.version = hello.version;
  outcome.digest = hello.digest;
  outcome.boot_hook =
      loadIdentity(request.root).map([](const Identity& i) { return i.boot_hook; }).value_or(false);
  outcome.reason =
      fmt::format("a newer shim ({}) is installed; {} was not put in its place", version, kVersion);
  return outcome;
}

struct Placed {
  std::string digest;
  bool identity_changed = false;
  BootHook hook;
};

Result<Placed> place(const InstallRequest& request) {
  Placed placed;
  CCTL_TRY(placed.digest, sha256HexOfFile("/proc/self/exe"));
  CCTL_TRY(const std::string binary, placeSelf(request.root, placed.digest));
  const auto before = ::realpath(paths::shimCurrent(request.root).c_str(), nullptr);
  const std::string previous = before ? before : "";
  ::free(before);
  CCTL_CHECK(pointCurrent(request.root, binary));
  removeOldBinaries(request.root, binary, previous);
  CCTL_CHECK(letIn(request));
  if (request.boot_hook)
    placed.hook = installBootHook(request.root, request.cluster);
  else
    placed.hook.reason = "not asked for";
  const Identity identity{request.cluster, request.host, request.advertise,
                          placed.hook.kind != BootHook::Kind::kNone};
  const auto known = loadIdentity(request.root);
  placed.identity_changed =
      !known || known->advertise != identity.advertise || known->boot_hook != identity.boot_hook;
  if (placed.identity_changed) CCTL_CHECK(saveIdentity(request.root, identity));
  return placed;
}

// ---- in the background -------------------------------------------------------------------------

// In the grandchild: this same executable as `run`, with `ready` to tell when it listens.
[[noreturn]] void becomeDaemon(const std::string& root, int ready) {
  ::setsid();
  if (::fork() != 0) ::_exit(0);
  [[maybe_unused]] const int moved = ::chdir("/");
  const int null = ::open("/dev/null", O_RDWR);
  for (int fd = 0; fd <= 2; ++fd) ::dup2(null, fd);
  const int kept = ::fcntl(ready, F_DUPFD, 3);  // without CLOEXEC
  const std::string number = std::to_string(kept);
  ::execl("/proc/self/exe", "clusterctl-shim", "run", "--root", root.c_str(), "--ready-fd",
          number.c_str(), nullptr);
  ::_exit(127);
}

}  // namespace

int compareVersions(const std::string& a, const std::string& b) {
  const char* pa = a.data();
  const char* pb = b.data();
  const char* const ea = pa + a.size();
  const char* const eb = pb + b.size();
  for (;;) {
    long na = 0;
    long nb = 0;
    pa = std::from_chars(pa, ea, na).ptr;
    pb = std::from_chars(pb, eb, nb).ptr;
    if (na != nb) return na < nb ? -1 : 1;
    const bool more_a = pa < ea && *pa == '.';
    const bool more_b = pb < eb && *pb == '.';
    if (!more_a && !more_b) break;
    pa += more_a ? 1 : 0;
    pb += more_b ? 1 : 0;
  }
  const std::string rest_a(pa, ea);
  const std::string rest_b(pb, eb);
  if (rest_a == rest_b) return 0;
  if (rest_a.empty() || rest_b.empty()) return rest_a.empty() ? 1 : -1;
  return rest_a < rest_b ? -1 : 1;
}

// What is left of a shim that was killed may hold the lock for moments: only one that answers, or
// has said why it cannot, surely runs. One that does neither is not helped by another.
static bool runsNow(const std::string& root) {
  const auto known = [&] {
    const RunningShim shim = runningShimFacts(root);
    return shim.pid == 0 || !shim.deaf.empty() || greet(root, kLockLeft).has_value();
  };
  await(known, kLockLeft);
  return runningShim(root) != 0;
}

Result<bool> startDaemon(const std::string& root) {
  CCTL_CHECK(loadIdentity(root));
  if (runsNow(root)) return false;
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return failErrno(errno, "pipe");
  const Fd answer(ends[0]);
  Fd ready(ends[1]);
  const pid_t pid = ::fork();
  if (pid < 0) return failErrno(errno, "cannot fork");
  if (pid == 0) becomeDaemon(root, ready.get());
  ready.reset();
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  CCTL_TRY(const std::string said, readAll(answer.get(), 1u << 20));
  if (said == "ok\n") return true;
  if (said == "running\n") return false;  // another start was faster
  if (said.starts_with(kDeaf))
    return fail(Code::kError, "the shim runs, but nobody can talk to it: {}",
                said.substr(kDeaf.size(), said.find('\n') - kDeaf.size()));
  return fail(Code::kError, "the shim did not start: {}",
              said.empty() ? "it ended at once" : said.substr(0, said.find('\n')));
}

Result<InstallOutcome> install(const InstallRequest& request) {
  CCTL_CHECK(checkRoot(request.root));
  ::umask(022);
  CCTL_TRY(const Fd lock, lockBootstrap(request.root));
  CCTL_CHECK(checkBelongs(request));
  // What `current` names, or what runs although that link is gone.
  const std::string installed =
      newerOf(installedVersion(request.root), runningShimFacts(request.root).version);
  if (!installed.empty() && compareVersions(installed, kVersion) > 0)
    return leaveNewer(request, installed);
  CCTL_TRY(const Placed placed, place(request));

  InstallOutcome outcome;
  outcome.version = kVersion;
  outcome.digest = placed.digest;
  outcome.boot_hook = placed.hook.kind != BootHook::Kind::kNone;
  outcome.reason = placed.hook.reason;
  const bool systemd = placed.hook.kind == BootHook::Kind::kSystemd;
  if (runningShim(request.root) != 0) {
    const auto hello = greet(request.root);
    if (hello && hello->digest == placed.digest && !placed.identity_changed) return outcome;
    outcome.action = hello && hello->digest == placed.digest ? InstallOutcome::Action::kUnchanged
                                                             : InstallOutcome::Action::kUpgraded;
    CCTL_CHECK(handOver(request, placed.digest, systemd));
    return outcome;
  }
  outcome.action = InstallOutcome::Action::kStarted;
  CCTL_CHECK(bringUp(request, systemd));
  return outcome;
}

std::string outcomeLine(const InstallOutcome& outcome) {
  using Action = InstallOutcome::Action;
  Json json = {{"ok", true},
               {"version", outcome.version},
               {"digest", outcome.digest},
               {"started", outcome.action == Action::kStarted},
               {"upgraded", outcome.action == Action::kUpgraded},
               {"unchanged", outcome.action == Action::kUnchanged},
               {"boot_hook", outcome.boot_hook}};
  if (!outcome.reason.empty()) json["reason"] = outcome.reason;
  return dumpJson(json);
}

Result<void> uninstall(const UninstallRequest& request) {
  CCTL_CHECK(checkRoot(request.root));
  CCTL_TRY(const Identity identity, loadIdentity(request.root));
  CCTL_TRY(const Fd lock, lockBootstrap(request.root));
  CCTL_CHECK(removeBootHook(request.root, identity.cluster));
  if (runningShim(request.root) != 0)
    CCTL_CHECK(takeDown(request.root, request.stop_services, {"bootstrap", "uninstall", 0}));
  if (request.purge) return removeTree(request.root);
  return {};
}

Result<void> stopWithHost(const std::string& root) {
  if (runningShim(root) == 0 || !hostGoesDown()) return {};
  return takeDown(root, true, {"systemd", "the host shuts down", 0});
}

std::string brokenLink(const std::string& root, const std::string& digest) {
  const std::string binary = paths::shimBinary(root, digest);
  const std::string name = binary.substr(binary.rfind('/') + 1);
  for (const std::string& link : {paths::shimCurrent(root), paths::shimCommand(root)}) {
    char target[PATH_MAX];
    const ssize_t length = ::readlink(link.c_str(), target, sizeof target);
    if (length < 0)
      return link + (errno == ENOENT ? " is missing" : " is not the link it should be");
    const std::string_view path(target, static_cast<size_t>(length));
    if (path.substr(path.rfind('/') + 1) != name)
      return link + " leads to another shim than the one that runs";
    if (::access(link.c_str(), X_OK) != 0) return link + " leads to nothing that can be run";
  }
  return {};
}

// Of the shim that runs, or else of this executable.
std::string infoLine(const std::string& root) {
  RunningShim shim = runningShimFacts(root);
  if (shim.version.empty()) {
    shim.version = kVersion;
    shim.digest = sha256HexOfFile("/proc/self/exe").value_or("");
  }
  Json json = {{"version", shim.version},  {"digest", shim.digest},
               {"running", shim.pid != 0}, {"pid", shim.pid},
               {"anchor", shim.anchor},    {"operators", loadOperators(root)}};
  if (!shim.deaf.empty()) json["problem"] = shim.deaf;
  if (shim.pid != 0)
    if (const std::string broken = brokenLink(root, shim.digest); !broken.empty())
      json["link_problem"] = broken;
  if (const auto identity = loadIdentity(root)) {
    json["cluster"] = identity->cluster;
    json["host"] = identity->host;
    json["boot_hook"] = identity->boot_hook;
  }
  return dumpJson(json);
}

}  // namespace cctl::shim
