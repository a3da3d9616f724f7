#include "release/elf.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "model/release_info.h"
#include "model/release_tree.h"

namespace cctl::release {
namespace {

// Far above anything real (the largest browsers stay below a tenth), and cheap all the same.
constexpr size_t kMaxSegments = 1024;
constexpr size_t kMaxDynamicBytes = 1u << 20;
constexpr size_t kMaxNeeded = 4096;
constexpr size_t kMaxString = 4096;
constexpr int kMaxVersionRecords = 20'000;

constexpr uint16_t kTypeExecutable = 2;
constexpr uint16_t kTypeShared = 3;
constexpr uint32_t kSegmentLoad = 1;
constexpr uint32_t kSegmentDynamic = 2;
constexpr uint32_t kSegmentInterpreter = 3;

enum DynamicTag : uint64_t {
  kTagNull = 0,
  kTagNeeded = 1,
  kTagStringTable = 5,
  kTagStringSize = 10,
  kTagSoname = 14,
  kTagRpath = 15,
  kTagRunpath = 29,
  kTagVersionNeed = 0x6ffffffe,
  kTagVersionNeedCount = 0x6fffffff,
};

// A block of the file with numbers in the file's own byte order. Offsets are the caller's to keep
// inside the block.
class Block {
 public:
  Block(std::string bytes, bool big_endian) : bytes_(std::move(bytes)), big_(big_endian) {}
  uint16_t u16(size_t at) const { return static_cast<uint16_t>(number(at, 2)); }
  uint32_t u32(size_t at) const { return static_cast<uint32_t>(number(at, 4)); }
  uint64_t u64(size_t at) const { return number(at, 8); }
  // An address-sized number.
  uint64_t word(size_t at, int bits) const { return bits == 64 ? u64(at) : u32(at); }
  size_t size() const { return bytes_.size(); }
  const std::string& bytes() const { return bytes_; }

 private:
  // Inlined, g++ 12 takes the bytes of a short string for uninitialised ones.
  [[gnu::noinline]] uint64_t number(size_t at, size_t count) const {
    uint64_t value = 0;
    for (size_t i = 0; i < count; ++i) {
      const size_t index = big_ ? at + i : at + count - 1 - i;
      value = value << 8 | static_cast<unsigned char>(bytes_.at(index));
    }
    return value;
  }

  std::string bytes_;
  bool big_;
};

struct Segment {
  uint32_t type = 0;
  uint64_t offset = 0;
  uint64_t address = 0;
  uint64_t file_size = 0;
};

struct DynamicEntry {
  uint64_t tag = 0;
  uint64_t value = 0;
};

class Parser {
 public:
  explicit Parser(const ByteSource& source) : source_(source) {}

  Result<ElfFile> parse() {
    CCTL_CHECK(readIdent());
    CCTL_CHECK(readHeader());
    if (!file_.runnable) return file_;
    CCTL_CHECK(readSegments());
    CCTL_CHECK(readInterpreter());
    CCTL_CHECK(readDynamic());
    CCTL_CHECK(readNames());
    CCTL_CHECK(readVersions());
    return file_;
  }

 private:
  Result<Block> block(uint64_t offset, size_t size) const {
    std::string bytes(size, '\0');
    CCTL_CHECK(source_.read(offset, bytes));
    return Block(std::move(bytes), file_.big_endian);
  }

  Result<void> readIdent() {
    CCTL_TRY(const Block ident, block(0, 16));
    const char klass = ident.bytes()[4];
    const char order = ident.bytes()[5];
    if ((klass != 1 && klass != 2) || (order != 1 && order != 2) || ident.bytes()[6] != 1)
      return fail(Code::kCorrupt, "a damaged ELF header");
    file_.bits = klass == 2 ? 64 : 32;
    file_.big_endian = order == 2;
    return {};
  }

  Result<void> readHeader() {
    const bool wide = file_.bits == 64;
    CCTL_TRY(const Block header, block(0, wide ? 64 : 52));
    const uint16_t type = header.u16(16);
    file_.machine = machineName(header.u16(18), file_.bits, file_.big_endian);
    file_.runnable = type == kTypeExecutable || type == kTypeShared;
    file_.position_independent = type == kTypeShared;
    segments_at_ = header.word(wide ? 32 : 28, file_.bits);
    segment_size_ = header.u16(wide ? 54 : 42);
    segment_count_ = header.u16(wide ? 56 : 44);
    return {};
  }

  Result<void> readSegments() {
    const bool wide = file_.bits == 64;
    if (segment_size_ != (wide ? 56 : 32) || segment_count_ == 0 || segment_count_ > kMaxSegments)
      return fail(Code::kCorrupt, "an ELF file without usable program headers");
    CCTL_TRY(const Block table, block(segments_at_, segment_size_ * segment_count_));
    for (size_t at = 0; at < table.size(); at += segment_size_) {
      Segment segment;
      segment.type = table.u32(at);
      segment.offset = table.word(at + (wide ? 8 : 4), file_.bits);
      segment.address = table.word(at + (wide ? 16 : 8), file_.bits);
      segment.file_size = table.word(at + (wide ? 32 : 16), file_.bits);
      CCTL_CHECK(checkInside(segment));
      segments_.push_back(segment);
    }
    return {};
  }

  // A file cut short (a copy that was interrupted) dies of SIGBUS or SIGSEGV when it runs, which
  // tells nobody why; here it can be said.
  Result<void> checkInside(const Segment& segment) const {
    if (segment.type != kSegmentLoad && segment.type != kSegmentDynamic &&
        segment.type != kSegmentInterpreter)
      return {};
    if (segment.file_size <= source_.size() && segment.offset <= source_.size() - segment.file_size)
      return {};
    return fail(Code::kCorrupt, "an ELF file cut short: a segment ends behind its end");
  }

  const Segment* find(uint32_t type) const {
    const auto found = std::find_if(segments_.begin(), segments_.end(),
                                    [&](const Segment& segment) { return segment.type == type; });
    return found == segments_.end() ? nullptr : &*found;
  }

  Result<void> readInterpreter() {
    const Segment* segment = find(kSegmentInterpreter);
    if (segment == nullptr) return {};
    if (segment->file_size < 2 || segment->file_size > kMaxString)
      return fail(Code::kCorrupt, "an ELF file with a damaged interpreter path");
    CCTL_TRY(const Block path, block(segment->offset, static_cast<size_t>(segment->file_size)));
    // Up to the NUL, as the kernel reads it.
    CCTL_TRY(file_.interpreter, clean(path.bytes().c_str()));
    return {};
  }

  Result<void> readDynamic() {
    const Segment* segment = find(kSegmentDynamic);
    if (segment == nullptr) return {};
    const size_t entry_size = file_.bits == 64 ? 16 : 8;
    if (segment->file_size > kMaxDynamicBytes)
      return fail(Code::kCorrupt, "an ELF file with an absurd dynamic section");
    const size_t count = static_cast<size_t>(segment->file_size) / entry_size;
    CCTL_TRY(const Block table, block(segment->offset, count * entry_size));
    for (size_t i = 0; i < count; ++i) {
      const DynamicEntry entry{table.word(i * entry_size, file_.bits),
                               table.word(i * entry_size + entry_size / 2, file_.bits)};
      if (entry.tag == kTagNull) break;
      dynamic_.push_back(entry);
    }
    return {};
  }

  std::optional<uint64_t> dynamicValue(uint64_t tag) const {
    const auto found = std::find_if(dynamic_.begin(), dynamic_.end(),
                                    [&](const DynamicEntry& entry) { return entry.tag == tag; });
    if (found == dynamic_.end()) return std::nullopt;
    return found->value;
  }

  // Where in the file the bytes of a memory address stand.
  Result<uint64_t> fileOffset(uint64_t address) const {
    for (const Segment& segment : segments_) {
      if (segment.type != kSegmentLoad || address < segment.address) continue;
      const uint64_t inside = address - segment.address;
      // No overflow: checkInside() keeps offset + file_size within the file.
      if (inside < segment.file_size) return segment.offset + inside;
    }
    return fail(Code::kCorrupt, "an ELF file whose dynamic section points outside it");
  }

  Result<void> readNames() {
    for (const DynamicEntry& entry : dynamic_) {
      if (entry.tag != kTagNeeded) continue;
      if (file_.needed.size() == kMaxNeeded)
        return fail(Code::kCorrupt, "an ELF file that needs an absurd number of libraries");
      CCTL_TRY(std::string name, string(entry.value));
      file_.needed.push_back(std::move(name));
    }
    CCTL_CHECK(readName(kTagSoname, file_.soname));
    CCTL_CHECK(readName(kTagRpath, file_.run_path));
    return readName(kTagRunpath, file_.run_path);  // ld.so ignores DT_RPATH beside DT_RUNPATH
  }

  Result<void> readName(uint64_t tag, std::string& name) const {
    const auto offset = dynamicValue(tag);
    if (!offset) return {};
    CCTL_TRY(name, string(*offset));
    return {};
  }

  // Names end up in messages and in commands on hosts.
  static Result<std::string> clean(std::string name) {
    if (isPlainText(name)) return name;
    return fail(Code::kCorrupt, "an ELF file with control characters in a name");
  }

  // A string of the dynamic string table.
  Result<std::string> string(uint64_t offset) const {
    const auto table = dynamicValue(kTagStringTable);
    const auto size = dynamicValue(kTagStringSize);
    if (!table || !size || offset >= *size)
      return fail(Code::kCorrupt, "an ELF file with a damaged string table");
    CCTL_TRY(const uint64_t start, fileOffset(*table));
    if (offset >= source_.size() - start)
      return fail(Code::kCorrupt, "an ELF file with a damaged string table");
    const uint64_t left = std::min(*size - offset, source_.size() - start - offset);
    CCTL_TRY(const Block text, block(start + offset, std::min<size_t>(left, kMaxString)));
    const size_t end = text.bytes().find('\0');
    if (end == std::string::npos)
      return fail(Code::kCorrupt, "an ELF file with a damaged string table");
    return clean(text.bytes().substr(0, end));
  }

  // DT_VERNEED: a chain of libraries, each with a chain of the versions needed of it. Both go by
  // relative offsets, which a hostile file can turn into a ring: hence the budget.
  Result<void> readVersions() {
    const auto address = dynamicValue(kTagVersionNeed);
    if (!address) return {};
    CCTL_TRY(uint64_t at, fileOffset(*address));
    const uint64_t count = dynamicValue(kTagVersionNeedCount).value_or(0);
    for (uint64_t i = 0; i < count; ++i) {
      CCTL_CHECK(spend());
      CCTL_TRY(const Block need, block(at, 16));
      CCTL_CHECK(readVersionsOf(at + need.u32(8), need.u16(2)));
      const uint32_t next = need.u32(12);
      if (next == 0) break;
      at += next;
    }
    return {};
  }

  Result<void> readVersionsOf(uint64_t at, uint16_t count) {
    for (uint16_t i = 0; i < count; ++i) {
      CCTL_CHECK(spend());
      CCTL_TRY(const Block record, block(at, 16));
      CCTL_TRY(const std::string name, string(record.u32(8)));
      noteVersion(name);
      const uint32_t next = record.u32(12);
      if (next == 0) break;
      at += next;
    }
    return {};
  }

  Result<void> spend() {
    if (++version_records_ <= kMaxVersionRecords) return {};
    return fail(Code::kCorrupt, "an ELF file with an absurd number of symbol versions");
  }

  void noteVersion(std::string_view name) {
    constexpr std::string_view kPrefix = "GLIBC_";
    if (!name.starts_with(kPrefix)) return;
    name.remove_prefix(kPrefix.size());
    // A file with packed relative relocations; the loader knows them since 2.36.
    if (name == "ABI_DT_RELR") name = "2.36";
    const bool dotted = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
      return c == '.' || (c >= '0' && c <= '9');
    });
    if (dotted && compareDotted(file_.glibc, name) < 0) file_.glibc = name;
  }

  const ByteSource& source_;
  ElfFile file_;
  uint64_t segments_at_ = 0;
  size_t segment_size_ = 0;
  size_t segment_count_ = 0;
  std::vector<Segment> segments_;
  std::vector<DynamicEntry> dynamic_;
  int version_records_ = 0;
};

struct MachineRow {
  uint16_t number;
  const char* little64;
  const char* big64;
  const char* little32;
  const char* big32;
};

// Where uname -m says the same for both byte orders (MIPS), so does this.
constexpr std::array kMachines = {
    MachineRow{2, nullptr, nullptr, nullptr, "sparc"},
    MachineRow{3, nullptr, nullptr, "i686", nullptr},
    MachineRow{4, nullptr, nullptr, nullptr, "m68k"},
    MachineRow{8, "mips64", "mips64", "mips", "mips"},
    MachineRow{15, nullptr, "parisc64", nullptr, "parisc"},
    MachineRow{20, nullptr, nullptr, nullptr, "ppc"},
    MachineRow{21, "ppc64le", "ppc64", nullptr, nullptr},
    MachineRow{22, nullptr, "s390x", nullptr, "s390"},
    MachineRow{40, nullptr, nullptr, "armv7l", "armv7b"},
    MachineRow{43, nullptr, "sparc64", nullptr, nullptr},
    MachineRow{50, "ia64", nullptr, nullptr, nullptr},
    MachineRow{62, "x86_64", nullptr, "x32", nullptr},
    MachineRow{183, "aarch64", "aarch64_be", "aarch64-ilp32", nullptr},
    MachineRow{243, "riscv64", nullptr, "riscv32", nullptr},
    MachineRow{258, "loongarch64", nullptr, "loongarch32", nullptr},
};

const char* nameIn(const MachineRow& row, int bits, bool big_endian) {
  if (bits == 64) return big_endian ? row.big64 : row.little64;
  return big_endian ? row.big32 : row.little32;
}

}  // namespace

Result<void> MemorySource::read(uint64_t offset, std::span<char> out) const {
  if (offset > bytes_.size() || out.size() > bytes_.size() - offset)
    return fail(Code::kCorrupt, "cut short");
  if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
  return {};
}

Result<void> FdSource::read(uint64_t offset, std::span<char> out) const {
  if (offset > size_ || out.size() > size_ - offset) return fail(Code::kCorrupt, "cut short");
  while (!out.empty()) {
    const ssize_t got = ::pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failErrno(errno, "read");
    if (got == 0) return fail(Code::kCorrupt, "cut short");
    out = out.subspan(static_cast<size_t>(got));
    offset += static_cast<uint64_t>(got);
  }
  return {};
}

bool ElfFile::forMusl() const {
  const auto musl = [](const std::string& name) { return name.starts_with("libc.musl-"); };
  return interpreter.find("/ld-musl-") != std::string::npos ||
         std::any_of(needed.begin(), needed.end(), musl);
}

std::string machineName(uint16_t elf_machine, int bits, bool big_endian) {
  for (const MachineRow& row : kMachines) {
    if (row.number != elf_machine) continue;
    if (const char* name = nameIn(row, bits, big_endian)) return name;
  }
  return fmt::format("elf-machine-{}", elf_machine);
}

Result<std::optional<ElfFile>> parseElf(const ByteSource& source) {
  std::array<char, 4> magic{};
  if (source.size() < magic.size()) return std::nullopt;
  CCTL_CHECK(source.read(0, magic));
  if (std::string_view(magic.data(), magic.size()) !=
      "\x7f"
      "ELF")
    return std::nullopt;
  CCTL_TRY(ElfFile file, Parser(source).parse());
  return std::optional(std::move(file));
}

}  // namespace cctl::release
