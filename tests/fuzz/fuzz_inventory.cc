// libFuzzer: any bytes as cluster.yaml, a manifest and a template, cut at "\n=====\n".
// CMakeLists.txt says how to build and run it; new inputs go to the first directory named.
#include <cstdint>
#include <string>
#include <string_view>

#include "model/load.h"
#include "model/node_set.h"
#include "model/placement.h"
#include "model/render.h"
#include "model/spec.h"

namespace {

std::string_view takePart(std::string_view& bytes) {
  constexpr std::string_view kCut = "\n=====\n";
  const size_t at = bytes.find(kCut);
  const std::string_view part = bytes.substr(0, at);
  bytes.remove_prefix(at == std::string_view::npos ? bytes.size() : at + kCut.size());
  return part;
}

// What may be done with an inventory that loaded. A spec of it must read back.
void use(const cctl::Inventory& inventory) {
  for (const auto& [name, manifest] : inventory.services) {
    (void)cctl::placeInstances(inventory, manifest);
    (void)cctl::renderInstance(cctl::sampleInput(inventory, manifest));
    if (!cctl::parseSpec(cctl::canonicalSpec(inventory, manifest, cctl::Version("1"))))
      __builtin_trap();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  cctl::MemoryFiles files;
  files.put("i/cluster.yaml", std::string(takePart(bytes)));
  files.put("i/services/s.yaml", std::string(takePart(bytes)));
  files.put("i/templates/t", std::string(bytes));
  const cctl::LoadedInventory loaded = cctl::loadInventory(files, "i");
  if (loaded.ok() != loaded.problems.empty()) __builtin_trap();
  if (loaded.ok()) {
    use(*loaded.inventory);
    (void)cctl::selectHosts(*loaded.inventory, bytes);
  }
  if (const auto names = cctl::expandNodeSet(bytes.substr(0, 100)); names)
    (void)cctl::foldNodeSet(*names);
  return 0;
}
