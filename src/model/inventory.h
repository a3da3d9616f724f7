// Everything the inventory directory says, checked.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "model/manifest.h"
#include "model/names.h"
#include "model/problem.h"
#include "model/sign_off.h"
#include "model/view.h"

namespace cctl {

enum class Become { kNone, kSudo };

// Nothing set: as ~/.ssh/config and ssh's defaults say. Paths are as a shell at the inventory's
// reader would take them: relative ones were joined to the directory of cluster.yaml, a leading
// "~/" is left for the reader to expand.
struct SshSettings {
  std::optional<std::string> user;
  std::optional<uint16_t> port;
  std::optional<std::string> identity_file;
  std::optional<std::string> known_hosts;
  std::optional<std::string> config_file;  // in place of ~/.ssh/config
  std::optional<std::string> proxy_jump;   // [user@]host[:port][,…], or "none"
  std::optional<Millis> connect_timeout;
  std::optional<Become> become;

  // Each setting of `over` that is set wins.
  SshSettings mergedWith(const SshSettings& over) const;
  friend bool operator==(const SshSettings&, const SshSettings&) = default;
};

struct PortRange {
  uint16_t first = 21000;
  uint16_t last = 29999;

  bool contains(uint16_t port) const { return port >= first && port <= last; }
  size_t size() const { return static_cast<size_t>(last - first) + 1; }
  friend bool operator==(const PortRange&, const PortRange&) = default;
};

struct Host {
  HostName name;
  std::string address;                   // what SSH connects to: a name or an IP
  std::optional<std::string> advertise;  // an IP
  SshSettings ssh;                       // the host's over the cluster's
  std::map<std::string, std::string> labels;
  Vars vars;
  std::set<std::string> groups;  // those it is in
  Location where;

  // `advertise`, else `address` when that is an IP, else what bootstrap saw (nullopt here).
  std::optional<std::string> publishedAddress() const;
};

enum class AlertOn { kCrash, kCrashLoop, kUnhealthy };

// A program that every host's shim runs, as itself, when one of these happens.
struct Alert {
  std::vector<AlertOn> on;             // never empty
  std::vector<std::string> host_exec;  // an absolute path first
};

struct Template {
  std::string name;  // file name in templates/
  std::string text;
  Location where;
};

struct Inventory {
  std::string directory;  // as the user named it
  std::string digest;     // sha256 over the files it was read from; empty: made by hand
  std::string cluster;
  std::string root = "/opt/clusterctl";  // absolute, or "~/…" for the login's home on the host
  std::string releases;                  // joined to the directory of cluster.yaml
  SshSettings ssh;
  std::vector<HostName> registry_hosts;  // 1, 3, 5 or 7
  PortRange ports;
  SignOff sign_off;
  std::vector<Alert> alerts;  // in the order of the file
  std::vector<View> views;    // the same
  std::map<HostName, Host> hosts;
  std::vector<HostName> host_order;  // as in the file
  std::map<std::string, std::vector<HostName>> groups;
  std::map<std::string, Vars> group_vars;
  Vars vars;
  // Names of variables, of any place, whose values nobody is to be shown.
  std::map<std::string, Location> secrets;
  std::map<ServiceName, Manifest> services;
  std::map<std::string, Template> templates;

  const Host* findHost(const HostName& name) const;
  const Manifest* findService(const ServiceName& name) const;
  // The same with an error that names the nearest: kBadInput.
  [[nodiscard]] Result<const Host*> host(std::string_view name) const;
  [[nodiscard]] Result<const Manifest*> service(std::string_view name) const;
};

// The hosts that a --limit or a HOSTS argument means: a comma list of host names, node sets, group
// names and "all"; parts with a leading '!' take away (from all hosts when nothing is added). In
// the order of the inventory. kUsage for an unknown name, with the nearest, and when none is left.
[[nodiscard]] Result<std::vector<HostName>> selectHosts(const Inventory& inventory,
                                                        std::string_view expression);

bool isIpAddress(std::string_view text);  // IPv4 or IPv6 in numbers

}  // namespace cctl
