#include "release/release_json.h"

#include <nlohmann/json.hpp>

#include "base/json.h"
#include "model/release_tree.h"

namespace cctl::release {
namespace {

Json toJson(const FileEntry& file) {
  if (file.isLink()) return {{"path", file.path}, {"link", file.link_target}};
  return {{"path", file.path},
          {"mode", fmt::format("{:04o}", file.mode)},
          {"size", file.size},
          {"sha256", file.sha256}};
}

Json toJson(const ElfNeeds& elf) {
  return {{"path", elf.path},     {"machine", elf.machine}, {"interpreter", elf.interpreter},
          {"needed", elf.needed}, {"glibc", elf.glibc},     {"run_path", elf.run_path}};
}

Json toJson(const ScriptNeeds& script) {
  return {
      {"path", script.path}, {"interpreter", script.interpreter}, {"argument", script.argument}};
}

template <typename T>
Json listToJson(const std::vector<T>& items) {
  Json list = Json::array();
  for (const T& item : items) list.push_back(toJson(item));
  return list;
}

// at() and get_ref() throw for a missing key or another type; parseReleaseJson() catches that.
std::string textOf(const Json& json, const char* key) {
  return json.at(key).get_ref<const std::string&>();
}

Result<FileEntry> fileOf(const Json& json) {
  FileEntry file;
  file.path = textOf(json, "path");
  if (json.contains("link")) {
    file.link_target = textOf(json, "link");
    if (file.link_target.empty()) return fail(Code::kCorrupt, "{}: an empty link", file.path);
    return file;
  }
  const std::string mode = textOf(json, "mode");
  if (mode != "0444" && mode != "0555")
    return fail(Code::kCorrupt, "{}: mode \"{}\" is neither 0444 nor 0555", file.path, mode);
  file.mode = mode == "0555" ? kReleaseProgramMode : kReleaseFileMode;
  if (!json.at("size").is_number_unsigned())
    return fail(Code::kCorrupt, "{}: size is not a whole number", file.path);
  file.size = json.at("size").get<uint64_t>();
  file.sha256 = textOf(json, "sha256");
  return file;
}

Result<ElfNeeds> elfOf(const Json& json) {
  ElfNeeds elf;
  elf.path = textOf(json, "path");
  elf.machine = textOf(json, "machine");
  elf.interpreter = textOf(json, "interpreter");
  elf.needed = json.at("needed").get<std::vector<std::string>>();
  elf.glibc = textOf(json, "glibc");
  elf.run_path = textOf(json, "run_path");
  return elf;
}

Result<ScriptNeeds> scriptOf(const Json& json) {
  return ScriptNeeds{textOf(json, "path"), textOf(json, "interpreter"), textOf(json, "argument")};
}

template <typename T>
Result<std::vector<T>> listOf(const Json& list, Result<T> (*one)(const Json&)) {
  if (!list.is_array()) return fail(Code::kCorrupt, "a list was expected");
  std::vector<T> items;
  for (const Json& json : list) {
    CCTL_TRY(T item, one(json));
    items.push_back(std::move(item));
  }
  return items;
}

Result<void> checkFormat(const Json& json) {
  const Json& format = json.at("format");
  if (format.is_number_integer() && format.get<int64_t>() > kReleaseFormat)
    return fail(Code::kCorrupt, "format {}, and this clusterctl knows {}: use a newer clusterctl",
                format.get<int64_t>(), kReleaseFormat);
  if (format != kReleaseFormat) return fail(Code::kCorrupt, "not a format this clusterctl knows");
  return {};
}

Result<ReleaseInfo> releaseOf(const Json& json) {
  CCTL_CHECK(checkFormat(json));
  ReleaseInfo release;
  CCTL_TRY(release.service, parseServiceName(textOf(json, "service")));
  CCTL_TRY(release.version, parseVersion(textOf(json, "version")));
  CCTL_TRY(release.added, parseTime(textOf(json, "added")));
  CCTL_TRY(release.files, listOf(json.at("files"), fileOf));
  CCTL_TRY(release.elf, listOf(json.at("elf"), elfOf));
  CCTL_TRY(release.scripts, listOf(json.at("scripts"), scriptOf));
  CCTL_CHECK(checkReleaseTree(release.files));
  release.digest = textOf(json, "digest");
  if (release.digest != releaseDigest(release.files))
    return fail(Code::kCorrupt, "its digest is not that of its list of files");
  return release;
}

}  // namespace

std::string releaseToJson(const ReleaseInfo& release) {
  const Json json = {
      {"format", kReleaseFormat},           {"service", release.service.str()},
      {"version", release.version.str()},   {"digest", release.digest},
      {"added", formatTime(release.added)}, {"files", listToJson(release.files)},
      {"elf", listToJson(release.elf)},     {"scripts", listToJson(release.scripts)}};
  return dumpJsonPretty(json) + "\n";
}

Result<ReleaseInfo> parseReleaseJson(std::string_view text) {
  CCTL_TRY(const Json json, parseJson(text));
  try {
    auto release = releaseOf(json);
    // Whatever rule was broken: this text was written by clusterctl and is not so any more.
    if (!release) return fail(Code::kCorrupt, "{}", release.error().message);
    return release;
  } catch (const Json::exception& error) {
    return fail(Code::kCorrupt, "a field is missing or of another kind ({})", jsonProblem(error));
  }
}

}  // namespace cctl::release
