#include "model/move.h"

#include <algorithm>

#include "model/node_set.h"

namespace cctl {
namespace {

Placement without(const Placement& placement, const Placed& placed) {
  Placement rest;
  for (const Placed& one : placement)
    if (one.instance != placed.instance) rest.push_back(one);
  return rest;
}

// A fixed port that is taken there.
std::vector<std::string> clashesOn(const MoveInput& input, const Placed& placed,
                                   const HostName& to) {
  std::vector<Placed> there = {{placed.instance, to}};
  for (const auto* list : {&input.others, &input.placement})
    for (const Placed& one : *list)
      if (one.host == to && one.instance != placed.instance) there.push_back(one);
  return checkFixedPorts(*input.inventory, there);
}

std::string fold(const std::vector<HostName>& hosts) {
  std::vector<std::string> names;
  for (const HostName& host : hosts) names.push_back(host.str());
  return foldNodeSet(names);
}

// Instances that each host of the place has its own of.
Result<void> checkMovable(const MoveInput& input, const Placed& placed) {
  const Manifest& manifest = *input.manifest;
  const std::vector<HostName> hosts = eligibleHosts(*input.inventory, manifest);
  if (!manifest.place.count)
    return fail(Code::kRefused,
                "{} cannot leave {}: its place gives each of {} {}; change `place` in {} and run "
                "'clusterctl apply {}'",
                placed.instance, placed.host, fold(hosts),
                manifest.place.per_host == 1 ? "one" : std::to_string(manifest.place.per_host),
                manifest.where.file, manifest.service);
  if (placed.instance.index >= instanceCount(*input.inventory, manifest))
    return fail(Code::kRefused, "{} is one more than {} wants; 'clusterctl apply {}' removes it",
                placed.instance, manifest.where.file, manifest.service);
  return {};
}

}  // namespace

std::vector<Move> movesTowards(MoveInput input, const HostName& to, const std::set<int>& but) {
  std::vector<Move> moves;
  for (;;) {
    Placed* next = nullptr;
    std::pair<int, int> fullest;
    for (Placed& placed : input.placement) {
      if (placed.host == to || but.count(placed.instance.index) != 0) continue;
      const Placement others = without(input.placement, placed);
      const auto here = crowdedness(*input.inventory, *input.manifest, others, placed.host);
      const auto there = crowdedness(*input.inventory, *input.manifest, others, to);
      if (there >= here || here < fullest || !checkNewHost(input, placed, to)) continue;
      next = &placed;
      fullest = here;
    }
    if (next == nullptr) return moves;
    moves.push_back({next->instance, next->host, to});
    next->host = to;
  }
}

Result<HostName> findNewHost(const MoveInput& input, const Placed& placed) {
  CCTL_CHECK(checkMovable(input, placed));
  std::set<HostName> closed = input.closed;
  closed.insert(placed.host);
  std::string in_the_way;
  for (const HostName& host : eligibleHosts(*input.inventory, *input.manifest)) {
    if (closed.count(host) != 0) continue;
    const std::vector<std::string> clashes = clashesOn(input, placed, host);
    if (clashes.empty()) continue;
    closed.insert(host);
    in_the_way = "; " + clashes.front();
  }
  std::map<HostName, int> load;
  for (const Placed& other : input.others) ++load[other.host];
  const auto placement = placeInstances(*input.inventory, *input.manifest,
                                        without(input.placement, placed), load, closed);
  if (placement)
    for (const Placed& one : *placement)
      if (one.instance == placed.instance) return one.host;
  return fail(Code::kRefused,
              "{} cannot leave {}: no other host of its place can take it{}; add hosts to `place` "
              "in {}, or undrain one",
              placed.instance, placed.host, in_the_way, input.manifest->where.file);
}

Result<void> checkNewHost(const MoveInput& input, const Placed& placed, const HostName& to) {
  const std::vector<HostName> hosts = eligibleHosts(*input.inventory, *input.manifest);
  if (std::find(hosts.begin(), hosts.end(), to) == hosts.end())
    return fail(Code::kRefused, "{} may not run on {}: its place is {}; change `place` in {}",
                placed.instance, to, fold(hosts), input.manifest->where.file);
  CCTL_CHECK(checkMovable(input, placed));
  if (input.closed.count(to) != 0)
    return fail(Code::kRefused, "{0} is drained; 'clusterctl undrain {0}' first", to);
  const std::vector<std::string> clashes = clashesOn(input, placed, to);
  if (!clashes.empty()) return fail(Code::kRefused, "{}", clashes.front());
  return {};
}

}  // namespace cctl
