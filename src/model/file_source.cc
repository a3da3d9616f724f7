#include "model/file_source.h"

#include "model/disk_files.h"

namespace cctl {

Result<std::string> MemoryFiles::read(const std::string& path) const {
  const auto found = files_.find(path);
  if (found == files_.end()) return fail(Code::kNotFound, "{}: no such file", path);
  return found->second;
}

Result<std::vector<std::string>> MemoryFiles::list(const std::string& dir) const {
  const std::string prefix = dir + "/";
  std::vector<std::string> names;
  for (const auto& [path, content] : files_) {
    if (path.compare(0, prefix.size(), prefix) != 0) continue;
    std::string name = path.substr(prefix.size());
    if (name.find('/') == std::string::npos && name[0] != '.') names.push_back(std::move(name));
  }
  if (names.empty()) return fail(Code::kNotFound, "{}: no such directory", dir);
  return names;
}

}  // namespace cctl
