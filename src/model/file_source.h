// The files of an inventory, from a disk or from memory.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/result.h"

namespace cctl {

class FileSource {
 public:
  virtual ~FileSource() = default;
  // The whole file; kNotFound when it does not exist.
  [[nodiscard]] virtual Result<std::string> read(const std::string& path) const = 0;
  // Names of the files in a directory, sorted, without those beginning with '.'; kNotFound when it
  // does not exist.
  [[nodiscard]] virtual Result<std::vector<std::string>> list(const std::string& dir) const = 0;
};

// For tests and for sample inventories: path → content.
class MemoryFiles final : public FileSource {
 public:
  MemoryFiles() = default;
  explicit MemoryFiles(std::map<std::string, std::string> files) : files_(std::move(files)) {}
  void put(const std::string& path, std::string content) { files_[path] = std::move(content); }
  [[nodiscard]] Result<std::string> read(const std::string& path) const override;
  [[nodiscard]] Result<std::vector<std::string>> list(const std::string& dir) const override;

 private:
  std::map<std::string, std::string> files_;
};

}  // namespace cctl
