// What a service needs to live under a supervisor: signals without races, readiness
// messages, ports from options, environment or passed sockets.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/options.h"
#include "core/or_error.h"
#include "net/event_loop.h"
#include "net/socket.h"

namespace sudoku {

// The exit codes of all the programs here.
enum ExitCode : int {
  kExitOk = 0,
  kExitFailure = 1,      // sudoku-load: a request failed
  kExitUsage = 64,       // bad command line
  kExitConf = 65,        // bad configuration file
  kExitUnavailable = 69  // cannot listen on the port
};

// SIGTERM, SIGINT and SIGHUP as events of the loop. They are blocked (so they never
// interrupt a read or write half-way, which would reset clients) and read from a
// signalfd(2). Construct before any thread is started: threads inherit the mask.
class Signals {
 public:
  using OnSignal = std::function<void(int signal)>;
  Signals(EventLoop& loop, OnSignal on_signal);
  ~Signals();

 private:
  EventLoop& loop_;
  Fd fd_;
};

// sd_notify(3): one datagram to $NOTIFY_SOCKET; nothing happens where it is not set.
class Notifier {
 public:
  Notifier();
  void send(const std::string& state) const;  // "READY=1", "STOPPING=1"
  // Half of $WATCHDOG_USEC, when the supervisor wants to hear from this process.
  std::optional<Clock::duration> watchdogPeriod() const { return watchdog_period_; }

 private:
  std::string path_;
  std::optional<Clock::duration> watchdog_period_;
};
// Sends WATCHDOG=1 for as long as the loop turns.
void startWatchdog(EventLoop& loop, const Notifier& notifier);

// Where a port comes from: a socket passed by the supervisor, or an address to bind.
struct PortChoice {
  Fd inherited;
  HostPort address;
};

// The choice for the port called `name`: the socket passed under that name, else the
// option `--port` (`--NAME-port` for others than main), else $PORT_NAME. No value when
// none of them says a port; a Failure when what they say is no port.
OrError<std::optional<PortChoice>> choosePort(const std::string& name, const Options& options,
                                              std::vector<InheritedSocket>& inherited);

struct ListenSocket {
  Fd fd;
  bool inherited = false;
};
OrError<ListenSocket> openPort(PortChoice choice);

}  // namespace sudoku
