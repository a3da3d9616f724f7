#include "model/dependency_graph.h"

#include <algorithm>

namespace cctl {
namespace {

using Names = std::set<ServiceName>;

std::vector<ServiceName> dependenciesIn(const ServiceMap& services, const ServiceName& name,
                                        const Names& among) {
  std::vector<ServiceName> found;
  for (const ServiceName& other : services.at(name).depends_on)
    if (among.count(other) != 0) found.push_back(other);
  return found;
}

// Takes out of `left`, in start order, what does not depend on anything left (Kahn's algorithm).
// What stays is in a cycle or depends on one.
std::vector<ServiceName> takeStartable(const ServiceMap& services, Names& left) {
  std::map<ServiceName, size_t> waits;
  std::map<ServiceName, std::vector<ServiceName>> dependants;
  Names ready;
  for (const ServiceName& name : left) {
    const auto needs = dependenciesIn(services, name, left);
    waits[name] = needs.size();
    for (const ServiceName& other : needs) dependants[other].push_back(name);
    if (needs.empty()) ready.insert(name);
  }
  std::vector<ServiceName> order;
  while (!ready.empty()) {
    const ServiceName name = *ready.begin();
    ready.erase(ready.begin());
    left.erase(name);
    for (const ServiceName& dependant : dependants[name])
      if (--waits[dependant] == 0) ready.insert(dependant);
    order.push_back(name);
  }
  return order;
}

Names namesOf(const ServiceMap& services) {
  Names names;
  for (const auto& [name, manifest] : services) names.insert(name);
  return names;
}

// Every service of `left` has a dependency in `left`, so a walk along them must come round.
std::vector<ServiceName> walkRound(const ServiceMap& services, const Names& left) {
  std::vector<ServiceName> path{*left.begin()};
  std::map<ServiceName, size_t> position{{path[0], 0}};
  while (true) {
    const ServiceName next = dependenciesIn(services, path.back(), left).front();
    const auto [seen, fresh] = position.emplace(next, path.size());
    path.push_back(next);
    if (fresh) continue;
    path.erase(path.begin(), path.begin() + static_cast<std::ptrdiff_t>(seen->second));
    return path;
  }
}

// All that `step` leads to from `start`, in start order, without `start`.
template <typename Step>
std::vector<ServiceName> reach(const ServiceMap& services, const ServiceName& start, Step step) {
  Names seen{start};
  std::vector<ServiceName> work{start};
  while (!work.empty()) {
    const ServiceName name = work.back();
    work.pop_back();
    for (const ServiceName& next : step(name))
      if (services.count(next) != 0 && seen.insert(next).second) work.push_back(next);
  }
  seen.erase(start);
  std::vector<ServiceName> ordered;
  for (const ServiceName& name : startOrder(services))
    if (seen.count(name) != 0) ordered.push_back(name);
  return ordered;
}

}  // namespace

std::vector<ServiceName> startOrder(const ServiceMap& services) {
  Names left = namesOf(services);
  std::vector<ServiceName> order = takeStartable(services, left);
  order.insert(order.end(), left.begin(), left.end());
  return order;
}

std::vector<ServiceName> startOrder(const ServiceMap& services,
                                    const std::set<ServiceName>& among) {
  Names left = among;
  std::vector<ServiceName> order;
  for (const ServiceName& name : startOrder(services))
    if (left.erase(name) != 0) order.push_back(name);
  order.insert(order.end(), left.begin(), left.end());
  return order;
}

std::vector<ServiceName> stopOrder(const ServiceMap& services, const std::set<ServiceName>& among) {
  std::vector<ServiceName> order = startOrder(services, among);
  std::reverse(order.begin(), order.end());
  return order;
}

std::vector<std::vector<ServiceName>> findCycles(const ServiceMap& services) {
  std::vector<std::vector<ServiceName>> cycles;
  Names left = namesOf(services);
  takeStartable(services, left);
  while (!left.empty()) {
    cycles.push_back(walkRound(services, left));
    for (const ServiceName& name : cycles.back()) left.erase(name);
    takeStartable(services, left);
  }
  return cycles;
}

std::vector<ServiceName> directDependants(const ServiceMap& services, const ServiceName& service) {
  std::vector<ServiceName> dependants;
  for (const auto& [name, manifest] : services) {
    const auto& needs = manifest.depends_on;
    if (std::find(needs.begin(), needs.end(), service) != needs.end()) dependants.push_back(name);
  }
  return dependants;
}

std::vector<ServiceName> allDependants(const ServiceMap& services, const ServiceName& service) {
  return reach(services, service,
               [&](const ServiceName& name) { return directDependants(services, name); });
}

std::vector<ServiceName> allDependencies(const ServiceMap& services, const ServiceName& service) {
  return reach(services, service, [&](const ServiceName& name) {
    const auto found = services.find(name);
    return found == services.end() ? std::vector<ServiceName>() : found->second.depends_on;
  });
}

}  // namespace cctl
