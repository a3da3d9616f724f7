// What one file of a release needs of a host: looked at once, when the release is added.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/release_info.h"
#include "release/elf.h"

namespace cctl::release {

struct Inspection {
  std::optional<ElfNeeds> elf;
  std::optional<ScriptNeeds> script;
  std::vector<std::string> warnings;  // for people; each names the file
};

// `path` is the file's name in the release. A damaged ELF file is an error (kBadInput) when it is
// executable, since no host could run it, and a warning otherwise.
[[nodiscard]] Result<Inspection> inspectFile(const std::string& path, bool executable,
                                             const ByteSource& source);

// The first line of a script, `line` beginning with "#!": interpreter and argument as execve(2)
// splits them. What would keep it from starting is added to `warnings`.
ScriptNeeds parseScriptLine(const std::string& path, std::string_view line,
                            std::vector<std::string>& warnings);

}  // namespace cctl::release
