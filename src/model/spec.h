// A spec: manifest + templates + version, content-addressed.
#pragma once

#include <string>

#include "model/inventory.h"

namespace cctl {

// One JSON object, {"format":1,"manifest":…,"templates":{…},"version":…}: equal for equal content,
// whatever the layout and comments of the manifest file. Only the templates it uses count.
std::string canonicalSpec(const Inventory& inventory, const Manifest& manifest,
                          const Version& version);
// 64 hex digits: sha256 of the above.
std::string specDigest(const Inventory& inventory, const Manifest& manifest,
                       const Version& version);

}  // namespace cctl
