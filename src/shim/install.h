// Bootstrap's half on the host: place, start, upgrade, take off.
#pragma once

#include <set>
#include <string>

#include "base/result.h"

namespace cctl::shim {

struct InstallRequest {
  std::string root;
  std::string cluster;
  std::string host;
  std::string advertise;         // may be empty
  std::set<unsigned> operators;  // uids
  bool boot_hook = true;
};

struct InstallOutcome {
  std::string version;  // of what runs now
  std::string digest;
  enum class Action { kStarted, kUpgraded, kUnchanged } action = Action::kUnchanged;
  bool boot_hook = false;
  std::string reason;  // why there is no boot hook, or why a newer shim was left alone
};

// kRefused: ROOT belongs to another cluster or host. Takes ROOT's bootstrap lock; blocks until the
// shim answers.
[[nodiscard]] Result<InstallOutcome> install(const InstallRequest& request);
std::string outcomeLine(const InstallOutcome& outcome);  // JSON

struct UninstallRequest {
  std::string root;
  bool stop_services = false;
  bool purge = false;  // removes ROOT with everything in it
};
[[nodiscard]] Result<void> uninstall(const UninstallRequest& request);

// For systemd's ExecStop: while the host goes down, stops the services as they ask to be stopped,
// then the shim; they start again at boot. At any other stop of the unit it does nothing, and they
// live on.
[[nodiscard]] Result<void> stopWithHost(const std::string& root);

// "ROOT/shim/current is missing". Empty: both names of the shim in use lead to the one with this
// digest.
std::string brokenLink(const std::string& root, const std::string& digest);

// {"version":…,"digest":…,"running":…,"pid":…,"operators":[…],"cluster":…,"host":…,"boot_hook":…,"link_problem":…}
std::string infoLine(const std::string& root);

// Starts a shim in the background unless one runs; true when it was this call that started it.
// Returns once it listens, with what it said when it could not.
[[nodiscard]] Result<bool> startDaemon(const std::string& root);

// "1.10.0" against "1.9.2", as numbers between dots; a suffix such as "-rc1" sorts before none.
int compareVersions(const std::string& a, const std::string& b);

}  // namespace cctl::shim
