// A service manifest: what inventory/services/*.yaml says, checked.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "model/names.h"
#include "model/node.h"
#include "model/problem.h"

namespace cctl {

// Text that is a template, with its place for error messages.
struct TemplateText {
  std::string text;
  Location where;
};

// Where instances may run, and how many there are.
struct Place {
  std::string group;            // empty: `hosts` says it; "all" is every host
  std::vector<HostName> hosts;  // in the order of the file; empty for a group
  std::optional<int> count;     // so many over the group; nullopt: `per_host` on each host
  int per_host = 1;
  std::string spread;  // label whose values are used evenly; empty: none
  Location where;
};

struct Port {
  std::string name;
  std::optional<uint16_t> fixed;  // nullopt: from the pool of the cluster
  bool socket = false;            // bound by the shim and passed on (LISTEN_FDS)

  bool isAuto() const { return !fixed; }
  // Two generations of an instance can have it at once.
  bool isShareable() const { return socket || isAuto(); }
};

struct ConfigFile {
  std::string template_name;  // in inventory/templates/
  std::string path;           // below conf_dir; relative, without ".."
  mode_t mode = 0644;
  Location where;
};

struct TcpProbe {
  std::string port;
};
struct HttpProbe {
  std::string port;
  std::string path;  // begins with '/'
};
struct ExecProbe {
  std::vector<TemplateText> argv;
};
struct NotifyProbe {};  // the service says so itself (sd_notify(3))
struct NoProbe {};      // ready once it has run for a moment
using Probe = std::variant<NoProbe, TcpProbe, HttpProbe, ExecProbe, NotifyProbe>;

// Asked for as long as it runs; `failures` failed attempts in a row and it is restarted. With a
// NotifyProbe: WATCHDOG=1 must come within interval × failures.
struct Liveness {
  Probe probe;
  Millis interval{1'000};
  Millis timeout{500};  // of one attempt
  int failures = 3;
};

struct Health {
  Probe ready;
  std::optional<Liveness> live;
  Millis start_timeout{30'000};
};

enum class RestartPolicy { kAlways, kOnFailure, kNever };

struct Restart {
  RestartPolicy policy = RestartPolicy::kAlways;
  Millis backoff_first{100};
  Millis backoff_most{30'000};
  int limit_count = 10;         // more restarts than this …
  Millis limit_window{60'000};  // … in this time: failed
};

struct Stop {
  int signal = 15;
  Millis grace{10'000};
};

enum class UpgradeOrder { kStartFirst, kStopFirst };

// How many instances at once.
struct Batch {
  int value = 1;
  bool percent = false;

  int of(int total) const;  // at least 1; percentages round down
};

struct Upgrade {
  std::optional<Batch> canary;  // replaced before all others
  Batch batch;
  UpgradeOrder order = UpgradeOrder::kStopFirst;
  Millis drain{5'000};      // at most: it ends when nobody is connected any more
  Millis observe{0};        // how long new instances must stay ready before they count as good
  int max_failures = 0;     // instances that may fail before all is put back
  int max_unreachable = 0;  // hosts that may be out of reach
};

enum class OnChange { kNone, kReload, kRestart };

struct Limits {
  static constexpr uint64_t kUnlimited = UINT64_MAX;
  std::optional<uint64_t> nofile;  // of setrlimit(2), as the next four; nullopt: as the shim has it
  std::optional<uint64_t> nproc;
  std::optional<uint64_t> core;     // bytes
  std::optional<uint64_t> memlock;  // bytes
  std::optional<uint64_t> stack;    // bytes
  std::optional<uint64_t> memory;   // bytes, of all its processes together
  std::optional<int> cpu;           // thousandths of a processor
};

struct LogLimits {
  uint64_t max_size = 64u << 20;  // bytes
  int keep = 5;
};

using Vars = std::map<std::string, Node>;

struct Manifest {
  ServiceName service;
  Place place;
  std::vector<TemplateText> run;  // never empty
  std::vector<Port> ports;        // in the order of the file
  std::vector<ConfigFile> config;
  std::vector<ServiceName> depends_on;
  std::map<std::string, TemplateText> env;
  std::string user;          // empty: whoever the shim runs as
  std::optional<int> umask;  // nullopt: 022
  Limits limits;
  Health health;
  Restart restart;
  Stop stop;
  Upgrade upgrade;
  std::map<ServiceName, OnChange> on_change;
  LogLimits logs;
  Vars vars;
  // Names of variables and of `env` whose values nobody is to be shown.
  std::map<std::string, Location> secrets;

  Location where;  // of the file
  Node source;     // the file as it was read: what the spec digest is made of

  const Port* findPort(std::string_view name) const;
  bool allPortsShareable() const;
};

std::string_view restartPolicyName(RestartPolicy policy);
std::string_view upgradeOrderName(UpgradeOrder order);
std::string_view onChangeName(OnChange action);

}  // namespace cctl
