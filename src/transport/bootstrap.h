// Placing the shim on a host that has nothing but sshd: one command that looks, and when something
// is missing, one more that brings it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/cancel.h"
#include "base/result.h"
#include "transport/host_link.h"
#include "transport/target.h"

namespace cctl::ssh {

// What one look at a host shows.
struct HostProbe {
  std::string machine;     // uname -m
  std::string kernel;      // uname -sr
  std::string root;        // as given, with ~ resolved there
  std::string user, home;  // the login
  unsigned long uid = 0;
  std::string server_address;  // the host's own address as SSH_CONNECTION shows it; may be empty
  bool systemd = false;        // it runs there
  // The JSON line that `clusterctl-shim info` prints; nullopt when there is no shim in ROOT. Bytes
  // from the host: parse with parseJson.
  std::optional<std::string> shim_info;
};

// Changes nothing on the host. Copes with login shells other than sh and with start-up files that
// print. kFailed when there is no sh or the answer makes no sense.
[[nodiscard]] Result<HostProbe> probeHost(HostLink& link, const std::string& root,
                                          Deadline deadline, const CancelToken* cancel = nullptr);

struct BootstrapRequest {
  std::string root;  // may begin with ~/
  std::string cluster;
  std::string host;                      // its name in the inventory
  std::optional<std::string> advertise;  // else HostProbe::server_address
  std::string_view shim;                 // the executable
  std::string shim_sha256;               // of it, in hex
  std::string shim_version;
  std::string shim_machine = "x86_64";  // the only uname -m that it runs on
  Become become = Become::kNone;
  bool force = false;  // run the install command although this very shim runs already
};

struct BootstrapResult {
  HostProbe probe;      // as it was before
  bool placed = false;  // false: the same or a newer shim was running already
  std::string outcome;  // the JSON line that `clusterctl-shim install` printed; empty unless placed
};

// Puts the shim in ROOT/shim/bin, checked, under its digest's name, and runs its `install`, which
// compares versions under a lock on the host, switches, starts it and sets up the boot hook. Safe
// to repeat and to run twice at once. kFailed with what the host said and the way out.
[[nodiscard]] Result<BootstrapResult> bootstrap(HostLink& link, const BootstrapRequest& request,
                                                Deadline deadline,
                                                const CancelToken* cancel = nullptr);

// The command for HostLink::openControl: ROOT/shim/bin/clusterctl-shim relay ROOT/run/control.sock.
std::string relayCommand(const std::string& root);
std::string controlSocketPath(const std::string& root);

}  // namespace cctl::ssh
