#include "shim/daemon.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>

#include "base/digest.h"
#include "base/file.h"
#include "base/text.h"
#include "base/version.h"
#include "model/host_paths.h"
#include "shim/identity.h"
#include "shim/lost_state.h"
#include "shim/proc.h"
#include "shim/spawn.h"

namespace cctl::shim {
namespace {

using protocol::EventKind;

// By the name under which bootstrap placed it, or else by what it holds.
std::string ownDigest() {
  char path[4096];
  const ssize_t length = ::readlink("/proc/self/exe", path, sizeof path);
  const std::string_view whole(path, static_cast<size_t>(std::max<ssize_t>(length, 0)));
  const std::string_view name = whole.substr(whole.rfind('-') + 1);
  if (isSha256Hex(name)) return std::string(name);
  const auto digest = sha256HexOfFile("/proc/self/exe");
  return digest ? *digest : std::string();
}

// Descriptors 0 to 2 stay taken, so that nothing of ours ever lands there.
void fillStandardFiles() {
  for (;;) {
    const int fd = ::open("/dev/null", O_RDWR);
    if (fd < 0) return;
    if (fd <= 2) continue;
    ::close(fd);
    return;
  }
}

Fd duplicate(const Fd& fd) { return Fd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3)); }

// Where the kernel has no process descriptors: the anchor's end, by prctl(PR_SET_PDEATHSIG).
constexpr int kAnchorDied = SIGUSR2;

bool hasProcessDescriptors() { return static_cast<bool>(openPidfd(::getpid())); }

// Into the file of the lock, for runningShimFacts(). What cannot be written, on a disk that has
// become read-only, keeps no shim from its work. In one piece, over what is there: a reader never
// takes the rest of older facts for a part of these, and a full disk has room for them.
void tellFacts(const Fd& lock, int anchor, const std::string& digest, const std::string& deaf) {
  std::string facts = fmt::format("{} {} {} {}\n{}\n", ::getpid(), anchor, kVersion, digest, deaf);
  const auto size = static_cast<off_t>(facts.size());
  struct stat before {};
  if (::fstat(lock.get(), &before) == 0 && before.st_size > size)
    facts.resize(static_cast<size_t>(before.st_size), '\n');
  if (::pwrite(lock.get(), facts.data(), facts.size(), 0) < 0) return;
  [[maybe_unused]] const int cut = ::ftruncate(lock.get(), size);
}

// Under memory pressure the services' supervisor is not the one to go. Needs root.
void avoidOomKill() {
  const Fd fd(::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));
  [[maybe_unused]] const ssize_t put = fd ? ::write(fd.get(), "-900", 4) : 0;
}

}  // namespace

Result<Fd> lockRoot(const std::string& root, bool wait) {
  CCTL_TRY(Fd fd, openFile(paths::shimLock(root), O_RDWR | O_CREAT, 0644));
  while (wait && ::flock(fd.get(), LOCK_EX) != 0)
    if (errno != EINTR) return failErrno(errno, paths::shimLock(root));
  // Whoever only looks whether a shim runs holds the lock for an instant.
  for (int i = 0; i < 20; ++i) {
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
    if (errno != EWOULDBLOCK) return failErrno(errno, paths::shimLock(root));
    ::usleep(5'000);
  }
  return fail(Code::kLocked, "a shim of {} runs already", root);
}

RunningShim runningShimFacts(const std::string& root) {
  const auto fd = openFile(paths::shimLock(root), O_RDONLY);
  if (!fd || ::flock(fd->get(), LOCK_SH | LOCK_NB) == 0) return {};
  RunningShim shim;
  shim.pid = 1;  // somebody holds it, and has not yet said who
  const auto text = readAll(fd->get(), 4096);
  if (!text) return shim;
  // "PID ANCHOR VERSION DIGEST", and behind it why it cannot be reached; half of it while it is
  // being written.
  std::array<std::string, 4> words;
  size_t at = 0;
  for (std::string& word : words) {
    const size_t end = text->find_first_of(" \n", at);
    if (end == std::string::npos) return shim;
    word = text->substr(at, end - at);
    at = end + 1;
  }
  std::from_chars(words[0].data(), words[0].data() + words[0].size(), shim.pid);
  std::from_chars(words[1].data(), words[1].data() + words[1].size(), shim.anchor);
  shim.version = words[2];
  shim.digest = words[3];
  shim.deaf = text->substr(at, text->find('\n', at) - at);
  return shim;
}

int runningShim(const std::string& root) { return runningShimFacts(root).pid; }

Daemon::Daemon(std::string root, Identity identity, Inherited inherited, std::string digest)
    : digest_(std::move(digest)),
      inherited_(std::move(inherited)),
      exits_(duplicate(inherited_.fds.exits)),
      fds_(duplicate(inherited_.fds.store_in), duplicate(inherited_.fds.store_out)),
      sockets_(fds_),
      cgroups_("/sys/fs/cgroup", readFile("/proc/self/cgroup", 65536).value_or(""),
               fmt::format("{}-{:08x}", identity.cluster, crc32c(root))),
      loop_(clock_),
      state_(paths::stateFile(root), loop_, StateMemory(duplicate(inherited_.fds.state))),
      store_(root, clock_),
      journal_(paths::journalDir(root), loop_),
      host_{root,
            std::move(identity),
            loop_,
            state_,
            store_,
            journal_,
            exits_,
            *inherited_.survivors,
            *inherited_.mover,
            fds_,
            sockets_,
            cgroups_,
            inherited_.anchor,
            paths::notifySocket(root)},
      acceptor_sync_(loop_),
      snapshots_(loop_, 1),
      acceptor_(openAcceptor()),
      names_(root, host_.identity.cluster, loop_),
      supervisor_(host_),
      ops_(host_, supervisor_, acceptor_, names_,
           {digest_, clock_.wall(),
            [this](const protocol::ShutdownRequest& request) { onOrder(request); }}),
      control_(
          loop_, [root](unsigned uid) { return loadOperators(root).count(uid) > 0; },
          [this](std::string_view payload, const Responder& responder) {
            return ops_.begin(payload, responder);
          }),
      naming_(loop_, names_),
      notify_(loop_, fds_, paths::notifySocket(root),
              [this](int pid, const auto& said) { supervisor_.onNotification(pid, said); }),
      listeners_(loop_, [this](bool stands, const std::string& text) { onSocket(stands, text); }) {
  host_.socket_problems = [this] { return listeners_.problems(); };
}

Daemon::~Daemon() = default;

// What local readers are told follows the processes of this host at once.
void Daemon::judgeNames() {
  names_.judge(host_.identity.host, [this](const auto& instance, const auto& ports) {
    return supervisor_.isReady(instance, ports);
  });
  host_.on_state_change = [this](const protocol::InstanceRef& ref) {
    names_.localChange(ref.service);
  };
}

Result<std::unique_ptr<Daemon>> Daemon::open(const std::string& root, SharedFds fds, int anchor) {
  ::umask(022);
  fillStandardFiles();
  CCTL_TRY(Identity identity, loadIdentity(root));
  const std::string digest = ownDigest();
  tellFacts(fds.lock, anchor, digest, "");
  for (const std::string& dir :
       {paths::shimStateDir(root), paths::journalDir(root), paths::acceptorDir(root)})
    CCTL_CHECK(makeDirs(dir, 0700));
  setUpSignals();
  raiseOwnFileLimit();
  raiseOwnPriority();
  avoidOomKill();
  CCTL_TRY(Inherited inherited, openInherited(std::move(fds), anchor));
  std::unique_ptr<Daemon> daemon(
      new Daemon(root, std::move(identity), std::move(inherited), digest));
  CCTL_CHECK(daemon->load());
  daemon->watchSignals();
  daemon->watchAnchor();
  return daemon;
}

Result<Daemon::Inherited> Daemon::openInherited(SharedFds fds, int anchor) {
  Inherited inherited;
  inherited.anchor = anchor;
  CCTL_TRY(Survivors survivors, Survivors::open(duplicate(fds.survivors)));
  inherited.survivors = std::make_unique<Survivors>(std::move(survivors));
  CCTL_TRY(LogMover mover, LogMover::open(duplicate(fds.stage), *inherited.survivors));
  inherited.mover = std::make_unique<LogMover>(std::move(mover));
  inherited.fds = std::move(fds);
  return inherited;
}

// Both its syncs and its snapshots happen beside the loop.
Ops::Acceptor Daemon::openAcceptor() {
  registry::LogIo io = registry::LogIo::blocking();
  io.sync = [this](int fd, const std::function<void(int)>& done) {
    Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (!copy) return done(::fdatasync(fd) == 0 ? 0 : errno);
    acceptor_sync_.begin(std::move(copy), [done](bool well) { done(well ? 0 : EIO); });
  };
  return registry::AcceptorStore::open(paths::acceptorDir(host_.root), clock_, std::move(io),
                                       [this](std::function<void()> work) {
                                         snapshots_.begin([work = std::move(work)] {
                                           work();
                                           return true;
                                         });
                                       });
}

Result<void> Daemon::load() {
  fds_.load();
  CCTL_CHECK(journal_.open());
  record(EventKind::kShimStart, fmt::format("shim {} started, pid {}", kVersion, ::getpid()));
  report(journal_.problems());
  loadState();
  // Where there are instances, there was a journal.
  if (journal_.isNew() && !state_.data().instances.empty()) journal_.noteRemoved();
  CCTL_CHECK(store_.load());
  report(store_.problems());
  judgeNames();
  CCTL_CHECK(names_.load());
  report(names_.problems());
  if (!acceptor_) report({acceptor_.error().message});
  return {};
}

// A shim without its memory goes by what is on the disk and what runs; what it cannot read is kept
// for people to see.
void Daemon::loadState() {
  const auto loaded = state_.load();
  if (!loaded) {
    const std::string path = paths::stateFile(host_.root);
    const std::string aside = path + ".damaged-" + formatTime(clock_.wall());
    ::rename(path.c_str(), aside.c_str());
    report({loaded.error().message, "the damaged state was moved to " + aside});
  }
  if (!state_.data().boot_id.empty()) return;  // there was one
  state_.data().instances = recordsOnDisk(host_.root);
  if (state_.data().instances.empty()) return;
  report(
      {fmt::format("the state was made anew for {} from the generations on the disk; what was "
                   "stopped by order is started",
                   counted(state_.data().instances.size(), "instance"))});
}

// Services first: whoever wants to talk can wait, and making sockets takes a while on a busy disk.
// None of them keeps services from being supervised.
Result<void> Daemon::start() {
  listeners_.add(paths::notifySocket(host_.root), [this] { return listenToServices(); });
  supervisor_.resume();
  // What it found and began is known to the next supervisor before any of it ends.
  loop_.endTurn();
  names_.localChange();  // also of what did not come up
  auto reachable =
      listeners_.add(paths::controlSocket(host_.root), [this] { return listenToControl(); });
  listeners_.add(paths::namingSocket(host_.root), [this] { return listenToReaders(); });
  return reachable;
}

Result<void> Daemon::listenToServices() {
  const auto made = makeDirs(paths::runDir(host_.root));
  auto done = notify_.listen();  // also without the directory: there is a spare one
  host_.notify_address = notify_.address();
  return made ? done : made;
}

Result<void> Daemon::listenToControl() {
  auto done = makeDirs(paths::runDir(host_.root));
  if (done) done = control_.listen(paths::controlSocket(host_.root));
  tellFacts(inherited_.fds.lock, host_.anchor, digest_, done ? "" : done.error().message);
  return done;
}

Result<void> Daemon::listenToReaders() {
  CCTL_CHECK(makeDirs(paths::runDir(host_.root)));
  return naming_.listen(paths::namingSocket(host_.root));
}

void Daemon::onSocket(bool stands, const std::string& text) {
  record(stands ? EventKind::kHealthy : EventKind::kLost, text);
}

void Daemon::watchSignals() {
  sigset_t wanted;
  sigemptyset(&wanted);
  sigaddset(&wanted, SIGTERM);
  sigaddset(&wanted, SIGINT);
  if (!hasProcessDescriptors())
    for (const int signal : {SIGCHLD, kAnchorDied}) sigaddset(&wanted, signal);
  ::sigprocmask(SIG_BLOCK, &wanted, nullptr);
  signals_.reset(::signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK));
  signal_watch_ = loop_.watch(signals_.get(), EPOLLIN, [this](uint32_t) {
    signalfd_siginfo info{};
    if (::read(signals_.get(), &info, sizeof info) == sizeof info)
      onSignal(static_cast<int>(info.ssi_signo));
  });
}

void Daemon::onSignal(int number) {
  if (number == SIGCHLD) return loop_.childrenChanged();
  if (number == kAnchorDied) return takeOver();
  leave(kLeftForSignal);
}

void Daemon::report(const std::vector<std::string>& problems) {
  for (const std::string& problem : problems) record(EventKind::kLost, problem);
}

void Daemon::record(EventKind kind, std::string text) {
  protocol::Event event;
  event.kind = kind;
  event.text = std::move(text);
  journal_.append(std::move(event));
}

// Its descriptor tells of its end; below Linux 5.3 a signal does.
void Daemon::watchAnchor() {
  const int anchor = host_.anchor;
  if (anchor <= 0) return;
  anchor_ = openPidfd(anchor);
  if (!anchor_) ::prctl(PR_SET_PDEATHSIG, kAnchorDied);  // blocked by watchSignals() before
  if (::getppid() != anchor) return loop_.soon([this] { takeOver(); });
  if (anchor_)
    anchor_watch_ = loop_.watch(anchor_.get(), EPOLLIN, [this](uint32_t) { takeOver(); });
}

// The services begun by this process stay its children through the exec; the next supervisor
// finds them by the state.
void Daemon::takeOver() {
  anchor_watch_.reset();
  if (leaving_) return;
  record(EventKind::kAdopt, "the anchor of this shim died; this process takes its place");
  tidyUp();
  [[maybe_unused]] const Error error = becomeAnchor("/proc/self/exe", host_.root, inherited_.fds);
  ::_exit(127);  // nothing can be done: the boot hook starts the next pair
}

void Daemon::onOrder(const protocol::ShutdownRequest& request) {
  const int status = request.replace ? kReplace : kLeftByOrder;
  if (!request.stop_services) return leave(status);
  leaving_ = true;
  supervisor_.stopEverything([this, status] {
    status_ = status;
    loop_.stop();
  });
}

void Daemon::leave(int status) {
  if (std::exchange(leaving_, true)) return;
  status_ = status;
  loop_.soon([this] { loop_.stop(); });
}

// The services live on, and the next shim finds them by what is written here.
void Daemon::tidyUp() {
  if (auto written = state_.writeNow(); !written) report({written.error().message});
  names_.finish();
  journal_.sync();
  control_.shutdown();
  ::unlink(paths::controlSocket(host_.root).c_str());
  ::unlink(paths::namingSocket(host_.root).c_str());
}

int Daemon::run() {
  loop_.run();
  record(EventKind::kShimStop, "shim stopped");
  tidyUp();
  return status_;
}

}  // namespace cctl::shim
