// What a supervised process does next: one table of state × event.
#pragma once

#include "protocol/messages.h"

namespace cctl::shim {

enum class ProcessEvent {
  kStart,      // an order, or the policy of a boot
  kStop,       // an order
  kReady,      // the readiness probe succeeded
  kTimeout,    // the start took too long
  kExit,       // the process has ended
  kTimer,      // the backoff is over, or the grace of a stop
  kNoLaunch,   // it could not be started at all
  kUnhealthy,  // its liveness probe failed often enough
};
constexpr int kProcessEvents = 8;
constexpr int kProcessStates = 7;

enum class ProcessAction {
  kIgnore,
  kLaunch,      // check, start, probe
  kJoin,        // an order of the same kind is under way: answered with it
  kAlready,     // it is so already: answered at once
  kTerminate,   // signal, grace, KILL
  kKill,        // the grace ran out
  kStartAfter,  // start when the stop that is under way has ended
  kStopped,     // it ended because it was told to
  kDied,        // it ended by itself: restarted by policy, or failed
  kBecomeReady,
  kGiveUp,           // never became ready: stop it, then failed or restarted by policy
  kBecomeUnhealthy,  // said, and restarted where the policy allows
  kRest,             // out of backoff or failed, into stopped
};

ProcessAction actionFor(protocol::InstanceState state, ProcessEvent event);

}  // namespace cctl::shim
