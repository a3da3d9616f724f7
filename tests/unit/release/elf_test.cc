#include "release/elf.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <random>

#include "base/file.h"
#include "unit/release/elf_builder.h"

using namespace cctl;
using namespace cctl::release;
using cctl::test::dynamicProgram;
using cctl::test::ElfRecipe;
using cctl::test::makeElf;

namespace {

Result<std::optional<ElfFile>> parse(std::string_view bytes) {
  return parseElf(MemorySource(bytes));
}

ElfFile parsed(const ElfRecipe& recipe) {
  auto file = parse(makeElf(recipe));
  REQUIRE_MESSAGE(file.has_value(), (file ? "" : file.error().message));
  REQUIRE(file->has_value());
  return **file;
}

std::optional<ElfFile> parsedFile(const std::string& path) {
  auto fd = openFile(path, O_RDONLY);
  if (!fd) return std::nullopt;
  struct stat info {};
  REQUIRE(::fstat(fd->get(), &info) == 0);
  auto file = parseElf(FdSource(fd->get(), static_cast<uint64_t>(info.st_size)));
  REQUIRE(file.has_value());
  return *file;
}

}  // namespace

TEST_CASE("a dynamic program's interpreter, libraries and highest glibc are found") {
  const ElfFile file = parsed(dynamicProgram());
  CHECK(file.machine == "x86_64");
  CHECK(file.interpreter == "/lib64/ld-linux-x86-64.so.2");
  CHECK(file.needed == std::vector<std::string>{"libfoo.so.1", "libc.so.6"});
  CHECK(file.glibc == "2.34");
  CHECK(file.runnable);
  CHECK_FALSE(file.isStatic());
  CHECK_FALSE(file.forMusl());
}

TEST_CASE("both classes and both byte orders are read, and named as uname -m does") {
  struct Row {
    int bits;
    bool big_endian;
    uint16_t machine;
    const char* name;
  };
  for (const Row& row :
       {Row{64, false, 62, "x86_64"}, Row{32, false, 3, "i686"}, Row{64, false, 183, "aarch64"},
        Row{32, false, 40, "armv7l"}, Row{64, true, 22, "s390x"}, Row{64, false, 21, "ppc64le"},
        Row{64, true, 21, "ppc64"}, Row{32, true, 20, "ppc"}, Row{64, false, 243, "riscv64"},
        Row{64, false, 258, "loongarch64"}, Row{32, true, 8, "mips"},
        Row{64, true, 9999, "elf-machine-9999"}}) {
    CAPTURE(row.name);
    ElfRecipe recipe = dynamicProgram();
    recipe.bits = row.bits;
    recipe.big_endian = row.big_endian;
    recipe.machine = row.machine;
    const ElfFile file = parsed(recipe);
    CHECK(file.machine == row.name);
    CHECK(file.needed.size() == 2);
    CHECK(file.glibc == "2.34");
    CHECK(file.interpreter == recipe.interpreter);
  }
}

TEST_CASE("packed relocations count as the glibc that knows them") {
  ElfRecipe recipe = dynamicProgram();
  recipe.versions.push_back("GLIBC_ABI_DT_RELR");
  CHECK(parsed(recipe).glibc == "2.36");
}

TEST_CASE("static programs, static-pie, libraries and musl are told apart") {
  CHECK(parsed({}).isStatic());
  ElfRecipe executable;
  executable.type = 2;
  CHECK(parsed(executable).isStatic());
  CHECK_FALSE(parsed(executable).position_independent);
  ElfRecipe object;
  object.type = 1;
  CHECK_FALSE(parsed(object).runnable);
  ElfRecipe library;
  library.needed = {"libc.so.6"};
  library.soname = "libmine.so.3";
  CHECK_FALSE(parsed(library).isStatic());
  CHECK(parsed(library).soname == "libmine.so.3");
  ElfRecipe musl;
  musl.interpreter = "/lib/ld-musl-x86_64.so.1";
  musl.needed = {"libc.musl-x86_64.so.1"};
  CHECK(parsed(musl).forMusl());
}

TEST_CASE("RUNPATH is preferred to RPATH, as ld.so does") {
  ElfRecipe recipe;
  recipe.rpath = "/old";
  CHECK(parsed(recipe).run_path == "/old");
  recipe.run_path = "$ORIGIN/../lib";
  CHECK(parsed(recipe).run_path == "$ORIGIN/../lib");
}

TEST_CASE("what is no ELF file is none, whatever its length") {
  for (const std::string_view bytes : {"", "\x7f",
                                       "\x7f"
                                       "EL",
                                       "#!/bin/sh\n", "PK\3\4"}) {
    const auto file = parse(bytes);
    REQUIRE(file.has_value());
    CHECK_FALSE(file->has_value());
  }
}

TEST_CASE("an ELF file cut short anywhere is an error, never a crash") {
  const std::string whole = makeElf(dynamicProgram());
  for (size_t length = 4; length < whole.size(); ++length) {
    const auto file = parse(std::string_view(whole).substr(0, length));
    CAPTURE(length);
    REQUIRE_FALSE(file.has_value());
    CHECK(file.error().code == Code::kCorrupt);
  }
}

TEST_CASE("control characters in names are refused") {
  ElfRecipe recipe = dynamicProgram();
  recipe.needed = {"lib\x1b[31m.so"};
  CHECK(parse(makeElf(recipe)).error().code == Code::kCorrupt);
  recipe = dynamicProgram();
  recipe.interpreter = "/lib/ld\n.so";
  CHECK(parse(makeElf(recipe)).error().code == Code::kCorrupt);
}

TEST_CASE("version chains that run in a ring end in an error") {
  ElfRecipe recipe = dynamicProgram();
  recipe.versions.assign(1, "GLIBC_2.2.5");
  std::string bytes = makeElf(recipe);
  // vn_cnt = 0xffff and a step of 2^32 - 16 back are both out of bounds or cut off by the budget.
  const std::string record("\1\0\1\0\1\0\0\0\20\0\0\0\0\0\0\0", 16);
  const size_t at = bytes.find(record);
  REQUIRE(at != std::string::npos);
  bytes[at + 2] = '\xff';
  bytes[at + 3] = '\xff';
  bytes[at + 16 + 12] = '\1';  // each record overlaps the one before
  CHECK_FALSE(parse(bytes).has_value());
}

TEST_CASE("programs of this machine are read right") {
  const auto ls = parsedFile("/bin/ls");
  if (ls) {
    CHECK(ls->runnable);
    CHECK(std::find(ls->needed.begin(), ls->needed.end(), "libc.so.6") != ls->needed.end());
    CHECK(ls->glibc.starts_with("2."));
    CHECK_FALSE(ls->interpreter.empty());
  }
  const auto self = parsedFile("/proc/self/exe");
  REQUIRE(self.has_value());
  CHECK_FALSE(self->needed.empty());
  CHECK_FALSE(self->isStatic());
  const auto ldconfig = parsedFile("/sbin/ldconfig");  // static on glibc systems
  if (ldconfig) CHECK(ldconfig->isStatic());
}

TEST_CASE("no mutation of an ELF file crashes the parser or makes it slow") {
  std::mt19937 random(20261123);
  const auto below = [&](size_t limit) {
    return std::uniform_int_distribution<size_t>(0, limit - 1)(random);
  };
  const auto mutate = [&](std::string bytes) {
    for (size_t count = below(8) + 1; count > 0; --count) {
      // A few values find more edges than any byte would.
      constexpr char kEdges[] = {'\0', '\1', '\x7f', '\x80', '\xff'};
      bytes[below(bytes.size())] =
          below(2) == 0 ? kEdges[below(sizeof kEdges)] : static_cast<char>(below(256));
    }
    if (below(10) == 0) bytes.resize(below(bytes.size()));
    return bytes;
  };
  size_t accepted = 0;
  for (int round = 0; round < 20'000; ++round) {
    ElfRecipe recipe = dynamicProgram();
    recipe.bits = below(2) == 0 ? 32 : 64;
    recipe.big_endian = below(2) == 0;
    const auto file = parse(mutate(makeElf(recipe)));
    if (file.has_value()) ++accepted;
  }
  CHECK(accepted > 0);
  const auto ls = readFile("/bin/ls");
  if (!ls) return;
  for (int round = 0; round < 500; ++round) {
    std::string bytes = *ls;
    // The headers and the dynamic tables are at the front.
    const std::string front = mutate(bytes.substr(0, 4096));
    bytes.replace(0, front.size(), front);
    (void)parse(bytes);
  }
}
