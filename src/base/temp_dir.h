// A directory of its own below $TMPDIR (/tmp), for as long as this lives.
#pragma once

#include <string>
#include <utility>

#include "base/result.h"

namespace cctl {

class TempDir {
 public:
  // Called PREFIX-XXXXXX there; only its owner may look into it.
  [[nodiscard]] static Result<TempDir> create(const std::string& prefix);
  ~TempDir();
  TempDir(TempDir&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TempDir& operator=(TempDir&&) = delete;

  const std::string& path() const { return path_; }

 private:
  explicit TempDir(std::string path) : path_(std::move(path)) {}

  std::string path_;
};

}  // namespace cctl
