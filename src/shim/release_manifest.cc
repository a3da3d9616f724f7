#include "shim/release_manifest.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/digest.h"
#include "model/names.h"

namespace cctl::shim {
namespace {

using protocol::ReleaseFile;

constexpr size_t kMaxPath = 1000;
constexpr size_t kMaxDepth = 64;
constexpr size_t kMaxFiles = 100'000;
constexpr uint64_t kMaxSize = uint64_t{1} << 50;
constexpr int kMaxHops = 40;  // as the kernel's limit on links in a path

std::vector<std::string> parts(std::string_view path) {
  std::vector<std::string> found;
  for (;;) {
    const size_t slash = path.find('/');
    found.emplace_back(path.substr(0, slash));
    if (slash == std::string_view::npos) return found;
    path.remove_prefix(slash + 1);
  }
}

std::string joined(const std::vector<std::string>& names) {
  std::string path;
  for (const std::string& name : names) path += (path.empty() ? "" : "/") + name;
  return path;
}

bool hasControl(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

// Where a path leads, as the kernel would walk it from the release's directory; nullopt when it
// leaves that directory or goes round in circles.
std::optional<std::string> walk(const ReleaseManifest& manifest, std::string_view path) {
  std::vector<std::string> todo = parts(path);
  std::reverse(todo.begin(), todo.end());
  std::vector<std::string> here;
  int hops = 0;
  while (!todo.empty()) {
    const std::string name = std::move(todo.back());
    todo.pop_back();
    if (name.empty() || name == ".") continue;
    if (name == "..") {
      if (here.empty()) return std::nullopt;
      here.pop_back();
      continue;
    }
    here.push_back(name);
    const ReleaseFile* file = manifest.find(joined(here));
    if (!file || file->link.empty()) continue;
    if (++hops > kMaxHops || todo.size() > kMaxPath) return std::nullopt;
    here.pop_back();
    const std::vector<std::string> target = parts(file->link);
    todo.insert(todo.end(), target.rbegin(), target.rend());
  }
  return joined(here);
}

Result<void> checkFile(const ReleaseFile& file) {
  CCTL_CHECK(checkRelativePath(file.path));
  if (file.size > kMaxSize) return fail(Code::kRefused, "{}: {} bytes", file.path, file.size);
  if (file.link.empty()) {
    if (!isSha256Hex(file.sha256))
      return fail(Code::kRefused, "{}: \"{}\" is not a SHA-256", file.path, file.sha256);
    return {};
  }
  if (file.link.front() == '/' || file.link.size() > kMaxPath || hasControl(file.link))
    return fail(Code::kRefused, "{}: a link to \"{}\", outside of the release", file.path,
                file.link);
  return {};
}

// In sorted order, "a/b" may follow "a" with others such as "a-b" between; so each parent is looked
// up.
Result<void> checkParents(const ReleaseManifest& manifest, const ReleaseFile& file) {
  for (size_t at = file.path.find('/'); at != std::string::npos; at = file.path.find('/', at + 1))
    if (manifest.find(std::string_view(file.path).substr(0, at)))
      return fail(Code::kRefused, "{}: {} is a file, not a directory", file.path,
                  file.path.substr(0, at));
  return {};
}

Result<void> checkLink(const ReleaseManifest& manifest, const ReleaseFile& file) {
  if (file.link.empty() || walk(manifest, file.path)) return {};
  return fail(Code::kRefused, "{}: its link to \"{}\" leads out of the release", file.path,
              file.link);
}

Result<void> checkWhole(const ReleaseManifest& manifest) {
  const auto same = [](const ReleaseFile& a, const ReleaseFile& b) { return a.path == b.path; };
  const auto twice = std::adjacent_find(manifest.files.begin(), manifest.files.end(), same);
  if (twice != manifest.files.end()) return fail(Code::kRefused, "{}: stands twice", twice->path);
  for (const ReleaseFile& file : manifest.files) {
    CCTL_CHECK(checkParents(manifest, file));
    CCTL_CHECK(checkLink(manifest, file));
  }
  return {};
}

}  // namespace

const ReleaseFile* ReleaseManifest::find(std::string_view path) const {
  const auto found = std::lower_bound(
      files.begin(), files.end(), path,
      [](const ReleaseFile& file, std::string_view key) { return file.path < key; });
  return found != files.end() && found->path == path ? &*found : nullptr;
}

const ReleaseFile* ReleaseManifest::resolve(std::string_view path) const {
  const auto end = walk(*this, path);
  return end ? find(*end) : nullptr;
}

Result<void> checkRelativePath(std::string_view path) {
  if (path.empty() || path.size() > kMaxPath || path.front() == '/' || hasControl(path))
    return fail(Code::kRefused, "\"{}\": not a relative path of at most {} plain bytes",
                path.substr(0, 200), kMaxPath);
  const auto names = parts(path);
  if (names.size() > kMaxDepth) return fail(Code::kRefused, "\"{}\": too deep", path);
  for (const std::string& name : names)
    if (name.empty() || name == "." || name == ".." || name.size() > 255)
      return fail(Code::kRefused, "\"{}\": \"{}\" cannot be part of a path here", path, name);
  return {};
}

Result<ReleaseManifest> manifestOf(const protocol::PushRequest& request) {
  CCTL_CHECK(parseServiceName(request.service));
  CCTL_CHECK(parseVersion(request.version));
  if (!isSha256Hex(request.digest))
    return fail(Code::kRefused, "\"{}\" is not the digest of a release", request.digest);
  if (request.files.empty() || request.files.size() > kMaxFiles)
    return fail(Code::kRefused, "a release of {} files; 1 to {} are possible", request.files.size(),
                kMaxFiles);
  ReleaseManifest manifest{request.service, request.version, request.digest, request.files};
  for (const ReleaseFile& file : manifest.files) CCTL_CHECK(checkFile(file));
  std::sort(manifest.files.begin(), manifest.files.end(),
            [](const ReleaseFile& a, const ReleaseFile& b) { return a.path < b.path; });
  CCTL_CHECK(checkWhole(manifest));
  return manifest;
}

Json encodeManifest(const ReleaseManifest& manifest) {
  return protocol::encode(
      protocol::PushRequest{manifest.service, manifest.version, manifest.digest, manifest.files});
}

Result<ReleaseManifest> decodeManifest(const Json& json) {
  CCTL_TRY(const auto request, protocol::decode<protocol::PushRequest>(json));
  return manifestOf(request);
}

}  // namespace cctl::shim
