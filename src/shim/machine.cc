#include "shim/machine.h"

#include <array>

namespace cctl::shim {
namespace {

using A = ProcessAction;

// clang-format off
constexpr std::array<std::array<A, kProcessEvents>, kProcessStates> kTable = {{
  //  kStart        kStop          kReady           kTimeout     kExit        kTimer       kNoLaunch    kUnhealthy
  {A::kLaunch,     A::kAlready,   A::kIgnore,      A::kIgnore,  A::kIgnore,  A::kIgnore,  A::kIgnore,  A::kIgnore},           // stopped
  {A::kJoin,       A::kTerminate, A::kBecomeReady, A::kGiveUp,  A::kDied,    A::kIgnore,  A::kDied,    A::kIgnore},           // starting
  {A::kAlready,    A::kTerminate, A::kIgnore,      A::kIgnore,  A::kDied,    A::kIgnore,  A::kIgnore,  A::kBecomeUnhealthy},  // ready
  {A::kAlready,    A::kTerminate, A::kBecomeReady, A::kIgnore,  A::kDied,    A::kIgnore,  A::kIgnore,  A::kIgnore},           // unhealthy
  {A::kStartAfter, A::kJoin,      A::kIgnore,      A::kIgnore,  A::kStopped, A::kKill,    A::kIgnore,  A::kIgnore},           // stopping
  {A::kLaunch,     A::kRest,      A::kIgnore,      A::kIgnore,  A::kIgnore,  A::kLaunch,  A::kIgnore,  A::kIgnore},           // backoff
  {A::kLaunch,     A::kRest,      A::kIgnore,      A::kIgnore,  A::kIgnore,  A::kIgnore,  A::kIgnore,  A::kIgnore},           // failed
}};
// clang-format on

}  // namespace

ProcessAction actionFor(protocol::InstanceState state, ProcessEvent event) {
  return kTable[static_cast<size_t>(state)][static_cast<size_t>(event)];
}

}  // namespace cctl::shim
