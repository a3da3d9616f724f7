// What an installed release consists of, and which lists of files are fit to be one.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "protocol/messages.h"

namespace cctl::shim {

struct ReleaseManifest {
  std::string service;
  std::string version;
  std::string digest;
  std::vector<protocol::ReleaseFile> files;  // sorted by path

  const protocol::ReleaseFile* find(std::string_view path) const;
  // The file that a path inside the release ends at, links followed; null when it is none.
  const protocol::ReleaseFile* resolve(std::string_view path) const;
};

// Relative, without "", ".", ".." and control characters, at most 1,000 bytes and 64 deep.
[[nodiscard]] Result<void> checkRelativePath(std::string_view path);

// Sorts the files and refuses (kRefused) whatever could reach outside of the release's directory or
// mean two things: hostile paths, duplicates, a file where a directory is needed, a link out.
[[nodiscard]] Result<ReleaseManifest> manifestOf(const protocol::PushRequest& request);

Json encodeManifest(const ReleaseManifest& manifest);
[[nodiscard]] Result<ReleaseManifest> decodeManifest(const Json& json);

}  // namespace cctl::shim
