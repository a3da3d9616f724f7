#include "shim/identity.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "model/host_paths.h"
#include "shim/sealed_file.h"

namespace cctl::shim {
namespace {

bool plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("/._-+@").find(c) != std::string_view::npos;
}

std::string textOf(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
}

}  // namespace

Result<Identity> loadIdentity(const std::string& root) {
  auto json = readSealed(paths::clusterFile(root), "identity");
  if (!json && json.error().code == Code::kNotFound)
    return fail(Code::kNotFound, "{} was never bootstrapped: run `clusterctl bootstrap`", root);
  if (!json) return fail(json.error());
  Identity identity;
  identity.cluster = textOf(*json, "cluster");
  identity.host = textOf(*json, "host");
  identity.advertise = textOf(*json, "advertise");
  const auto hook = json->find("boot_hook");
  identity.boot_hook = hook != json->end() && hook->is_boolean() && hook->get<bool>();
  return identity;
}

Result<void> saveIdentity(const std::string& root, const Identity& identity) {
  return writeSealed(paths::clusterFile(root), "identity",
                     Json{{"cluster", identity.cluster},
                          {"host", identity.host},
                          {"advertise", identity.advertise},
                          {"boot_hook", identity.boot_hook}},
                     Sync::kYes, 0644);
}

std::set<unsigned> loadOperators(const std::string& root) {
  std::set<unsigned> uids;
  const auto text = readFile(paths::operatorsFile(root), 1u << 20);
  if (!text) return uids;
  const char* at = text->data();
  const char* end = at + text->size();
  while (at < end) {
    unsigned uid = 0;
    const auto [rest, error] = std::from_chars(at, end, uid);
    if (error == std::errc() && (rest == end || *rest == '\n')) uids.insert(uid);
    at = std::find(at, end, '\n') + 1;
  }
  return uids;
}

Result<void> saveOperators(const std::string& root, const std::set<unsigned>& uids) {
  std::string text;
  for (const unsigned uid : uids) text += std::to_string(uid) + "\n";
  return replaceFile(paths::operatorsFile(root), text, 0644);
}

Result<void> checkRoot(const std::string& root) {
  if (root.size() < 2 || root.front() != '/' || root.back() == '/' ||
      root.size() > paths::kMaxRoot || !std::all_of(root.begin(), root.end(), plain) ||
      root.find("//") != std::string::npos || root.find("/..") != std::string::npos)
    return fail(Code::kBadInput,
                "\"{}\" cannot be a root: use an absolute path of at most {} plain characters",
                root, paths::kMaxRoot);
  return {};
}

}  // namespace cctl::shim
