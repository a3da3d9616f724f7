#include "model/placement.h"

#include <algorithm>
#include <tuple>

#include "model/node_set.h"

namespace cctl {
namespace {

std::string labelOf(const Inventory& inventory, const HostName& host, const std::string& label) {
  const Host* found = inventory.findHost(host);
  if (label.empty() || found == nullptr) return {};
  const auto value = found->labels.find(label);
  return value == found->labels.end() ? std::string() : value->second;
}

// Fills hosts one instance at a time.
class Placer {
 public:
  Placer(const Inventory& inventory, const Manifest& manifest, const std::map<HostName, int>& load,
         const std::set<HostName>& closed)
      : inventory_(inventory), manifest_(manifest), load_(load), closed_(closed) {
    hosts_ = eligibleHosts(inventory, manifest);
    // With a count, a host may hold any number; otherwise exactly per_host.
    room_ = manifest.place.count ? INT32_MAX : manifest.place.per_host;
    for (const HostName& host : hosts_) placed_[host] = 0;
  }

  void keep(const Placement& previous, int count) {
    for (const Placed& old : previous) {
      const auto host = placed_.find(old.host);
      if (old.instance.index < 0 || old.instance.index >= count || host == placed_.end() ||
          host->second >= room_)
        continue;
      if (at_.count(old.instance.index) == 0) put(old.instance.index, old.host);
    }
  }

  Result<Placement> fill(int count) {
    for (int index = 0; index < count; ++index) {
      if (at_.count(index) != 0) continue;
      const HostName* host = bestHost();
      if (host == nullptr)
        return fail(Code::kBadInput,
                    "{}: no host to place instance {} on; add hosts to its place{}",
                    manifest_.service, index, closedText());
      put(index, *host);
    }
    Placement placement;
    for (const auto& [index, host] : at_) placement.push_back({{manifest_.service, index}, host});
    return placement;
  }

 private:
  void put(int index, const HostName& host) {
    at_[index] = host;
    ++placed_[host];
    ++by_label_[labelOf(inventory_, host, manifest_.place.spread)];
  }

  // Where every host gets its share, the order of the list says which is first.
  int loadOf(const HostName& host) const {
    const auto load = load_.find(host);
    return load == load_.end() || !manifest_.place.count ? 0 : load->second;
  }

  std::string closedText() const {
    std::vector<std::string> names;
    for (const HostName& host : hosts_)
      if (closed_.count(host) != 0) names.push_back(host.str());
    if (names.empty()) return {};
    return fmt::format(", or take the mark off {} with 'clusterctl undrain'", foldNodeSet(names));
  }

  // Fewest of the spread label's value, fewest on the host, least loaded, first in order.
  const HostName* bestHost() {
    const HostName* best = nullptr;
    std::tuple<int, int, int> least;
    for (const HostName& host : hosts_) {
      if (placed_[host] >= room_ || closed_.count(host) != 0) continue;
      const std::tuple<int, int, int> rank{
          manifest_.place.spread.empty()
              ? 0
              : by_label_[labelOf(inventory_, host, manifest_.place.spread)],
          placed_[host], loadOf(host)};
      if (best != nullptr && rank >= least) continue;
      best = &host;
      least = rank;
    }
    return best;
  }

  const Inventory& inventory_;
  const Manifest& manifest_;
  const std::map<HostName, int>& load_;
  const std::set<HostName>& closed_;
  std::vector<HostName> hosts_;
  int room_ = 0;
  std::map<int, HostName> at_;
  std::map<HostName, int> placed_;
  std::map<std::string, int> by_label_;
};

}  // namespace

std::vector<HostName> eligibleHosts(const Inventory& inventory, const Manifest& manifest) {
  const Place& place = manifest.place;
  if (place.group.empty()) return place.hosts;
  if (place.group == "all") return inventory.host_order;
  const auto group = inventory.groups.find(place.group);
  return group == inventory.groups.end() ? std::vector<HostName>() : group->second;
}

int instanceCount(const Inventory& inventory, const Manifest& manifest) {
  const Place& place = manifest.place;
  if (place.count) return *place.count;
  return static_cast<int>(eligibleHosts(inventory, manifest).size()) * place.per_host;
}

Result<Placement> placeInstances(const Inventory& inventory, const Manifest& manifest,
                                 const Placement& previous, const std::map<HostName, int>& load,
                                 const std::set<HostName>& closed) {
  const int count = instanceCount(inventory, manifest);
  Placer placer(inventory, manifest, load, closed);
  placer.keep(previous, count);
  return placer.fill(count);
}

std::pair<int, int> crowdedness(const Inventory& inventory, const Manifest& manifest,
                                const Placement& others, const HostName& host) {
  const std::string& spread = manifest.place.spread;
  const std::string label = labelOf(inventory, host, spread);
  std::pair<int, int> crowd;
  for (const Placed& other : others) {
    crowd.first += !spread.empty() && labelOf(inventory, other.host, spread) == label ? 1 : 0;
    crowd.second += other.host == host ? 1 : 0;
  }
  return crowd;
}

std::vector<std::string> checkFixedPorts(const Inventory& inventory,
                                         const std::vector<Placed>& placed) {
  std::map<std::pair<HostName, uint16_t>, InstanceId> holders;
  std::vector<std::string> clashes;
  for (const Placed& one : placed) {
    const Manifest* manifest = inventory.findService(one.instance.service);
    if (manifest == nullptr) continue;
    for (const Port& port : manifest->ports) {
      if (port.isAuto()) continue;
      const auto [holder, fresh] = holders.emplace(std::pair{one.host, *port.fixed}, one.instance);
      if (fresh) continue;
      clashes.push_back(
          fmt::format("{}: {} and {} both want port {}; make one of them auto, or "
                      "place them on different hosts",
                      one.host, holder->second, one.instance, *port.fixed));
    }
  }
  return clashes;
}

}  // namespace cctl
