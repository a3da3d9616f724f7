#include "ops/difference.h"

#include <algorithm>
#include <set>
#include <utility>

#include "model/secrets.h"
#include "model/text_diff.h"

namespace cctl::ops {
namespace {

using protocol::GenerationSpec;

// Says the version itself; what changes with every version would only repeat it.
constexpr std::string_view kVersionVariable = "CLUSTERCTL_VERSION";

const protocol::ConfigFile* fileIn(const GenerationSpec& spec, const std::string& path) {
  for (const protocol::ConfigFile& file : spec.config)
    if (file.path == path) return &file;
  return nullptr;
}

std::string contentOf(const protocol::ConfigFile* file) {
  return file == nullptr ? std::string() : file->content;
}

void addConfig(const GenerationSpec& running, const GenerationSpec& fresh, Difference& found) {
  std::set<std::string> paths;
  for (const auto* spec : {&running, &fresh})
    for (const protocol::ConfigFile& file : spec->config) paths.insert(file.path);
  for (const std::string& path : paths) {
    const protocol::ConfigFile* before = fileIn(running, path);
    const protocol::ConfigFile* after = fileIn(fresh, path);
    if (before && after && *before == *after) continue;
    const bool only_mode = before && after && before->content == after->content;
    found.reasons.push_back(
        only_mode ? fmt::format("config {} mode {} → {}", path, before->mode, after->mode)
                  : fmt::format("config {}{}", path,
                                !before  ? " is new"
                                : !after ? " goes"
                                         : ""));
    if (only_mode) continue;
    HiddenTexts texts =
        hideSecrets(contentOf(before), running.secrets, contentOf(after), fresh.secrets);
    found.files.push_back({path, std::move(texts.before), std::move(texts.after), !before});
  }
}

void addEnvironment(const GenerationSpec& running, const GenerationSpec& fresh, Difference& found) {
  std::set<std::string> names;
  for (const auto* spec : {&running, &fresh})
    for (const auto& [name, value] : spec->env) names.insert(name);
  for (const std::string& name : names) {
    const auto before = running.env.find(name), after = fresh.env.find(name);
    const bool same =
        before != running.env.end() && after != fresh.env.end() && before->second == after->second;
    if (!same && name != kVersionVariable) found.reasons.push_back("environment " + name);
  }
}

void addPorts(const GenerationSpec& running, const GenerationSpec& fresh, Difference& found) {
  for (const auto& [name, number] : fresh.ports) {
    const auto before = running.ports.find(name);
    if (before == running.ports.end())
      found.reasons.push_back(fmt::format("port {} is new", name));
    else if (before->second != number)
      found.reasons.push_back(fmt::format("port {} {} → {}", name, before->second, number));
  }
  for (const auto& [name, number] : running.ports)
    if (fresh.ports.count(name) == 0) found.reasons.push_back(fmt::format("port {} goes", name));
  if (running.sockets != fresh.sockets) found.reasons.emplace_back("passed sockets");
}

bool sameLimits(const GenerationSpec& a, const GenerationSpec& b) {
  return a.limit_nofile == b.limit_nofile && a.limit_nproc == b.limit_nproc &&
         a.limit_core == b.limit_core && a.limit_memlock == b.limit_memlock &&
         a.limit_stack == b.limit_stack && a.limit_memory == b.limit_memory &&
         a.limit_cpu == b.limit_cpu;
}

// The rest of the manifest, a word for each part.
void addSettings(const GenerationSpec& running, const GenerationSpec& fresh, Difference& found) {
  const auto say = [&](bool same, const char* word) {
    if (!same) found.reasons.emplace_back(word);
  };
  say(running.argv == fresh.argv, "arguments");
  say(running.user == fresh.user, "user");
  say(running.ready == fresh.ready && running.live == fresh.live &&
          running.start_timeout == fresh.start_timeout,
      "health checks");
  say(sameLimits(running, fresh), "limits");
  say(running.umask == fresh.umask, "umask");
  say(running.restart == fresh.restart, "restart policy");
  say(running.stop_signal == fresh.stop_signal && running.stop_grace == fresh.stop_grace,
      "how it is stopped");
  say(running.log_max_size == fresh.log_max_size && running.log_keep == fresh.log_keep,
      "log limits");
}

// What the parts above do not name, because it was added later.
bool sameForService(GenerationSpec a, const GenerationSpec& b) {
  a.generation = b.generation;
  a.spec_digest = b.spec_digest;
  a.secrets = b.secrets;
  return a == b;
}

std::string runText(const GenerationSpec& spec) {
  std::string text;
  for (const std::string& word : spec.argv) text += word + "\n";
  for (const auto& [name, value] : spec.env) text += fmt::format("{}={}\n", name, value);
  return text;
}

}  // namespace

GenerationSpec withoutSecrets(GenerationSpec spec) {
  const std::vector<std::string> secrets = std::exchange(spec.secrets, {});
  const auto hide = [&](std::string& text) { text = hideSecrets(text, secrets); };
  for (std::string& word : spec.argv) hide(word);
  for (auto& [name, value] : spec.env) hide(value);
  for (protocol::ConfigFile& file : spec.config) hide(file.content);
  for (std::string& word : spec.ready.argv) hide(word);
  if (spec.live)
    for (std::string& word : spec.live->probe.argv) hide(word);
  return spec;
}

std::vector<FileDifference> newFilesOf(const GenerationSpec& fresh) {
  GenerationSpec nothing;
  nothing.secrets = fresh.secrets;  // what is hidden is not told to be new
  Difference found;
  addConfig(nothing, fresh, found);
  return std::move(found.files);
}

std::string diffOf(const GenerationSpec& running, const GenerationSpec& fresh) {
  const HiddenTexts run =
      hideSecrets(runText(running), running.secrets, runText(fresh), fresh.secrets);
  std::string text = unifiedDiff("old/run", "new/run", run.before, run.after);
  Difference files;
  addConfig(running, fresh, files);
  for (const FileDifference& file : files.files)
    text += unifiedDiff("old/" + file.path, "new/" + file.path, file.before, file.after);
  return text;
}

Difference differenceOf(const GenerationSpec& running, const GenerationSpec& fresh) {
  Difference found;
  if (running.version != fresh.version)
    found.reasons.push_back(fmt::format("version {} → {}", running.version, fresh.version));
  else if (running.release_digest != fresh.release_digest)
    found.reasons.emplace_back("other content under the same version");
  addConfig(running, fresh, found);
  addEnvironment(running, fresh, found);
  addPorts(running, fresh, found);
  addSettings(running, fresh, found);
  if (found.reasons.empty() && !sameForService(running, fresh))
    found.reasons.emplace_back("settings");
  return found;
}

}  // namespace cctl::ops
