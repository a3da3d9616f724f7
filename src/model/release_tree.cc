#include "model/release_tree.h"

#include <algorithm>
#include <deque>
#include <unordered_map>
#include <unordered_set>

#include "base/digest.h"
#include "model/host_paths.h"
#include "model/utf8.h"

namespace cctl {
namespace {

// linux/include/linux/namei.h: MAXSYMLINKS.
constexpr int kMaxLinksFollowed = 40;
// Names passed on the way of one link: a list made to be slow stays cheap.
constexpr int kMaxSteps = 1000;

// U+0080 to U+009F: some terminals obey them. `text` is valid UTF-8.
bool hasC1Control(std::string_view text) {
  for (size_t at = text.find('\xc2'); at < text.size(); at = text.find('\xc2', at + 1))
    if (at + 1 < text.size() && static_cast<unsigned char>(text[at + 1]) < 0xa0) return true;
  return false;
}

std::vector<std::string_view> splitPath(std::string_view path) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t slash = path.find('/');
    parts.push_back(path.substr(0, slash));
    if (slash == std::string_view::npos) return parts;
    path.remove_prefix(slash + 1);
  }
}

enum class LinkEnd { kInside, kDangling, kOutside, kLoop };

// Follows links in the list as the kernel would in the tree (path_resolution(7)).
class LinkFollower {
 public:
  explicit LinkFollower(const std::vector<FileEntry>& files) {
    for (const FileEntry& file : files) {
      entries_.emplace(file.path, &file);
      for (size_t slash = file.path.rfind('/'); slash != std::string::npos && slash > 0;
           slash = file.path.rfind('/', slash - 1))
        if (!directories_.insert(std::string_view(file.path).substr(0, slash)).second) break;
    }
  }

  bool isDirectory(std::string_view path) const { return directories_.contains(path); }

  LinkEnd follow(const FileEntry& link) const {
    std::string at = parentOf(link.path);
    std::deque<std::string_view> ahead;
    if (!enqueue(link.link_target, ahead)) return LinkEnd::kOutside;
    for (int steps = 0, followed = 0; !ahead.empty();) {
      const std::string_view part = ahead.front();
      ahead.pop_front();
      if (part.empty() || part == ".") continue;
      if (++steps > kMaxSteps) return LinkEnd::kLoop;
      if (part == "..") {
        if (at.empty()) return LinkEnd::kOutside;
        at = parentOf(at);
        continue;
      }
      const std::string next = at.empty() ? std::string(part) : fmt::format("{}/{}", at, part);
      const FileEntry* entry = find(next);
      if (entry == nullptr || !entry->isLink()) {
        at = next;
        continue;
      }
      if (++followed > kMaxLinksFollowed) return LinkEnd::kLoop;
      if (!enqueue(entry->link_target, ahead)) return LinkEnd::kOutside;
    }
    const bool found = at.empty() || find(at) != nullptr || isDirectory(at);
    return found ? LinkEnd::kInside : LinkEnd::kDangling;
  }

 private:
  static std::string parentOf(std::string_view path) {
    const size_t slash = path.rfind('/');
    return slash == std::string_view::npos ? "" : std::string(path.substr(0, slash));
  }

  // False for an absolute target.
  static bool enqueue(std::string_view target, std::deque<std::string_view>& ahead) {
    if (target.starts_with('/')) return false;
    const std::vector<std::string_view> parts = splitPath(target);
    ahead.insert(ahead.begin(), parts.begin(), parts.end());
    return true;
  }

  const FileEntry* find(std::string_view path) const {
    if (path.size() > kMaxReleasePath) return nullptr;
    const auto found = entries_.find(path);
    return found == entries_.end() ? nullptr : found->second;
  }

  std::unordered_map<std::string_view, const FileEntry*> entries_;
  std::unordered_set<std::string_view> directories_;
};

Result<void> checkLimits(const std::vector<FileEntry>& files) {
  size_t bytes = 0;
  for (const FileEntry& file : files) bytes += file.path.size() + file.link_target.size();
  if (files.size() > kMaxReleaseFiles || bytes > kMaxReleasePathBytes)
    return fail(Code::kBadInput,
                "{} files with {} bytes of names; a release may have {} and {}: pack what belongs "
                "together into archives",
                files.size(), bytes, kMaxReleaseFiles, kMaxReleasePathBytes);
  if (std::all_of(files.begin(), files.end(), [](const FileEntry& file) { return file.isLink(); }))
    return fail(Code::kBadInput, "no file in it");
  return {};
}

Result<void> checkEntry(const FileEntry& file) {
  CCTL_CHECK(checkReleasePath(file.path));
  if (file.isLink()) {
    if (isPlainText(file.link_target) && file.sha256.empty() && file.size == 0 &&
        file.link_target.size() <= kMaxReleasePath)
      return {};
    return fail(Code::kBadInput, "{}: a link with an unusable target", file.path);
  }
  if (!isSha256Hex(file.sha256))
    return fail(Code::kBadInput, "{}: \"{}\" is not a SHA-256 digest", file.path,
                printable(file.sha256));
  if (file.mode != kReleaseFileMode && file.mode != kReleaseProgramMode)
    return fail(Code::kBadInput, "{}: mode {:04o} is neither 0444 nor 0555", file.path, file.mode);
  return {};
}

Result<void> checkLink(const FileEntry& link, const LinkFollower& follower) {
  switch (follower.follow(link)) {
    case LinkEnd::kOutside:
      return fail(Code::kBadInput,
                  "{} is a symbolic link to \"{}\", which leads out of the release: put a copy of "
                  "the file there",
                  link.path, link.link_target);
    case LinkEnd::kLoop:
      return fail(Code::kBadInput, "{} is a symbolic link to \"{}\", which leads round in a ring",
                  link.path, link.link_target);
    case LinkEnd::kInside:
    case LinkEnd::kDangling:
      break;
  }
  return {};
}

}  // namespace

bool isPlainText(std::string_view text) {
  return text.find_first_of("\t\n\r") == std::string_view::npos && !findBadByte(text) &&
         !hasC1Control(text);
}

Result<void> checkReleasePath(std::string_view path) {
  const auto refuse = [&](std::string_view why) {
    return fail(Code::kBadInput, "\"{}\" cannot be a path in a release: {}", printable(path), why);
  };
  if (path.empty() || path.size() > kMaxReleasePath)
    return refuse(fmt::format("it must have 1 to {} bytes", kMaxReleasePath));
  if (!isPlainText(path)) return refuse("only UTF-8 without control characters; rename it");
  if (path.find('\\') != std::string_view::npos) return refuse("no backslash; rename it");
  const std::vector<std::string_view> parts = splitPath(path);
  if (parts.size() > kMaxReleaseDepth) return refuse("it is too deep");
  for (const std::string_view part : parts) {
    if (part.empty() || part == "." || part == "..") return refuse("it must be relative and plain");
    if (part.size() > 255) return refuse("a name in it is longer than 255 bytes; rename it");
  }
  if (path == paths::kSumsFile)
    return refuse("the checksums of the release itself have that name; rename it");
  // sha256sum(1) takes it for its standard input.
  if (path == "-") return refuse("rename it");
  return {};
}

Result<void> checkReleaseTree(const std::vector<FileEntry>& files) {
  CCTL_CHECK(checkLimits(files));
  for (const FileEntry& file : files) CCTL_CHECK(checkEntry(file));
  for (size_t i = 1; i < files.size(); ++i)
    if (files[i - 1].path >= files[i].path)
      return fail(Code::kBadInput, "{}: not in order, or there twice", files[i].path);
  const LinkFollower follower(files);
  for (const FileEntry& file : files) {
    if (follower.isDirectory(file.path))
      return fail(Code::kBadInput, "{}: both a file and a directory", file.path);
    if (file.isLink()) CCTL_CHECK(checkLink(file, follower));
  }
  return {};
}

std::vector<std::string> danglingLinks(const std::vector<FileEntry>& files) {
  const LinkFollower follower(files);
  std::vector<std::string> paths;
  for (const FileEntry& file : files)
    if (file.isLink() && follower.follow(file) == LinkEnd::kDangling) paths.push_back(file.path);
  return paths;
}

std::string releaseSums(const std::vector<FileEntry>& files) {
  std::string text;
  for (const FileEntry& file : files)
    if (!file.isLink()) text += fmt::format("{}  {}\n", file.sha256, file.path);
  return text;
}

std::string releaseDigest(const std::vector<FileEntry>& files) {
  Sha256 sha;
  sha.update("clusterctl-release 1\n");
  for (const FileEntry& file : files) {
    if (file.isLink()) {
      sha.update(fmt::format("l\t{}\t{}\n", file.path, file.link_target));
    } else {
      sha.update(
          fmt::format("{}\t{}\t{}\n", file.isExecutable() ? 'x' : 'f', file.sha256, file.path));
    }
  }
  return sha.hex();
}

}  // namespace cctl
