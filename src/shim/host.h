// What one shim is about and what its parts share.
#pragma once

#include <functional>
#include <string>

#include "base/clock.h"
#include "protocol/messages.h"
#include "shim/cgroup.h"
#include "shim/event_loop.h"
#include "shim/exit_log.h"
#include "shim/fd_store.h"
#include "shim/journal.h"
#include "shim/log_mover.h"
#include "shim/sockets.h"
#include "shim/state.h"
#include "shim/store.h"
#include "shim/survivors.h"

namespace cctl::shim {

// Fixed at bootstrap: ROOT/shim/cluster.
struct Identity {
  std::string cluster;
  std::string host;
  std::string advertise;  // may be empty
  bool boot_hook = false;
};

// References to what the daemon owns; all outlive every part that is given this.
struct Host {
  std::string root;
  Identity identity;
  EventLoop& loop;
  State& state;
  Store& store;
  Journal& journal;
  ExitLog& exits;
  Survivors& survivors;
  LogMover& mover;
  FdStore& fds;
  Sockets& sockets;
  Cgroups& cgroups;
  int anchor = 0;                   // pid; 0: there is none
  std::string notify_address = {};  // NOTIFY_SOCKET of services
  // A process of this instance came into another state.
  std::function<void(const protocol::InstanceRef&)> on_state_change = {};
  // The shim's own sockets that could not be bound.
  std::function<std::vector<std::string>()> socket_problems = {};
};

}  // namespace cctl::shim
