#include "model/release_info.h"

#include <algorithm>
#include <charconv>

namespace cctl {
namespace {

// Takes the number before the next dot off the front.
int takeNumber(std::string_view& text) {
  const size_t dot = std::min(text.find('.'), text.size());
  int number = 0;
  std::from_chars(text.data(), text.data() + dot, number);
  text.remove_prefix(std::min(dot + 1, text.size()));
  return number;
}

// The families within which a kernel runs all members' programs.
std::string_view machineFamily(std::string_view machine) {
  if (machine.size() == 4 && machine[0] == 'i' && machine.substr(2) == "86") return "i386";
  if (machine.substr(0, 3) == "arm") return "arm";
  return machine;
}

// A 64-bit kernel of the same maker runs 32-bit programs, given their interpreter.
bool runsOn(std::string_view program, std::string_view host) {
  const std::string_view wants = machineFamily(program), has = machineFamily(host);
  return wants == has || (wants == "i386" && has == "x86_64") ||
         (wants == "arm" && has == "aarch64");
}

bool isLibraryOfLibc(std::string_view name) {
  for (const std::string_view prefix : {"libc.so", "ld-linux", "linux-vdso", "libc.musl"})
    if (name.substr(0, prefix.size()) == prefix) return true;
  return false;
}

void checkLibc(const ElfNeeds& elf, const HostFacts& host, std::vector<std::string>& reasons) {
  if (elf.interpreter.empty() && elf.glibc.empty()) return;
  if (!elf.interpreter.empty() && host.interpreters &&
      host.interpreters->count(elf.interpreter) == 0)
    reasons.push_back(fmt::format("{} needs the loader {}, which the host does not have", elf.path,
                                  elf.interpreter));
  if (!elf.glibc.empty() && host.glibc && compareDotted(elf.glibc, *host.glibc) > 0)
    reasons.push_back(
        fmt::format("{} needs glibc {}, the host has {}", elf.path, elf.glibc, *host.glibc));
}

void checkLibraries(const ElfNeeds& elf, const std::set<std::string>& own, const HostFacts& host,
                    std::vector<std::string>& reasons) {
  if (!host.libraries) return;
  for (const std::string& name : elf.needed) {
    if (isLibraryOfLibc(name) || own.count(name) != 0 || host.libraries->count(name) != 0) continue;
    reasons.push_back(fmt::format("{} needs {}, which neither the release's lib/ nor the host has",
                                  elf.path, name));
  }
}

// What people start: in bin/, or at the top.
bool isEntryPoint(std::string_view path) {
  if (path.starts_with("bin/")) path.remove_prefix(4);
  return path.find('/') == std::string_view::npos;
}

}  // namespace

int compareDotted(std::string_view a, std::string_view b) {
  while (!a.empty() || !b.empty()) {
    const int x = takeNumber(a), y = takeNumber(b);
    if (x != y) return x < y ? -1 : 1;
  }
  return 0;
}

bool ReleaseInfo::isStatic() const {
  return std::all_of(elf.begin(), elf.end(), [](const ElfNeeds& e) { return e.isStatic(); });
}

std::set<std::string> ReleaseInfo::ownLibraries() const {
  std::set<std::string> names;
  for (const FileEntry& file : files) {
    if (file.path.compare(0, 4, "lib/") != 0) continue;
    std::string name = file.path.substr(4);
    if (name.find('/') == std::string::npos) names.insert(std::move(name));
  }
  return names;
}

std::vector<std::string> checkFit(const ReleaseInfo& release, const HostFacts& host) {
  std::vector<std::string> reasons;
  const std::set<std::string> own = release.ownLibraries();
  for (const ElfNeeds& elf : release.elf) {
    if (!host.machine.empty() && !runsOn(elf.machine, host.machine)) {
      reasons.push_back(
          fmt::format("{} is for {}, the host is {}", elf.path, elf.machine, host.machine));
      continue;
    }
    checkLibc(elf, host, reasons);
    checkLibraries(elf, own, host, reasons);
  }
  // A script deep in the tree may never run: many packages carry some for other systems.
  for (const ScriptNeeds& script : release.scripts)
    if (isEntryPoint(script.path) && host.interpreters &&
        host.interpreters->count(script.interpreter) == 0)
      reasons.push_back(fmt::format("{} needs {}, which the host does not have", script.path,
                                    script.interpreter));
  return reasons;
}

}  // namespace cctl
