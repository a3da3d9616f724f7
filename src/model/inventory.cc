#include "model/inventory.h"

#include <arpa/inet.h>

#include <algorithm>

#include "model/node_set.h"
#include "model/utf8.h"

namespace cctl {
namespace {

template <typename T>
void override(std::optional<T>& value, const std::optional<T>& over) {
  if (over) value = over;
}

// What --limit may name, for suggestions.
std::vector<std::string> selectableNames(const Inventory& inventory) {
  std::vector<std::string> names{"all"};
  for (const auto& [group, members] : inventory.groups) names.push_back(group);
  for (const HostName& host : inventory.host_order) names.push_back(host.str());
  return names;
}

// The hosts that one part without '!' means.
Result<std::vector<HostName>> selectPart(const Inventory& inventory, const std::string& part) {
  if (part == "all") return inventory.host_order;
  if (const auto group = inventory.groups.find(part); group != inventory.groups.end())
    return group->second;
  const auto names = expandNodeSet(part);
  if (!names) return fail(Code::kUsage, "{}", names.error().message);
  std::vector<HostName> hosts;
  for (const std::string& name : *names) {
    if (inventory.findHost(HostName(name)) == nullptr)
      return fail(Code::kUsage, "there is no host or group \"{}\" in {}; {}", printable(name),
                  inventory.directory,
                  spellingHint(name, selectableNames(inventory), "see `clusterctl hosts`"));
    hosts.push_back(HostName(name));
  }
  return hosts;
}

}  // namespace

SshSettings SshSettings::mergedWith(const SshSettings& over) const {
  SshSettings merged = *this;
  override(merged.user, over.user);
  override(merged.port, over.port);
  override(merged.identity_file, over.identity_file);
  override(merged.known_hosts, over.known_hosts);
  override(merged.config_file, over.config_file);
  override(merged.proxy_jump, over.proxy_jump);
  override(merged.connect_timeout, over.connect_timeout);
  override(merged.become, over.become);
  return merged;
}

std::optional<std::string> Host::publishedAddress() const {
  if (advertise) return advertise;
  if (isIpAddress(address)) return address;
  return std::nullopt;
}

const Host* Inventory::findHost(const HostName& name) const {
  const auto found = hosts.find(name);
  return found == hosts.end() ? nullptr : &found->second;
}

const Manifest* Inventory::findService(const ServiceName& name) const {
  const auto found = services.find(name);
  return found == services.end() ? nullptr : &found->second;
}

Result<const Host*> Inventory::host(std::string_view name) const {
  if (const Host* found = findHost(HostName(std::string(name)))) return found;
  std::vector<std::string> known;
  for (const HostName& other : host_order) known.push_back(other.str());
  return fail(Code::kBadInput, "there is no host \"{}\" in {}; {}", printable(name), directory,
              spellingHint(name, known, "see `clusterctl hosts`"));
}

Result<const Manifest*> Inventory::service(std::string_view name) const {
  if (const Manifest* found = findService(ServiceName(std::string(name)))) return found;
  std::vector<std::string> known;
  for (const auto& [other, manifest] : services) known.push_back(other.str());
  return fail(Code::kBadInput, "there is no service \"{}\" in {}; {}", printable(name), directory,
              spellingHint(name, known,
                           fmt::format("add {}/services/{}.yaml", directory, printable(name))));
}

Result<std::vector<HostName>> selectHosts(const Inventory& inventory, std::string_view expression) {
  std::set<HostName> added, taken;
  bool any_added = false;
  for (std::string part : splitNodeSet(expression)) {
    if (part.empty())
      return fail(Code::kUsage, "\"{}\" has an empty part; write like solvers,!host3",
                  printable(expression));
    const bool takes = part[0] == '!';
    if (takes) part.erase(0, 1);
    CCTL_TRY(const auto hosts, selectPart(inventory, part));
    (takes ? taken : added).insert(hosts.begin(), hosts.end());
    any_added |= !takes;
  }
  std::vector<HostName> selected;
  for (const HostName& host : inventory.host_order)
    if ((!any_added || added.count(host) != 0) && taken.count(host) == 0) selected.push_back(host);
  if (selected.empty())
    return fail(Code::kUsage, "\"{}\" selects no host; see `clusterctl hosts`",
                printable(expression));
  return selected;
}

bool isIpAddress(std::string_view text) {
  const std::string copy(text);
  unsigned char bytes[16];
  return copy.find('\0') == std::string::npos && (::inet_pton(AF_INET, copy.c_str(), bytes) == 1 ||
                                                  ::inet_pton(AF_INET6, copy.c_str(), bytes) == 1);
}

}  // namespace cctl
