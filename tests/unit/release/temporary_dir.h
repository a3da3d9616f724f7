// A directory that is gone when the test is over.
#pragma once

#include <stdlib.h>
#include <sys/stat.h>

#include <string>
#include <string_view>

#include "base/file.h"

namespace cctl::test {

class TemporaryDir {
 public:
  TemporaryDir() {
    char name[] = "/tmp/cctl-release-XXXXXX";
    path_ = ::mkdtemp(name);
  }
  TemporaryDir(const TemporaryDir&) = delete;
  TemporaryDir& operator=(const TemporaryDir&) = delete;
  ~TemporaryDir() { (void)removeTree(path_); }
  const std::string& path() const { return path_; }
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }

  // Writes PATH below it, with its directories.
  std::string put(const std::string& path, std::string_view content, mode_t mode = 0644) const {
    const std::string full = *this / path;
    (void)makeDirs(full.substr(0, full.rfind('/')));
    (void)replaceFile(full, content, mode, Sync::kNo);
    return full;
  }

 private:
  std::string path_;
};

}  // namespace cctl::test
