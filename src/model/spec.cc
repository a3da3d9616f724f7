#include "model/spec.h"

#include <nlohmann/json.hpp>

#include "base/digest.h"
#include "base/json.h"
#include "model/reader.h"

namespace cctl {
namespace {

Result<Manifest> parseManifest(const Json& json) {
  Problems problems;
  Node node;
  if (parseYaml(dumpJson(json), "spec", node, problems))
    if (auto manifest = readManifest(node, problems); manifest && problems.empty())
      return std::move(*manifest);
  return fail(toError(problems.sorted()));
}

}  // namespace

std::string canonicalSpec(const Inventory& inventory, const Manifest& manifest,
                          const Version& version) {
  Json templates = Json::object();
  for (const ConfigFile& file : manifest.config) {
    const auto found = inventory.templates.find(file.template_name);
    if (found != inventory.templates.end()) templates[file.template_name] = found->second.text;
  }
  // nlohmann keeps keys sorted, which makes the text canonical.
  return dumpJson(Json{{"format", 1},
                       {"manifest", Json::parse(manifest.source.canonical(), nullptr, false)},
                       {"templates", std::move(templates)},
                       {"version", version.str()}});
}

std::string specDigest(const Inventory& inventory, const Manifest& manifest,
                       const Version& version) {
  return sha256Hex(canonicalSpec(inventory, manifest, version));
}

Result<Spec> parseSpec(std::string_view text) {
  CCTL_TRY(const Json json, parseJson(text));
  if (!json.is_object() || json.value("format", Json()) != 1)
    return fail(Code::kCorrupt, "spec: not of format 1; a newer clusterctl may have written it");
  const Json manifest = json.value("manifest", Json()), version = json.value("version", Json()),
             templates = json.value("templates", Json());
  if (!manifest.is_object() || !version.is_string() || !templates.is_object())
    return fail(Code::kCorrupt, "spec: manifest, templates or version is missing");
  Spec spec;
  CCTL_TRY(spec.version, parseVersion(version.get<std::string>()));
  CCTL_TRY(spec.manifest, parseManifest(manifest));
  for (const auto& [name, content] : templates.items()) {
    if (!content.is_string()) return fail(Code::kCorrupt, "spec: template {} is not text", name);
    spec.templates[name] = {name, content.get<std::string>(), {"templates/" + name, 0, 0}};
  }
  return spec;
}

}  // namespace cctl
