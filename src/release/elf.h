// What an ELF file asks of the machine it is to run on: elf(5), the System V gABI, and the GNU
// symbol versions of the LSB (chapter "Symbol Versioning").
//
// Reads the program headers and the dynamic section, as the kernel and ld.so do, never the section
// headers, which a stripped file may lack. Any bytes may come in: every offset and count is checked
// and bounded, so hostile input costs little and ends in Code::kCorrupt.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace cctl::release {

// Bytes that can be read at any offset.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual uint64_t size() const = 0;
  // Fills `out` from `offset`, or Code::kCorrupt when the source ends before.
  [[nodiscard]] virtual Result<void> read(uint64_t offset, std::span<char> out) const = 0;
};

// Does not own the bytes.
class MemorySource final : public ByteSource {
 public:
  explicit MemorySource(std::string_view bytes) : bytes_(bytes) {}
  uint64_t size() const override { return bytes_.size(); }
  [[nodiscard]] Result<void> read(uint64_t offset, std::span<char> out) const override;

 private:
  std::string_view bytes_;
};

// By pread(2): the descriptor's offset is not touched. Does not own the descriptor.
class FdSource final : public ByteSource {
 public:
  FdSource(int fd, uint64_t size) : fd_(fd), size_(size) {}
  uint64_t size() const override { return size_; }
  [[nodiscard]] Result<void> read(uint64_t offset, std::span<char> out) const override;

 private:
  int fd_;
  uint64_t size_;
};

struct ElfFile {
  std::string machine;  // as `uname -m` says it
  int bits = 64;        // 32 or 64
  bool big_endian = false;
  bool runnable = false;  // a program or a shared object, not .o or core
  bool position_independent = false;
  std::string interpreter;          // PT_INTERP; empty: static, or a library
  std::string soname;               // DT_SONAME
  std::vector<std::string> needed;  // DT_NEEDED, in order
  std::string run_path;             // DT_RUNPATH, else DT_RPATH
  std::string glibc;                // the highest GLIBC_x.y asked for, "2.34"; empty: none

  bool isStatic() const { return runnable && interpreter.empty() && needed.empty(); }
  bool forMusl() const;
};

// Nothing when the bytes do not begin as an ELF file does.
[[nodiscard]] Result<std::optional<ElfFile>> parseElf(const ByteSource& source);

// "x86_64" for (62, 64 bits, little-endian); "elf-machine-N" for what has no name here.
std::string machineName(uint16_t elf_machine, int bits, bool big_endian);

}  // namespace cctl::release
