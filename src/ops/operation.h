// What every operation is given: the hosts, the registers, whom to tell, and who orders.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>

#include "base/cancel.h"
#include "ops/event.h"
#include "ops/fenced_registers.h"
#include "ops/fleet.h"
#include "ops/identity.h"
#include "ops/records.h"

namespace cctl::ops {

struct Operation {
  Fleet& fleet;
  FencedRegisters& registers;
  EventSink& events;
  const CancelToken* cancel;
  Identity identity;
  std::string reason;  // the command as typed
  // For tests that break off at every step: called with the name of each before it is done.
  std::function<void(std::string_view)> on_step = {};

  const Inventory& inventory() const { return fleet.inventory(); }
  protocol::Caller caller(uint64_t token) const { return {identity.text(), reason, token}; }
  void reached(std::string_view step) const {
    if (on_step) on_step(step);
  }
  protocol::InstanceRef ref(const InstanceId& id) const { return {id.service.str(), id.index}; }
};

// Time limits of single requests; starts and stops add what the manifest allows.
constexpr Millis kRequestTimeout{15'000};

// All hosts of the inventory, in its order.
std::vector<HostName> allHosts(const Inventory& inventory);

// Hosts → the error that kept them out.
using HostErrors = std::map<HostName, Error>;

// Those of `hosts` that are connected; the others go to `errors`. Blocks until each is one or the
// other.
std::vector<HostConnection*> connectedOf(Fleet& fleet, const std::vector<HostName>& hosts,
                                         HostErrors& errors);

// kUnreachable (or the errors' own code when they agree), naming the hosts, folded.
Error describeHostErrors(const HostErrors& errors);

// The hosts that a change concerns, as far as they can be used.
struct ConcernedHosts {
  std::vector<HostConnection*> connected;
  std::vector<HostName> skipped;  // unreachable and left out on request, each with a warning
};

// Blocks until each is connected or has failed. Fails before any change when one cannot be used,
// unless `may_miss` hosts allow it; kCancelled in any case.
[[nodiscard]] Result<ConcernedHosts> awaitConcerned(Operation& operation,
                                                    const std::vector<HostName>& hosts,
                                                    size_t may_miss);
// What --skip-unreachable allows.
constexpr size_t kAnyNumber = SIZE_MAX;

// Pushes what the registers say of these services (all when empty) to hosts that are connected;
// returns the hosts that did not take it.
[[nodiscard]] Result<HostErrors> pushNames(Operation& operation,
                                           const std::set<ServiceName>& services,
                                           const std::vector<HostName>& hosts);

// Gives the hosts that are connected what the inventory wants of their shims beside services: the
// programs of `alerts`, and `views`. A shim that has them already does nothing. A warning for each
// that did not take them: they never fail an operation.
void pushHostSettings(Operation& operation, const std::vector<HostName>& hosts);

// What of them these hosts have not as the inventory wants it: "alerts", "views". A host that
// cannot tell is left out.
std::map<HostName, std::vector<std::string>> settingsBehind(
    Operation& operation, const std::vector<HostConnection*>& hosts);

// Blocks for `duration`; kCancelled when the token is set first.
[[nodiscard]] Result<void> pauseFor(Millis duration, const CancelToken* cancel);

}  // namespace cctl::ops
