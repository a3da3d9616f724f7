// A spec: manifest + templates + version, content-addressed.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "model/inventory.h"

namespace cctl {

// One JSON object, {"format":1,"manifest":…,"templates":{…},"version":…}: equal for equal content,
// whatever the layout and comments of the manifest file. Only the templates it uses count.
std::string canonicalSpec(const Inventory& inventory, const Manifest& manifest,
                          const Version& version);
// 64 hex digits: sha256 of the above.
std::string specDigest(const Inventory& inventory, const Manifest& manifest,
                       const Version& version);

// A spec read back, for rendering it again.
struct Spec {
  Manifest manifest;
  std::map<std::string, Template> templates;
  Version version;
};

// kCorrupt for anything else than canonicalSpec writes; kBadInput when this build does not take
// that manifest.
[[nodiscard]] Result<Spec> parseSpec(std::string_view text);

}  // namespace cctl
