// Inventories in memory, for the tests of this layer.
#pragma once

#include <string>

#include "model/load.h"

namespace cctl::fixture {

inline constexpr char kCluster[] =
    "cluster: demo\n"
    "hosts:\n"
    "  host[1-3]: {labels: {rack: a}}\n"
    "  host4: {address: 10.0.0.14, advertise: 192.0.2.14, labels: {rack: b}, vars: {zone: east}}\n"
    "groups: {solvers: 'host[1-3]', spare: [host4]}\n";

inline constexpr char kManifest[] =
    "service: solver\n"
    "place: {group: solvers, count: 3}\n"
    "run: [bin/solver, --port, '{{port.main}}']\n"
    "ports: {main: auto, admin: auto}\n";

inline std::string textOf(const std::vector<Problem>& problems) {
  std::string text;
  for (const Problem& problem : problems) text += problem.text() + "\n";
  return text;
}

inline LoadedInventory load(const std::string& cluster, const std::string& manifest = {}) {
  MemoryFiles files({{"inv/cluster.yaml", cluster}});
  if (!manifest.empty()) files.put("inv/services/s.yaml", manifest);
  return loadInventory(files, "inv");
}

// What is wrong with a manifest that stands beside kCluster; one problem a line, places included.
inline std::string manifestProblems(const std::string& manifest) {
  return textOf(load(kCluster, manifest).problems);
}

inline Inventory mustLoad(const MemoryFiles& files, const std::string& dir = "inv") {
  LoadedInventory loaded = loadInventory(files, dir);
  if (!loaded.ok()) throw std::runtime_error(textOf(loaded.problems));
  return std::move(*loaded.inventory);
}

inline Inventory mustLoad(const std::string& cluster, const std::string& manifest = {}) {
  MemoryFiles files({{"inv/cluster.yaml", cluster}});
  if (!manifest.empty()) files.put("inv/services/s.yaml", manifest);
  return mustLoad(files);
}

}  // namespace cctl::fixture
