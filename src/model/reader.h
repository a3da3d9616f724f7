// The two kinds of file of an inventory, each read by itself; what depends on several files is
// checked in check.h.
#pragma once

#include <optional>

#include "model/inventory.h"
#include "model/manifest.h"
#include "model/node.h"
#include "model/problem.h"

namespace cctl {

// A service manifest. What was wrong is in `problems`; the value is then incomplete, and nullopt
// when it does not even have a name.
std::optional<Manifest> readManifest(const Node& node, Problems& problems);

// cluster.yaml. Fields that were wrong keep their defaults. `directory` is that of the file.
void readCluster(const Node& node, const std::string& directory, Inventory& inventory,
                 Problems& problems);

// Names of variables, labels and ports: they are parts of dotted names in templates.
bool isPartName(std::string_view text);

// `vars`: names to values of any kind.
Vars readVars(const Node& node, std::string_view what, Problems& problems);

// `secrets`: names, and where they stand; names that nothing has are found in check.h.
std::map<std::string, Location> readSecrets(const Node& node, Problems& problems);

// A list of node sets, or one as a single value; each name is checked as a host name.
std::vector<std::pair<std::string, Location>> readNodeSets(const Node& node, std::string_view what,
                                                           Problems& problems);

}  // namespace cctl
