#include "model/release_tree.h"

#include <doctest/doctest.h>

#include <chrono>

#include "base/digest.h"

using namespace cctl;

namespace {

FileEntry file(const std::string& path, uint32_t mode = kReleaseFileMode) {
  return {path, mode, 1, sha256Hex(path), ""};
}

FileEntry linkTo(const std::string& path, const std::string& target) {
  return {path, 0, 0, "", target};
}

// The error's text; empty when the tree is accepted.
std::string verdict(std::vector<FileEntry> files) {
  std::sort(files.begin(), files.end(),
            [](const FileEntry& a, const FileEntry& b) { return a.path < b.path; });
  const auto checked = checkReleaseTree(files);
  if (checked) return "";
  CHECK(checked.error().code == Code::kBadInput);
  return checked.error().message;
}

std::string linkVerdict(const std::string& path, const std::string& target) {
  return verdict({file("bin/x"), file("lib/a/y"), linkTo(path, target)});
}

}  // namespace

TEST_CASE("paths in a release are plain and relative") {
  for (const char* good : {"a", "bin/x", "a b", "…/ü", ".hidden", "..a", "a/SHA256SUMS", "a/-"}) {
    CAPTURE(good);
    CHECK(checkReleasePath(good).has_value());
  }
  for (const char* bad :
       {"", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\nb", "a\tb", "a\\b", "a\x7f",
        "\xc2\x9b"
        "31m",
        "\xff", "\xc0\xaf", "\xed\xa0\x80", "SHA256SUMS", "-"}) {
    CAPTURE(bad);
    const auto checked = checkReleasePath(bad);
    REQUIRE_FALSE(checked.has_value());
    CHECK(isPlainText(checked.error().message));
  }
  CHECK_FALSE(checkReleasePath(std::string(256, 'a')));
  CHECK_FALSE(checkReleasePath(std::string(1000, 'a') + "/" + std::string(1000, 'b')));
  CHECK_FALSE(checkReleasePath(std::string_view("a\0b", 3)));
}

TEST_CASE("a tree needs order, digests, modes and at least one file") {
  CHECK(verdict({file("a"), file("a-b"), file("b/c", 0555)}).empty());
  CHECK_FALSE(verdict({}).empty());
  CHECK_FALSE(verdict({linkTo("a", "b")}).empty());
  CHECK_FALSE(checkReleaseTree({file("b"), file("a")}));
  CHECK_FALSE(checkReleaseTree({file("a"), file("a")}));
  CHECK_FALSE(verdict({file("a", 0644)}).empty());
  CHECK_FALSE(verdict({file("a", 04555)}).empty());
  FileEntry wrong = file("a");
  wrong.sha256 = "nonsense";
  CHECK_FALSE(verdict({wrong}).empty());
}

TEST_CASE("nothing is both a file and a directory") {
  CHECK_FALSE(verdict({file("a"), file("a-b"), file("a/b")}).empty());
  // The classic way out of a tree: a link, and a file "below" it.
  CHECK_FALSE(verdict({file("x"), linkTo("a", "b"), file("a/passwd")}).empty());
}

TEST_CASE("links stay in the release") {
  CHECK(linkVerdict("link", "bin/x").empty());
  CHECK(linkVerdict("bin/link", "x").empty());
  CHECK(linkVerdict("bin/link", "../lib/a/y").empty());
  CHECK(linkVerdict("lib/b", "a").empty());
  CHECK(linkVerdict("lib/b", ".").empty());
  CHECK(linkVerdict("lib/b", "..").empty());
  CHECK(linkVerdict("bin/gone", "nothing").empty());
  CHECK_FALSE(linkVerdict("link", "/etc/passwd").empty());
  CHECK_FALSE(linkVerdict("link", "../x").empty());
  CHECK_FALSE(linkVerdict("link", "..").empty());
  CHECK_FALSE(linkVerdict("bin/link", "../../tree/bin/x").empty());
  CHECK_FALSE(linkVerdict("bin/link", "x/../../../x").empty());
  CHECK_FALSE(linkVerdict("bin/link", "a\nb").empty());
}

TEST_CASE("links that leave through other links are found") {
  // one/two is lib/a: from there ".." is lib, not one.
  CHECK(verdict({file("lib/a/y"), linkTo("one", "lib/a"), linkTo("two", "one/../a/y")}).empty());
  CHECK_FALSE(verdict({
                          file("lib/y"),
                          linkTo("deep/down/up", "../../lib"),
                          linkTo("x", "deep/down/up/../.."),
                      })
                  .empty());
  CHECK(verdict({file("x"), linkTo("a", "b"), linkTo("b", "a")}).find("ring") != std::string::npos);
  CHECK(verdict({file("x"), linkTo("a", "a")}).find("ring") != std::string::npos);
}

TEST_CASE("a list of links made to be slow is decided quickly") {
  std::vector<FileEntry> files = {file("x")};
  std::string target;
  while (target.size() + 2 <= kMaxReleasePath) target += "a/";
  for (int i = 0; i < 900; ++i) files.push_back(linkTo(fmt::format("l{:04}", i), target));
  files.push_back(linkTo("a", "."));
  const auto start = std::chrono::steady_clock::now();
  CHECK_FALSE(verdict(files).empty());
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(5));
}

TEST_CASE("dangling links are named") {
  const std::vector<FileEntry> files = {linkTo("a", "none"), linkTo("b", "x"), file("x")};
  CHECK(danglingLinks(files) == std::vector<std::string>{"a"});
}

TEST_CASE("the digest tells names, contents, executable bits and links apart") {
  const auto digest = [](const FileEntry& entry) { return releaseDigest({entry}); };
  const FileEntry base = file("a");
  FileEntry other = base;
  other.sha256 = sha256Hex("other");
  CHECK(digest(base) == digest(file("a")));
  CHECK(digest(base) != digest(other));
  CHECK(digest(base) != digest(file("a", kReleaseProgramMode)));
  CHECK(digest(linkTo("a", "b")) != digest(linkTo("a", "c")));
  // Written down so that no later build computes another: hosts and registers hold these.
  CHECK(releaseDigest({file("bin/x", 0555), linkTo("lib", "bin")}) ==
        sha256Hex("clusterctl-release 1\nx\t" + sha256Hex("bin/x") + "\tbin/x\nl\tlib\tbin\n"));
}
