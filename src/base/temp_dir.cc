#include "base/temp_dir.h"

#include <stdlib.h>

#include <cerrno>

#include "base/file.h"

namespace cctl {

Result<TempDir> TempDir::create(const std::string& prefix) {
  const char* base = ::getenv("TMPDIR");
  std::string path = std::string(base && *base ? base : "/tmp") + "/" + prefix + "-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr)
    return failErrno(errno, "cannot make a temporary directory: " + path);
  return TempDir(std::move(path));
}

TempDir::~TempDir() {
  if (path_.empty()) return;
  // What stays behind is in the directory for temporary files.
  [[maybe_unused]] const auto removed = removeTree(path_);
}

}  // namespace cctl
