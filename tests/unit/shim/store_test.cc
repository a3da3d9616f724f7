#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/digest.h"
#include "shim/store.h"
#include "support.h"

namespace cctl::shim {
namespace {

protocol::ReleaseFile file(const std::string& path, const std::string& content = "x") {
  protocol::ReleaseFile made;
  made.path = path;
  made.sha256 = sha256Hex(content);
  made.size = content.size();
  return made;
}

protocol::ReleaseFile link(const std::string& path, const std::string& target) {
  protocol::ReleaseFile made;
  made.path = path;
  made.link = target;
  return made;
}

protocol::PushRequest request(std::vector<protocol::ReleaseFile> files,
                              const std::string& version = "1.0") {
  return {"svc", version, sha256Hex(version), std::move(files)};
}

TEST_CASE("manifest: hostile lists of files are refused") {
  const auto refused = [](std::vector<protocol::ReleaseFile> files) {
    const auto manifest = manifestOf(request(std::move(files)));
    return !manifest && manifest.error().code == Code::kRefused;
  };
  CHECK(refused({}));
  CHECK(refused({file("../x")}));
  CHECK(refused({file("/x")}));
  CHECK(refused({file("a/../../x")}));
  CHECK(refused({file("a//b")}));
  CHECK(refused({file(".")}));
  CHECK(refused({file("a/")}));
  CHECK(refused({file(std::string("a\0b", 3))}));
  CHECK(refused({file("a\nb")}));
  CHECK(refused({file(std::string(256, 'a'))}));
  CHECK(refused({file("a"), file("a")}));
  CHECK(refused({file("a"), file("a-b"), file("a/b")}));
  CHECK(refused({link("l", "/etc/passwd")}));
  CHECK(refused({link("l", "../x")}));
  CHECK(refused({link("d/l", ".."), link("x", "d/l/../y")}));
  CHECK(refused({link("a", "b"), link("b", "a")}));
  CHECK(refused({link("l", "d"), file("l/x")}));
  auto bad_sum = file("a");
  bad_sum.sha256 = "1234";
  CHECK(refused({bad_sum}));
}

TEST_CASE("manifest: links are followed as the kernel would") {
  const auto manifest =
      manifestOf(request({file("bin/real"), link("bin/a", "real"), link("current", "bin"),
                          link("deep/x", "../current/a")}));
  REQUIRE(manifest);
  CHECK(manifest->resolve("bin/a")->path == "bin/real");
  CHECK(manifest->resolve("deep/x")->path == "bin/real");
  CHECK(manifest->resolve("current/real")->path == "bin/real");
  CHECK(manifest->resolve("bin") == nullptr);
  CHECK(manifest->resolve("../svc/bin/real") == nullptr);
}

TEST_CASE("manifest: the same through its record") {
  const auto manifest = manifestOf(request({file("b"), file("a"), link("l", "a")}));
  const auto again = decodeManifest(encodeManifest(*manifest));
  REQUIRE(again);
  CHECK(again->files == manifest->files);
  CHECK(again->digest == manifest->digest);
}

struct Installed {
  TempDir dir;
  SystemClock clock;
  Store store{dir.path(), clock};
  Installed() { REQUIRE(store.load()); }

  Result<bool> push(const protocol::PushRequest& what, const std::string& bytes) {
    CCTL_TRY(auto incoming, store.push(what));
    if (!incoming) return false;
    for (;;) {
      CCTL_TRY(const bool ready, incoming->reuse(1));
      if (ready) break;
    }
    CCTL_CHECK(incoming->feed(bytes));
    return incoming->finish();
  }
};

TEST_CASE("store: install, again, other content, reload") {
  Installed host;
  const auto release = request({file("bin/a", "hello"), file("empty", ""), link("l", "bin/a")});
  CHECK(*host.push(release, "hello"));
  CHECK_FALSE(*host.push(release, ""));
  CHECK(*readFile(host.dir / "services/svc/1.0/l") == "hello");
  const auto other = host.push(request({file("bin/a", "other")}), "other");
  REQUIRE_FALSE(other);
  CHECK(other.error().code == Code::kRefused);

  Store again(host.dir.path(), host.clock);
  REQUIRE(again.load());
  REQUIRE(again.find("svc", "1.0"));
  CHECK(again.find("svc", "1.0")->digest == release.digest);
}

TEST_CASE("store: bytes that differ, are too few or too many leave nothing") {
  Installed host;
  for (const char* bytes : {"hellO", "hell", "hello!", ""}) {
    const auto pushed = host.push(request({file("bin/a", "hello")}), bytes);
    REQUIRE_FALSE(pushed);
    CHECK(pushed.error().code == Code::kCorrupt);
    CHECK(listDir(host.dir / "services/svc")->empty());
  }
}

TEST_CASE("store: what an aborted shim left is removed at load") {
  Installed host;
  REQUIRE(makeDirs(host.dir / "services/svc/.incoming-x/bin"));
  Store again(host.dir.path(), host.clock);
  REQUIRE(again.load());
  CHECK(listDir(host.dir / "services/svc")->empty());
}

TEST_CASE("store: a release whose record was lost is known again when pushed, if it is the same") {
  Installed host;
  const auto release = request({file("bin/a", "hello")});
  REQUIRE(host.push(release, "hello"));
  REQUIRE(removeTree(host.dir / "shim/state/releases"));
  Store again(host.dir.path(), host.clock);
  REQUIRE(again.load());
  CHECK(again.find("svc", "1.0") == nullptr);
  const auto other = again.push(request({file("bin/a", "other")}));
  REQUIRE_FALSE(other);
  CHECK(other.error().code == Code::kRefused);
  const auto same = again.push(release);
  REQUIRE(same);
  CHECK(*same == nullptr);
  CHECK(again.find("svc", "1.0") != nullptr);
}

TEST_CASE("store: signatures stay with their release, grow, and go with it") {
  Installed host;
  const auto none = host.store.keepSignatures({"svc", "1.0", {"a"}});
  REQUIRE_FALSE(none);
  CHECK(none.error().code == Code::kNotFound);
  REQUIRE(host.push(request({file("bin/a", "hello")}), "hello"));
  CHECK(host.store.signatures("svc", "1.0").empty());
  REQUIRE(host.store.keepSignatures({"svc", "1.0", {"a"}}));
  REQUIRE(host.store.keepSignatures({"svc", "1.0", {"b", "a"}}));
  Store again(host.dir.path(), host.clock);
  REQUIRE(again.load());
  CHECK(again.problems().empty());
  CHECK(again.signatures("svc", "1.0") == std::vector<std::string>{"a", "b"});
  for (size_t i = 0; i < kMostSignatures; ++i)
    REQUIRE(again.keepSignatures({"svc", "1.0", {std::to_string(i)}}));
  CHECK(again.signatures("svc", "1.0").size() == kMostSignatures);
  CHECK(again.signatures("svc", "1.0").front() == "0");
  CHECK_FALSE(again.keepSignatures({"svc", "1.0", {std::string(kLongestSignature + 1, 'x')}}));
  REQUIRE(replaceFile(host.dir / "shim/state/releases/svc@1.0.signatures", "{"));
  CHECK(again.signatures("svc", "1.0").empty());
  REQUIRE(again.remove("svc", "1.0"));
  CHECK_FALSE(exists(host.dir / "shim/state/releases/svc@1.0.signatures"));
}

TEST_CASE("store: a damaged record is told and does not stop the others") {
  Installed host;
  REQUIRE(host.push(request({file("a", "1")}, "1.0"), "1"));
  REQUIRE(host.push(request({file("a", "2")}, "2.0"), "2"));
  REQUIRE(replaceFile(host.dir / "shim/state/releases/svc@1.0.json", "{\"body\":1}"));
  Store again(host.dir.path(), host.clock);
  REQUIRE(again.load());
  CHECK(again.problems().size() == 1);
  CHECK(again.find("svc", "2.0") != nullptr);
}

TEST_CASE("check: exact, and each way of not being so") {
  Installed host;
  REQUIRE(host.push(request({file("bin/a", "hello"), link("l", "bin/a")}), "hello"));
  const ReleaseManifest manifest = *host.store.find("svc", "1.0");
  const std::string dir = host.store.dirOf(manifest);
  const auto problems = [&] {
    ReleaseCheck check(dir, std::make_shared<ReleaseManifest>(manifest), nullptr);
    while (!check.step(2)) {
    }
    return check.problems();
  };
  CHECK(problems().empty());
  for (const std::string& sub : {dir, dir + "/bin"}) ::chmod(sub.c_str(), 0755);
  REQUIRE(replaceFile(dir + "/bin/a", "hellO"));
  CHECK(problems() == std::vector<std::string>{"bin/a: content differs"});
  REQUIRE(replaceFile(dir + "/bin/a", "hello"));
  ::unlink((dir + "/l").c_str());
  REQUIRE(::symlink("bin/b", (dir + "/l").c_str()) == 0);
  REQUIRE(replaceFile(dir + "/bin/b", ""));
  CHECK(problems() == std::vector<std::string>{"l: not the link that was installed",
                                               "bin/b: not part of the release"});
}

// Directories that were looked through are not again, until an entry comes or goes.
TEST_CASE("check: what is put beside the files is found, with and without the cache") {
  Installed host;
  REQUIRE(host.push(request({file("bin/a", "hello"), file("lib/x/y", "")}), "hello"));
  const auto manifest = host.store.share("svc", "1.0");
  const std::string dir = host.store.dirOf(*manifest);
  ManualClock clock;
  clock.advance(Millis(10'000'000'000'000));  // all changes are long past
  InodeCache cache(clock);
  const auto problems = [&] {
    ReleaseCheck check(dir, manifest, &cache);
    while (!check.step(SIZE_MAX)) {
    }
    return check.problems();
  };
  CHECK(problems().empty());
  CHECK(problems().empty());
  for (const char* sub : {"", "/bin", "/lib", "/lib/x"}) ::chmod((dir + sub).c_str(), 0755);
  CHECK(problems().empty());
  REQUIRE(replaceFile(dir + "/lib/x/evil.so", ""));
  CHECK(problems() == std::vector<std::string>{"lib/x/evil.so: not part of the release"});
  CHECK(problems().size() == 1);  // and again
  ::unlink((dir + "/lib/x/evil.so").c_str());
  CHECK(problems().empty());
  REQUIRE(::mkdir((dir + "/new").c_str(), 0755) == 0);
  CHECK(problems().empty());
  REQUIRE(replaceFile(dir + "/new/evil.so", ""));
  CHECK(problems() == std::vector<std::string>{"new/evil.so: not part of the release"});
}

TEST_CASE("check: a file that somebody has open for writing is not trusted") {
  TempDir dir;
  REQUIRE(replaceFile(dir / "a", "hello"));
  const auto entry = file("a", "hello");
  SystemClock clock;
  InodeCache cache(clock);
  {
    const auto writer = openFile(dir / "a", O_WRONLY);
    const auto opened = openChecked(dir / "a", entry, &cache);
    REQUIRE_FALSE(opened);
    CHECK(opened.error().message.find("open for writing") != std::string::npos);
  }
  CHECK(openChecked(dir / "a", entry, &cache));
}

TEST_CASE("check: the cache trusts an inode only as long as nothing about it changes") {
  TempDir dir;
  REQUIRE(replaceFile(dir / "a", "hello"));
  struct stat info {};
  REQUIRE(::stat((dir / "a").c_str(), &info) == 0);
  ManualClock clock;  // far in the past: as if the file had just changed
  InodeCache fresh(clock);
  fresh.add(info, "sum");
  CHECK_FALSE(fresh.holds(info, "sum"));
  clock.advance(Millis(1'000'000'000'000));
  fresh.add(info, "sum");
  CHECK(fresh.holds(info, "sum"));
  CHECK_FALSE(fresh.holds(info, "other"));
  info.st_ctim.tv_nsec ^= 1;
  CHECK_FALSE(fresh.holds(info, "sum"));
}

}  // namespace
}  // namespace cctl::shim
