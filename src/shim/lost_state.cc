#include "shim/lost_state.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <climits>
#include <optional>

#include "base/file.h"
#include "model/host_paths.h"
#include "model/names.h"
#include "shim/generation_files.h"

namespace cctl::shim {
namespace {

// Of a directory: its entries that are numbers, ascending.
std::vector<int> numbersIn(const std::string& dir) {
  std::vector<int> numbers;
  const auto names = listDir(dir);
  if (!names) return numbers;
  for (const std::string& name : *names) {
    int number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error == std::errc() && end == name.data() + name.size() && number >= 0)
      numbers.push_back(number);
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

// 0: none.
int currentOf(const std::string& root, const protocol::InstanceRef& ref) {
  char target[PATH_MAX];
  const std::string link = paths::currentLink(root, ref.service, ref.index);
  const ssize_t length = ::readlink(link.c_str(), target, sizeof target);
  if (length <= 0) return 0;
  const std::string_view text(target, static_cast<size_t>(length));
  int number = 0;
  std::from_chars(text.data() + text.rfind('/') + 1, text.data() + text.size(), number);
  return number;
}

std::optional<InstanceRecord> recordOnDisk(const std::string& root,
                                           const protocol::InstanceRef& ref) {
  InstanceRecord record;
  record.ref = ref;
  record.remade = true;
  const int current = currentOf(root, ref);
  for (const int number : numbersIn(paths::generationsDir(root, ref.service, ref.index))) {
    record.next_generation = number + 1;
    const auto spec = readGeneration(root, ref, number);
    if (!spec) continue;
    GenerationRecord generation;
    generation.generation = number;
    generation.ports = spec->ports;
    generation.sockets = spec->sockets;
    generation.prepared = true;  // a directory is there whole or not at all
    record.generations.push_back(std::move(generation));
    if (number == current) record.current = current;
  }
  if (record.generations.empty()) return std::nullopt;
  return record;
}

}  // namespace

std::vector<InstanceRecord> recordsOnDisk(const std::string& root) {
  std::vector<InstanceRecord> records;
  const auto services = listDir(paths::servicesDir(root));
  if (!services) return records;
  for (const std::string& service : *services) {
    if (!parseServiceName(service)) continue;
    for (const int index : numbersIn(paths::instancesDir(root, service)))
      if (auto record = recordOnDisk(root, {service, index})) records.push_back(std::move(*record));
  }
  std::sort(records.begin(), records.end(),
            [](const InstanceRecord& a, const InstanceRecord& b) { return a.ref < b.ref; });
  return records;
}

}  // namespace cctl::shim
