#include "release/needs.h"

#include <algorithm>

#include "model/release_tree.h"

namespace cctl::release {
namespace {

// More of one kind are counted, not listed.
constexpr size_t kMaxOfAKind = 3;

bool isMusl(const ElfNeeds& elf) {
  return elf.interpreter.find("/ld-musl-") != std::string::npos ||
         std::any_of(elf.needed.begin(), elf.needed.end(),
                     [](const std::string& name) { return name.starts_with("libc.musl-"); });
}

Result<void> checkOneMachine(const std::vector<ElfNeeds>& all) {
  for (const ElfNeeds& elf : all)
    if (elf.machine != all.front().machine)
      return fail(Code::kBadInput,
                  "{} is for {} and {} is for {}: a release is for one kind of machine; make one "
                  "release for each",
                  all.front().path, all.front().machine, elf.path, elf.machine);
  return {};
}

Result<void> checkOneLibc(const std::vector<ElfNeeds>& all) {
  const auto musl = std::find_if(all.begin(), all.end(), isMusl);
  const auto glibc =
      std::find_if(all.begin(), all.end(), [](const ElfNeeds& elf) { return !elf.glibc.empty(); });
  if (musl == all.end() || glibc == all.end()) return {};
  return fail(Code::kBadInput,
              "{} is built for musl libc and {} for glibc: no process can hold both; build them "
              "alike",
              musl->path, glibc->path);
}

void addNeeds(const ElfNeeds& elf, const std::set<std::string>& own, ReleaseNeeds& needs) {
  if (compareDotted(needs.glibc, elf.glibc) < 0) needs.glibc = elf.glibc;
  if (elf.interpreter.starts_with('/')) needs.interpreters.insert(elf.interpreter);
  if (isMusl(elf)) needs.musl = true;
  for (const std::string& name : elf.needed)
    if (!own.contains(name)) needs.libraries.insert(name);
}

// One line for each of the first few, one for the rest.
void addFew(const std::vector<std::string>& lines, std::string_view what,
            std::vector<std::string>& warnings) {
  const size_t shown = lines.size() > kMaxOfAKind + 1 ? kMaxOfAKind : lines.size();
  warnings.insert(warnings.end(), lines.begin(), lines.begin() + static_cast<ptrdiff_t>(shown));
  if (shown < lines.size())
    warnings.push_back(fmt::format("{} more {}", lines.size() - shown, what));
}

std::string dynamicWarning(const ElfNeeds& elf) {
  std::string line = fmt::format("{} is not static", elf.path);
  if (!elf.needed.empty()) line += fmt::format(": needs {}", fmt::join(elf.needed, ", "));
  if (!elf.glibc.empty()) line += fmt::format(" (glibc {} or newer)", elf.glibc);
  return line + " on every host";
}

std::vector<std::string> dynamicWarnings(const ReleaseInfo& release) {
  std::vector<std::string> lines;
  for (const ElfNeeds& elf : release.elf)
    if (!elf.isStatic()) lines.push_back(dynamicWarning(elf));
  return lines;
}

// ld.so looks into lib/ only where RUNPATH or LD_LIBRARY_PATH sends it.
std::vector<std::string> unreachedWarnings(const ReleaseInfo& release) {
  const std::set<std::string> own = release.ownLibraries();
  std::vector<std::string> lines;
  for (const ElfNeeds& elf : release.elf) {
    if (elf.interpreter.empty() || !elf.run_path.empty()) continue;
    const auto mine = std::find_if(elf.needed.begin(), elf.needed.end(),
                                   [&](const std::string& name) { return own.contains(name); });
    if (mine == elf.needed.end()) continue;
    lines.push_back(fmt::format(
        "{} needs lib/{} of the release, and nothing leads it there: link it with "
        "-Wl,-rpath,'$ORIGIN/../lib', or set LD_LIBRARY_PATH: \"{{{{release_dir}}}}/lib\" in the "
        "service's env",
        elf.path, *mine));
  }
  return lines;
}

bool isJar(const FileEntry& file) { return file.path.ends_with(".jar"); }

}  // namespace

Result<ReleaseNeeds> releaseNeeds(const ReleaseInfo& release) {
  CCTL_CHECK(checkOneMachine(release.elf));
  CCTL_CHECK(checkOneLibc(release.elf));
  ReleaseNeeds needs;
  if (!release.elf.empty()) needs.machine = release.elf.front().machine;
  const std::set<std::string> own = release.ownLibraries();
  for (const ElfNeeds& elf : release.elf) addNeeds(elf, own, needs);
  for (const ScriptNeeds& script : release.scripts)
    if (script.interpreter.starts_with('/')) needs.interpreters.insert(script.interpreter);
  return needs;
}

std::vector<std::string> factsToProbe(const ReleaseNeeds& needs) {
  std::vector<std::string> names;
  if (!needs.machine.empty()) names.push_back("machine:" + needs.machine);
  names.insert(names.end(), needs.libraries.begin(), needs.libraries.end());
  names.insert(names.end(), needs.interpreters.begin(), needs.interpreters.end());
  return names;
}

std::vector<std::string> releaseWarnings(const ReleaseInfo& release) {
  std::vector<std::string> warnings;
  addFew(dynamicWarnings(release), "files are not static", warnings);
  addFew(unreachedWarnings(release), "programs do not reach lib/", warnings);
  std::vector<std::string> dangling = danglingLinks(release.files);
  for (std::string& path : dangling) path += " is a symbolic link to something that is not there";
  addFew(dangling, "links lead nowhere", warnings);
  const auto runs = [](const FileEntry& file) { return file.isExecutable() || isJar(file); };
  if (std::none_of(release.files.begin(), release.files.end(), runs))
    warnings.emplace_back(
        "no file of it is executable: if a service is to run one, chmod +x it and choose a new "
        "version");
  return warnings;
}

}  // namespace cctl::release
