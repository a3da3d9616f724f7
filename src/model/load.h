// The inventory directory → Inventory, or everything that is wrong with it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/file_source.h"
#include "model/inventory.h"
#include "model/problem.h"

namespace cctl {

struct LoadedInventory {
  std::optional<Inventory> inventory;  // only when there are no problems
  std::vector<Problem> problems;       // sorted; each one is fatal
  std::vector<Problem> warnings;

  bool ok() const { return inventory.has_value(); }
};

// Reads DIR/cluster.yaml (or .yml, .json), DIR/services/*.{yaml,yml,json} and DIR/templates/*,
// checks each by itself and all together, templates and names in them included. Never throws.
LoadedInventory loadInventory(const FileSource& files, const std::string& dir);

// The same as one value: kBadInput with one line for each problem.
[[nodiscard]] Result<Inventory> loadInventoryOrError(const FileSource& files,
                                                     const std::string& dir,
                                                     std::vector<Problem>* warnings = nullptr);

}  // namespace cctl
