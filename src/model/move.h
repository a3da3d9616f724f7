// Where an instance can go when it leaves its host. Pure.
#pragma once

#include <set>

#include "model/placement.h"

namespace cctl {

struct Move {
  InstanceId id;
  HostName from;
  HostName to;
  friend bool operator==(const Move&, const Move&) = default;
};

struct MoveInput {
  const Inventory* inventory = nullptr;
  const Manifest* manifest = nullptr;
  Placement placement;         // of the service now
  std::vector<Placed> others;  // of all other services: their fixed ports are in the way
  std::set<HostName> closed;   // drained
};

// The host that `place` gives the instance when its own is not to be had. kRefused with the reason
// and what to do when there is none.
[[nodiscard]] Result<HostName> findNewHost(const MoveInput& input, const Placed& placed);
// Whether the instance may go there, and would stay: kRefused with the reason.
[[nodiscard]] Result<void> checkNewHost(const MoveInput& input, const Placed& placed,
                                        const HostName& to);

// Moves to a host that was away which spread the service better over labels and hosts, from the
// fullest first; none when it is spread as well as it was. What may not go there, and those of
// `but`, stay.
std::vector<Move> movesTowards(MoveInput input, const HostName& to, const std::set<int>& but);

}  // namespace cctl
