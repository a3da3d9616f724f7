// The running shim of one ROOT: owns every part, in the order in which they need each other.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "registry/acceptor_store.h"
#include "shim/anchor.h"
#include "shim/background.h"
#include "shim/control_server.h"
#include "shim/disk_sync.h"
#include "shim/host.h"
#include "shim/listeners.h"
#include "shim/names.h"
#include "shim/naming_server.h"
#include "shim/notify_socket.h"
#include "shim/ops.h"
#include "shim/supervisor.h"

namespace cctl::shim {

class Daemon {
 public:
  // Opens everything. `fds.lock` is held already. `anchor`: the parent.
  [[nodiscard]] static Result<std::unique_ptr<Daemon>> open(const std::string& root, SharedFds fds,
                                                            int anchor);
  ~Daemon();

  // Takes up what should run, then begins to listen. An error: nobody can talk to it, for now; it
  // is to run() all the same.
  [[nodiscard]] Result<void> start();
  // Serves until it is told to go; returns the exit status (anchor.h).
  // When the anchor dies, this process becomes it and never returns.
  int run();

 private:
  // What outlives a supervisor: opened, and the descriptors by which it is handed on.
  struct Inherited {
    SharedFds fds;
    int anchor = 0;
    std::unique_ptr<Survivors> survivors;
    std::unique_ptr<LogMover> mover;
  };
  [[nodiscard]] static Result<Inherited> openInherited(SharedFds fds, int anchor);
  Daemon(std::string root, Identity identity, Inherited inherited, std::string digest);

  [[nodiscard]] Ops::Acceptor openAcceptor();
  [[nodiscard]] Result<void> load();
  void loadState();
  void judgeNames();
  [[nodiscard]] Result<void> listenToServices();
  [[nodiscard]] Result<void> listenToControl();
  [[nodiscard]] Result<void> listenToReaders();
  void onSocket(bool stands, const std::string& text);
  void watchSignals();
  void onSignal(int number);
  void watchAnchor();
  void takeOver();
  void report(const std::vector<std::string>& problems);
  void record(protocol::EventKind kind, std::string text);
  void onOrder(const protocol::ShutdownRequest& request);
  void leave(int status);
  void tidyUp();

  SystemClock clock_;
  const std::string digest_;  // of this executable
  Inherited inherited_;
  ExitLog exits_;
  FdStore fds_;
  Sockets sockets_;
  Cgroups cgroups_;
  EventLoop loop_;
  State state_;
  Store store_;
  Journal journal_;
  Host host_;
  DiskSync acceptor_sync_;
  Background snapshots_;  // of the acceptor
  Ops::Acceptor acceptor_;
  Names names_;
  Supervisor supervisor_;
  Ops ops_;
  ControlServer control_;
  NamingServer naming_;
  NotifySocket notify_;
  Listeners listeners_;
  Fd signals_;
  Watch signal_watch_;
  Fd anchor_;
  Watch anchor_watch_;
  bool leaving_ = false;
  int status_ = kLeftForSignal;
};

// What a supervisor says by --ready-fd when it runs, but nobody can talk to it; the reason follows.
inline constexpr std::string_view kDeaf = "deaf: ";

// The lock that makes a shim the only one of its ROOT. kLocked when it is held, or with `wait` once
// it is free: a standby, for systemd, which knows of no other shim than its own.
[[nodiscard]] Result<Fd> lockRoot(const std::string& root, bool wait);
// Who holds it, as it wrote into the file of the lock. Pid 0: nobody.
struct RunningShim {
  int pid = 0;
  int anchor = 0;
  std::string version;
  std::string digest;
  std::string deaf;  // why nobody can talk to it; empty: one can
};
RunningShim runningShimFacts(const std::string& root);
int runningShim(const std::string& root);

}  // namespace cctl::shim
