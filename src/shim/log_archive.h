// Rotated log files, compressed by gzip (RFC 1952): `zcat` reads them too.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"

namespace cctl::shim {

// "TIME-SERIAL-INODE.log.gz" for the file "TIME-SERIAL.log": a reader that was in the middle of the
// file knows it again by its inode.
std::string archiveName(const std::string& rotated, uint64_t inode);
// The inode in such a name; 0 for every other.
uint64_t archivedInode(std::string_view name);

// Replaces the file by its archive, whole or not at all; blocks on the disk.
[[nodiscard]] Result<void> archive(const std::string& dir, const std::string& rotated);

// Reads an archive from any offset of what it holds; cheap when the next offset is where the last
// read ended.
class ArchiveReader {
 public:
  ArchiveReader();
  ~ArchiveReader();
  ArchiveReader(ArchiveReader&&) noexcept;
  ArchiveReader& operator=(ArchiveReader&&) noexcept;

  // False when it cannot be read.
  bool open(Fd file);
  std::string read(uint64_t offset, size_t limit);

 private:
  struct Stream;
  std::unique_ptr<Stream> stream_;
};

}  // namespace cctl::shim
