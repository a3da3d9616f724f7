#include "shim/cores.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cstring>

#include "model/host_paths.h"
#include "shim/doctor.h"
#include "support.h"

namespace cctl::shim {
namespace {

const WallTime kEnded{Millis(1'700'000'000'000)};

CrashedProcess crashed(int pid = 42) {
  return {{"web", 0}, "1.0.0-rc.1", pid, 6, kEnded - Millis(60'000), kEnded};
}

bool fits(std::string_view pattern, std::string_view name, bool uses_pid = false) {
  return matchesCorePattern(pattern, uses_pid, crashed(), name);
}

std::string coreBytes(uint16_t type = ET_CORE) {
  std::string bytes(64, '\0');
  std::memcpy(bytes.data(), ELFMAG, SELFMAG);
  std::memcpy(&bytes[16], &type, sizeof type);
  return bytes;
}

void put(const std::string& path, const std::string& bytes, WallTime at) {
  REQUIRE(replaceFile(path, bytes, 0600));
  const time_t seconds = std::chrono::system_clock::to_time_t(at);
  const timespec times[2] = {{seconds, 0}, {seconds, 0}};
  REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
}

struct Instance {
  TempDir dir;
  std::string data = paths::dataDir(dir.path(), "web", 0);
  std::string kept = paths::coreDir(dir.path(), "web", 0);
  Instance() {
    REQUIRE(makeDirs(data));
    REQUIRE(makeDirs(kept));
  }
  std::string collect(const std::string& pattern, CrashedProcess process = crashed(),
                      bool uses_pid = false) {
    return collectCore(dir.path(), {pattern, uses_pid}, process);
  }
};

TEST_CASE("core_pattern: what the kernel makes of it for a process") {
  CHECK(fits("core", "core"));
  CHECK_FALSE(fits("core", "core.42"));
  CHECK(fits("core", "core.42", true));
  CHECK_FALSE(fits("core", "core", true));
  CHECK_FALSE(fits("core", "core.43", true));
  CHECK(fits("core.%p", "core.42"));
  CHECK(fits("core.%p", "core.42", true));  // %p is there already
  CHECK_FALSE(fits("core.%p", "core.421"));
  CHECK_FALSE(fits("core.%p", "core.142"));
  CHECK(fits("%e-%p-%t", "server-42-1700000000"));
  CHECK(fits("%e-%p-%t", "a-b-42-1700000000"));
  CHECK_FALSE(fits("%e-%p-%t", "server-43-1700000000"));
  CHECK(fits("core.%s.%u.%g.%h", "core.6.0.0.host1"));
  CHECK_FALSE(fits("core.%s.%u", "core.11.0"));
  CHECK(fits("core.%E.%P.%I.%i", "core.!usr!bin!x.4242.4242.42"));
  CHECK(fits("100%%.%p", "100%.42"));
  CHECK(fits("core.%p%", "core.42"));
  CHECK_FALSE(fits("core", ""));
}

TEST_CASE("core_pattern: a name made to be slow to match is not") {
  const std::string name(255, '.');
  CHECK_FALSE(fits("%e.%t.%h.%u.%g.%d.%c.%i.%I.%P.x", name));
}

TEST_CASE("names of kept cores, also of versions with dots") {
  const CoreName name{"1.0.0-rc.1", 42, kEnded};
  CHECK(coreFileName(name) == "core.1.0.0-rc.1.42.20231114T221320Z");
  const auto back = parseCoreFileName(coreFileName(name));
  REQUIRE(back);
  CHECK(back->version == name.version);
  CHECK(back->pid == 42);
  CHECK(back->at == kEnded);
  for (const char* other : {"core", "core.42", "core.1.0.42", "core.1.0.x.20231114T221320Z",
                            "core.42.20231114T221320Z", "core.1.42.20231114T221320", "x.1.2.3"})
    CHECK_MESSAGE(!parseCoreFileName(other), other);
}

TEST_CASE("a core in the data directory is moved beside the instance") {
  Instance instance;
  put(instance.data + "/core", coreBytes(), kEnded);
  const std::string path = instance.collect("core");
  CHECK(path == instance.kept + "/core.1.0.0-rc.1.42.20231114T221320Z");
  CHECK(exists(path));
  CHECK_FALSE(exists(instance.data + "/core"));
  CHECK(instance.collect("core").empty());
}

TEST_CASE("a core where an absolute pattern says, or below the data directory") {
  Instance instance;
  put(instance.dir / "core.42", coreBytes(), kEnded);
  CHECK(instance.collect(instance.dir / "core.%p").find(instance.kept) == 0);
  REQUIRE(makeDirs(instance.data + "/cores"));
  put(instance.data + "/cores/x.43", coreBytes(), kEnded);
  CHECK(instance.collect("cores/%e", crashed(43), true).find(instance.kept) == 0);
}

TEST_CASE("what is no core of this process stays where it is") {
  Instance instance;
  put(instance.data + "/core", "the core business of this service, in words", kEnded);
  CHECK(instance.collect("core").empty());
  put(instance.data + "/core", coreBytes(ET_EXEC), kEnded);
  CHECK(instance.collect("core").empty());
  put(instance.data + "/core", coreBytes(), kEnded - Millis(100'000));  // of an earlier life
  CHECK(instance.collect("core").empty());
  put(instance.data + "/core", coreBytes(), kEnded + Millis(100'000));
  CHECK(instance.collect("core").empty());
  REQUIRE(::unlink((instance.data + "/core").c_str()) == 0);
  put(instance.dir / "elsewhere", coreBytes(), kEnded);
  REQUIRE(::symlink((instance.dir / "elsewhere").c_str(), (instance.data + "/core").c_str()) == 0);
  CHECK(instance.collect("core").empty());
  CHECK(instance.collect("|/usr/lib/systemd/systemd-coredump %P").empty());
  CHECK(instance.collect("@/run/cores.sock").empty());
  CHECK(instance.collect("").empty());
}

TEST_CASE("the newest cores are kept, and nothing else is removed") {
  Instance instance;
  put(instance.kept + "/notes", "mine", kEnded - Millis(1'000'000));
  for (int i = 0; i < 8; ++i) {
    CrashedProcess process = crashed(100 + i);
    process.ended += Millis(i * 10'000);
    put(instance.data + "/core", coreBytes(), process.ended);
    CHECK_FALSE(instance.collect("core", process).empty());
  }
  const auto names = *listDir(instance.kept);
  CHECK(names.size() == kMaxCores + 1);
  CHECK(names.back() == "notes");
  CHECK(names.front().find(".103.") != std::string::npos);
}

TEST_CASE("a request for a core cannot leave the core directory") {
  Instance instance;
  put(instance.kept + "/core.1", coreBytes(), kEnded);
  CHECK(openCore(instance.dir.path(), {{"web", 0}, "core.1"}));
  for (const char* name : {"", ".", "..", "../data/x", "/etc/passwd", ".hidden"})
    CHECK(openCore(instance.dir.path(), {{"web", 0}, name}).error().code == Code::kBadInput);
  CHECK(openCore(instance.dir.path(), {{"web", 0}, "core.2"}).error().code == Code::kNotFound);
  REQUIRE(::symlink("/etc/passwd", (instance.kept + "/core.3").c_str()) == 0);
  CHECK_FALSE(openCore(instance.dir.path(), {{"web", 0}, "core.3"}));
  REQUIRE(::mkfifo((instance.kept + "/core.4").c_str(), 0600) == 0);
  CHECK_FALSE(openCore(instance.dir.path(), {{"web", 0}, "core.4"}));
}

TEST_CASE("core_pattern is read as the kernel has it") {
  TempDir proc;
  REQUIRE(makeDirs(proc / "sys/kernel"));
  CHECK_FALSE(readCorePattern(proc.path()).writes());
  REQUIRE(replaceFile(proc / "sys/kernel/core_pattern", "|/usr/share/apport/apport %p\n"));
  REQUIRE(replaceFile(proc / "sys/kernel/core_uses_pid", "1\n"));
  const CorePattern pattern = readCorePattern(proc.path());
  CHECK(pattern.text == "|/usr/share/apport/apport %p");
  CHECK(pattern.piped());
  CHECK(pattern.uses_pid);
}

TEST_CASE("ip_local_port_range") {
  CHECK(parseLocalPortRange("32768\t60999") == std::pair(32768, 60999));
  for (const char* text : {"", "32768", "x\ty", "60999\t32768", "0\t1", "1\t70000", "\t"})
    CHECK_MESSAGE(parseLocalPortRange(text) == std::pair(0, 0), text);
}

}  // namespace
}  // namespace cctl::shim
