// FileSource on the disk: the one part of this layer that touches it.
#pragma once

#include "model/file_source.h"

namespace cctl {

class DiskFiles final : public FileSource {
 public:
  // Only regular files, at most 4 MiB. Blocks.
  [[nodiscard]] Result<std::string> read(const std::string& path) const override;
  [[nodiscard]] Result<std::vector<std::string>> list(const std::string& dir) const override;
};

}  // namespace cctl
