// What a release is and what it needs, as values; reading them from disk is src/release's work.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "model/names.h"

namespace cctl {

// One file or symbolic link of a release. Directories are implied by the paths.
struct FileEntry {
  std::string path;         // relative to the release's directory, '/' between parts, no ".."
  uint32_t mode = 0644;     // permission bits only; unused for a link
  uint64_t size = 0;        // bytes; 0 for a link
  std::string sha256;       // 64 hex digits; empty for a link
  std::string link_target;  // empty for a regular file

  bool isLink() const { return !link_target.empty(); }
  bool isExecutable() const { return !isLink() && (mode & 0111) != 0; }
  friend bool operator==(const FileEntry&, const FileEntry&) = default;
};

// What one ELF file of the release asks of the host (elf(5)).
struct ElfNeeds {
  std::string path;                 // of the file inside the release
  std::string machine;              // as `uname -m` says it: "x86_64", "aarch64", …
  std::string interpreter;          // PT_INTERP; empty: static, or a library
  std::vector<std::string> needed;  // DT_NEEDED, in order
  std::string glibc;                // highest GLIBC_x.y it needs, "2.34"; empty: none
  std::string run_path{};           // DT_RUNPATH, else DT_RPATH

  bool isStatic() const { return interpreter.empty() && needed.empty(); }
  friend bool operator==(const ElfNeeds&, const ElfNeeds&) = default;
};

// An executable file that begins with "#!" (execve(2)).
struct ScriptNeeds {
  std::string path;         // of the file inside the release
  std::string interpreter;  // "/bin/sh", "/usr/bin/env"
  std::string argument;     // the rest of the line: "python3"

  friend bool operator==(const ScriptNeeds&, const ScriptNeeds&) = default;
};

struct ReleaseInfo {
  ServiceName service;
  Version version;
  std::string digest;                  // of the whole: see the release layer
  std::vector<FileEntry> files;        // sorted by path
  std::vector<ElfNeeds> elf;           // of every ELF file, sorted by path
  std::vector<ScriptNeeds> scripts{};  // of every script, sorted by path
  WallTime added{};                    // when it came into the store

  bool isStatic() const;                       // no ELF file needs a library or an interpreter
  std::set<std::string> ownLibraries() const;  // file names directly in lib/
};

// What a host offers, as probed.
struct HostFacts {
  std::string machine;                             // uname -m
  std::optional<std::string> glibc;                // "2.36"; nullopt: another libc, or unknown
  std::optional<std::set<std::string>> libraries;  // sonames the loader finds; nullopt: not probed
  std::optional<std::set<std::string>> interpreters;  // of those asked for, the ones that exist
};

// Why the release cannot run on such a host, one line per reason, naming file, need and what the
// host has; empty when it fits. What was not probed is not held against the host.
std::vector<std::string> checkFit(const ReleaseInfo& release, const HostFacts& host);

// Compares dotted numbers: "2.4" < "2.34". Text that is not numeric compares as 0.
int compareDotted(std::string_view a, std::string_view b);

}  // namespace cctl
