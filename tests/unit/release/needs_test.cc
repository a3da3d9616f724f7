#include "release/needs.h"

#include <doctest/doctest.h>

#include "base/digest.h"
#include "model/release_tree.h"
#include "release/inspect.h"
#include "unit/release/elf_builder.h"

using namespace cctl;
using namespace cctl::release;
using cctl::test::dynamicProgram;
using cctl::test::ElfRecipe;
using cctl::test::makeElf;

namespace {

void addElf(ReleaseInfo& release, const std::string& path, const ElfRecipe& recipe) {
  const std::string bytes = makeElf(recipe);
  const auto found = inspectFile(path, true, MemorySource(bytes));
  REQUIRE(found.has_value());
  REQUIRE(found->elf.has_value());
  release.files.push_back({path, kReleaseProgramMode, bytes.size(), sha256Hex(bytes), ""});
  release.elf.push_back(*found->elf);
}

bool mentions(const std::vector<std::string>& lines, std::string_view text) {
  for (const std::string& line : lines)
    if (line.find(text) != std::string::npos) return true;
  return false;
}

}  // namespace

TEST_CASE("a release needs what its files need and its lib/ does not hold") {
  ReleaseInfo release;
  addElf(release, "bin/x", dynamicProgram());
  ElfRecipe library;
  library.needed = {"libbar.so.2", "libc.so.6"};
  library.versions = {"GLIBC_2.38"};
  addElf(release, "lib/libfoo.so.1", library);
  release.scripts.push_back({"bin/run", "/usr/bin/env", "python3"});
  const auto needs = releaseNeeds(release);
  REQUIRE(needs.has_value());
  CHECK(needs->machine == "x86_64");
  CHECK(needs->glibc == "2.38");
  CHECK(needs->libraries == std::set<std::string>{"libbar.so.2", "libc.so.6"});
  CHECK(needs->interpreters ==
        std::set<std::string>{"/lib64/ld-linux-x86-64.so.2", "/usr/bin/env"});
  CHECK(factsToProbe(*needs) == std::vector<std::string>{"machine:x86_64", "libbar.so.2",
                                                         "libc.so.6", "/lib64/ld-linux-x86-64.so.2",
                                                         "/usr/bin/env"});
}

TEST_CASE("a release for two kinds of machine is refused, naming both") {
  ReleaseInfo release;
  addElf(release, "bin/x", dynamicProgram());
  ElfRecipe other;
  other.machine = 183;
  addElf(release, "bin/y", other);
  const auto needs = releaseNeeds(release);
  REQUIRE_FALSE(needs.has_value());
  CHECK(needs.error().message.find("bin/x is for x86_64 and bin/y is for aarch64") !=
        std::string::npos);
}

TEST_CASE("glibc and musl in one release are refused") {
  ReleaseInfo release;
  addElf(release, "bin/x", dynamicProgram());
  ElfRecipe musl;
  musl.interpreter = "/lib/ld-musl-x86_64.so.1";
  addElf(release, "bin/y", musl);
  CHECK_FALSE(releaseNeeds(release).has_value());
}

TEST_CASE("warnings: not static, libraries nothing leads to, nothing to run") {
  ReleaseInfo release;
  addElf(release, "bin/x", dynamicProgram());
  release.files.push_back({"lib/libfoo.so.1", kReleaseFileMode, 0, sha256Hex(""), ""});
  const auto warnings = releaseWarnings(release);
  CHECK(mentions(warnings, "bin/x is not static: needs libfoo.so.1, libc.so.6 (glibc 2.34"));
  CHECK(mentions(warnings, "LD_LIBRARY_PATH: \"{{release_dir}}/lib\""));

  ReleaseInfo reached;
  ElfRecipe recipe = dynamicProgram();
  recipe.run_path = "$ORIGIN/../lib";
  addElf(reached, "bin/x", recipe);
  reached.files.push_back({"lib/libfoo.so.1", kReleaseFileMode, 0, sha256Hex(""), ""});
  CHECK_FALSE(mentions(releaseWarnings(reached), "LD_LIBRARY_PATH"));

  ReleaseInfo data;
  data.files.push_back({"notes", kReleaseFileMode, 0, sha256Hex(""), ""});
  CHECK(mentions(releaseWarnings(data), "executable"));
  data.files.front().path = "app.jar";
  CHECK(releaseWarnings(data).empty());

  ReleaseInfo still;
  addElf(still, "bin/x", {});
  CHECK(releaseWarnings(still).empty());
}

TEST_CASE("many of a kind are counted, not listed") {
  ReleaseInfo release;
  for (int i = 0; i < 50; ++i) addElf(release, fmt::format("bin/x{:02}", i), dynamicProgram());
  const auto warnings = releaseWarnings(release);
  CHECK(warnings.size() == 4);
  CHECK(mentions(warnings, "47 more"));
}

TEST_CASE("scripts: interpreter and argument as execve splits them") {
  std::vector<std::string> warnings;
  const auto line = [&](std::string_view text) { return parseScriptLine("bin/s", text, warnings); };
  CHECK(line("#!/bin/sh\necho") == ScriptNeeds{"bin/s", "/bin/sh", ""});
  CHECK(line("#! /usr/bin/env  python3 -u \n") ==
        ScriptNeeds{"bin/s", "/usr/bin/env", "python3 -u"});
  CHECK(warnings.empty());
  CHECK(line("#!/bin/sh\r\n").interpreter == "/bin/sh");
  CHECK(mentions(warnings, "carriage"));
  CHECK(line("#!\x1b[31m\n").interpreter == "?[31m");
  CHECK(mentions(warnings, "absolute"));
  (void)line("#!/" + std::string(400, 'x'));
  CHECK(mentions(warnings, "256 bytes"));
}

TEST_CASE("a damaged program is an error, a damaged data file a warning") {
  const std::string bytes = makeElf(dynamicProgram()).substr(0, 200);
  const auto program = inspectFile("bin/x", true, MemorySource(bytes));
  REQUIRE_FALSE(program.has_value());
  CHECK(program.error().code == Code::kBadInput);
  CHECK(program.error().message.find("bin/x") != std::string::npos);
  const auto data = inspectFile("test/x", false, MemorySource(bytes));
  REQUIRE(data.has_value());
  CHECK(data->warnings.size() == 1);
  CHECK_FALSE(data->elf.has_value());
}
