#include "release/release_store.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <random>
#include <thread>

#include "base/digest.h"
#include "base/subprocess.h"
#include "model/release_tree.h"
#include "release/release_json.h"
#include "unit/release/elf_builder.h"
#include "unit/release/temporary_dir.h"

using namespace cctl;
using namespace cctl::release;
using cctl::test::TemporaryDir;

namespace {

const ServiceName kSolver("sudoku-solver");
const Version kOne("1.0.0");
constexpr WallTime kNow{Millis(1'700'000'000'000)};

struct Fixture {
  TemporaryDir dir;
  ReleaseStore store{dir / "store"};

  Result<AddOutcome> add(const std::string& path, const Version& version = kOne) const {
    return store.add(kSolver, version, path, {kNow, nullptr});
  }
  // The error's message; the add must fail.
  std::string refusal(const std::string& path, Code code = Code::kBadInput) const {
    const auto added = add(path);
    REQUIRE_FALSE(added.has_value());
    CAPTURE(added.error().message);
    CHECK(added.error().code == code);
    CHECK(leftovers().empty());
    return added.error().message;
  }
  std::string sample() const {
    (void)dir.put("src/bin/run", "#!/bin/sh\nexec true\n", 0755);
    (void)dir.put("src/conf/a.conf", "a = 1\n", 0600);
    (void)dir.put("src/conf/deep/b", std::string(300'000, 'b'));
    CHECK(::symlink("run", (dir / "src/bin/link").c_str()) == 0);
    return dir / "src";
  }
  std::string release() const { return store.directory() + "/sudoku-solver/1.0.0"; }
  // What begins with a dot in the service's directory of the store.
  std::vector<std::string> leftovers() const {
    std::vector<std::string> names;
    if (const auto all = listDir(store.directory() + "/sudoku-solver"))
      for (const std::string& name : *all)
        if (name[0] == '.') names.push_back(name);
    return names;
  }
};

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

mode_t modeOf(const std::string& path) {
  struct stat info {};
  REQUIRE(::lstat(path.c_str(), &info) == 0);
  return info.st_mode & 07777;
}

}  // namespace

TEST_CASE_FIXTURE(Fixture, "a directory's content becomes the release, read-only and complete") {
  const auto added = add(sample());
  REQUIRE_MESSAGE(added.has_value(), (added ? "" : added.error().message));
  CHECK_FALSE(added->already);
  REQUIRE(added->release.files.size() == 4);
  CHECK(added->release.files[0].link_target == "run");
  CHECK(added->release.files[1].path == "bin/run");
  CHECK(modeOf(release() + "/files/bin/run") == 0555);
  CHECK(modeOf(release() + "/files/conf/a.conf") == 0444);
  CHECK(modeOf(release() + "/SHA256SUMS") == 0444);
  CHECK(added->release.scripts == std::vector<ScriptNeeds>{{"bin/run", "/bin/sh", ""}});
  CHECK(added->release.added == kNow);
  CHECK(isSha256Hex(added->release.digest));
  CHECK(leftovers().empty());
}

TEST_CASE_FIXTURE(Fixture, "sha256sum -c accepts SHA256SUMS") {
  (void)dir.put("src/a file with  spaces ", "x");
  (void)dir.put("src/*star", "y");
  (void)dir.put("src/ünïcode", "z");
  REQUIRE(add(sample()));
  SubprocessRequest request;
  request.argv = {"sh", "-c", "cd \"$1\" && sha256sum --strict -c ../SHA256SUMS", "sh",
                  release() + "/files"};
  const auto run = runSubprocess(request, Deadline::in(Millis(60'000)));
  REQUIRE(run.has_value());
  CAPTURE(run->out);
  CHECK(run->exit_status == 0);
}

TEST_CASE_FIXTURE(Fixture, "what was added is loaded and listed as it was") {
  const auto added = add(sample());
  REQUIRE(added.has_value());
  const auto loaded = store.load(kSolver, kOne);
  REQUIRE(loaded.has_value());
  CHECK(loaded->digest == added->release.digest);
  CHECK(loaded->files == added->release.files);
  CHECK(loaded->scripts == added->release.scripts);
  CHECK(loaded->added == kNow);
  for (const char* version : {"1.10", "1.9", "1.9-rc1", "1.9+b"})
    REQUIRE(add(dir / "src", Version(version)));
  const auto listing = store.list(kSolver);
  REQUIRE(listing.has_value());
  std::vector<std::string> versions;
  for (const ReleaseInfo& one : listing->releases) versions.push_back(one.version.str());
  CHECK(versions == std::vector<std::string>{"1.0.0", "1.9-rc1", "1.9", "1.9+b", "1.10"});
  CHECK(store.list(ServiceName("other"))->releases.empty());
  CHECK(store.list()->releases.size() == 5);
}

TEST_CASE_FIXTURE(Fixture, "a single program becomes bin/FILE, another file FILE") {
  const auto program = add(dir.put("tool", "#!/bin/sh\n", 0755));
  REQUIRE(program.has_value());
  CHECK(program->release.files.front().path == "bin/tool");
  const auto jar = add(dir.put("app.jar", "PK"), Version("2"));
  REQUIRE(jar.has_value());
  CHECK(jar->release.files.front().path == "app.jar");
  CHECK(jar->warnings.empty());
  const auto text = add(dir.put("notes", "hello"), Version("3"));
  REQUIRE(text.has_value());
  CHECK(text->warnings.size() == 1);
}

TEST_CASE_FIXTURE(Fixture, "the programs of this machine show their needs") {
  const auto added = add("/proc/self/exe");
  REQUIRE_MESSAGE(added.has_value(), (added ? "" : added.error().message));
  REQUIRE(added->release.elf.size() == 1);
  CHECK(added->release.elf[0].path == "bin/exe");
  CHECK_FALSE(added->release.isStatic());
  CHECK(store.load(kSolver, kOne)->elf == added->release.elf);
  REQUIRE_FALSE(added->warnings.empty());
  CHECK(contains(added->warnings[0], "not static"));
}

TEST_CASE_FIXTURE(Fixture, "the same content again is no change; other content is refused") {
  REQUIRE(add(sample()));
  struct stat before {
  }, after{};
  REQUIRE(::stat((release() + "/release.json").c_str(), &before) == 0);
  const auto again = add(dir / "src");
  REQUIRE(again.has_value());
  CHECK(again->already);
  CHECK(again->release.version == kOne);
  (void)dir.put("src/conf/a.conf", "a = 2\n");
  (void)dir.put("src/new", "n");
  REQUIRE(::unlink((dir / "src/bin/link").c_str()) == 0);
  REQUIRE(::chmod((dir / "src/conf/deep/b").c_str(), 0755) == 0);
  const std::string message = refusal(dir / "src", Code::kRefused);
  CHECK(contains(message, "conf/a.conf differs"));
  CHECK(contains(message, "new is new"));
  CHECK(contains(message, "bin/link is missing"));
  CHECK(contains(message, "conf/deep/b is now executable"));
  REQUIRE(::stat((release() + "/release.json").c_str(), &after) == 0);
  CHECK(before.st_ino == after.st_ino);
}

TEST_CASE_FIXTURE(Fixture, "a copy: later writes to the source do not reach the store") {
  REQUIRE(add(sample()));
  const Fd fd = cctl::openFile(dir / "src/conf/a.conf", O_WRONLY).value();
  REQUIRE(writeAll(fd.get(), "XXXX"));
  CHECK(store.check(*store.load(kSolver, kOne))->empty());
}

TEST_CASE_FIXTURE(Fixture, "hard links are files like others") {
  (void)dir.put("src/a", "same");
  REQUIRE(::link((dir / "src/a").c_str(), (dir / "src/b").c_str()) == 0);
  const auto added = add(dir / "src");
  REQUIRE(added.has_value());
  CHECK(added->release.files[0].sha256 == added->release.files[1].sha256);
}

TEST_CASE_FIXTURE(Fixture, "what cannot be a release is refused, all of it in one message") {
  const std::string source = sample();
  REQUIRE(::mkfifo((source + "/fifo").c_str(), 0600) == 0);
  const Fd socket(::socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  (source + "/sock").copy(address.sun_path, sizeof address.sun_path - 1);
  REQUIRE(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  (void)dir.put("src/suid", "x");
  REQUIRE(::chmod((source + "/suid").c_str(), 04755) == 0);
  (void)dir.put("src/new\nline", "x");
  (void)dir.put("src/\xff\xfe", "x");
  (void)dir.put("src/back\\slash", "x");
  const std::string message = refusal(source);
  for (const char* part : {"fifo is a fifo", "sock is a socket", "suid is set-user-id", "new?line",
                           "??", "backslash"}) {
    CAPTURE(part);
    CHECK(contains(message, part));
  }
  CHECK_FALSE(exists(release()));
}

TEST_CASE_FIXTURE(Fixture, "links out of the tree are refused") {
  const std::string source = sample();
  for (const char* target : {"/etc/passwd", "../../x", "conf/../../src/bin/run"}) {
    REQUIRE(::symlink(target, (source + "/bad").c_str()) == 0);
    CHECK(contains(refusal(source), "leads out of the release"));
    REQUIRE(::unlink((source + "/bad").c_str()) == 0);
  }
}

TEST_CASE_FIXTURE(Fixture, "empty, missing and self-containing sources are refused") {
  REQUIRE(makeDirs(dir / "empty/with/nothing"));
  CHECK(contains(refusal(dir / "empty"), "no file"));
  CHECK(contains(refusal(dir / "nothing", Code::kNotFound), "nothing"));
  REQUIRE(makeDirs(store.directory()));
  CHECK(contains(refusal(dir.path()), "holds the store"));
  REQUIRE(add(sample()));
  const auto inside = store.add(ServiceName("x"), kOne, release() + "/files", {});
  REQUIRE_FALSE(inside.has_value());
  CHECK(contains(inside.error().message, "inside the store"));
  REQUIRE(::symlink(release().c_str(), (dir / "alias").c_str()) == 0);
  CHECK_FALSE(store.add(ServiceName("x"), kOne, dir / "alias", {}).has_value());
}

TEST_CASE_FIXTURE(Fixture, "an empty directory is left out, saying so") {
  (void)dir.put("src/file", "x", 0755);
  REQUIRE(makeDirs(dir / "src/empty/inner"));
  const auto added = add(dir / "src");
  REQUIRE(added.has_value());
  REQUIRE(added->warnings.size() >= 1);
  CHECK(contains(added->warnings[0], "empty/inner is an empty directory"));
}

TEST_CASE_FIXTURE(Fixture, "a damaged program and mixed machines are refused") {
  (void)dir.put("src/bin/x", test::makeElf({}).substr(0, 100), 0755);
  CHECK(contains(refusal(dir / "src"), "bin/x cannot run anywhere"));
  (void)dir.put("src/bin/x", test::makeElf({}), 0755);
  test::ElfRecipe other;
  other.machine = 183;
  (void)dir.put("src/bin/y", test::makeElf(other), 0755);
  CHECK(contains(refusal(dir / "src"), "bin/x is for x86_64 and bin/y is for aarch64"));
}

TEST_CASE_FIXTURE(Fixture, "a missing release names the versions there are") {
  auto missing = store.load(kSolver, kOne);
  REQUIRE_FALSE(missing.has_value());
  CHECK(missing.error().code == Code::kNotFound);
  CHECK(contains(missing.error().message, "clusterctl release add sudoku-solver 1.0.0 PATH"));
  REQUIRE(add(sample()));
  missing = store.load(kSolver, Version("2"));
  CHECK(contains(missing.error().message, "there: 1.0.0"));
}

TEST_CASE_FIXTURE(Fixture, "tampering is found by check, open, load and add") {
  REQUIRE(add(sample()));
  const ReleaseInfo info = store.load(kSolver, kOne).value();
  CHECK(store.check(info)->empty());
  const FileEntry& run = info.files[1];
  CHECK(sha256HexOfFd(store.openFile(info, run)->get()).value() == run.sha256);

  const std::string file = release() + "/files/bin/run";
  REQUIRE(replaceFile(file, "#!/bin/sh\nexec evil\n", 0555, Sync::kNo));
  REQUIRE(replaceFile(release() + "/files/conf/more", "x", 0444, Sync::kNo));
  REQUIRE(::chmod((release() + "/files/conf/a.conf").c_str(), 0644) == 0);
  REQUIRE(removeTree(release() + "/files/conf/deep"));
  REQUIRE(removeTree(release() + "/files/bin/link"));
  CHECK(store.check(info).value() ==
        std::vector<std::string>{"bin/link: missing", "bin/run: content differs",
                                 "conf/a.conf: mode 0644, not 0444", "conf/deep/b: missing",
                                 "conf/more: not of this release"});
  CHECK(store.openFile(info, info.files[3]).error().code == Code::kCorrupt);
  CHECK(contains(refusal(dir / "src", Code::kCorrupt), "changed by hand"));

  REQUIRE(replaceFile(release() + "/SHA256SUMS", "", 0444, Sync::kNo));
  CHECK(store.load(kSolver, kOne).error().code == Code::kCorrupt);
  REQUIRE(::unlink((release() + "/release.json").c_str()) == 0);
  CHECK(store.load(kSolver, kOne).error().code == Code::kCorrupt);
  const auto listing = store.list();
  REQUIRE(listing.has_value());
  CHECK(listing->releases.empty());
  REQUIRE(listing->problems.size() == 1);
  CHECK(contains(listing->problems[0].message, "sudoku-solver/1.0.0"));
}

TEST_CASE_FIXTURE(Fixture, "a file in the store swapped for a link or a fifo is not followed") {
  REQUIRE(add(sample()));
  const ReleaseInfo info = store.load(kSolver, kOne).value();
  const std::string file = release() + "/files/bin/run";
  REQUIRE(::unlink(file.c_str()) == 0);
  REQUIRE(::symlink("/etc/passwd", file.c_str()) == 0);
  CHECK_FALSE(store.openFile(info, info.files[1]).has_value());
  CHECK(store.check(info)->front() == "bin/run: not a regular file");
  REQUIRE(::unlink(file.c_str()) == 0);
  REQUIRE(::mkfifo(file.c_str(), 0600) == 0);
  CHECK_FALSE(store.openFile(info, info.files[1]).has_value());
}

TEST_CASE_FIXTURE(Fixture, "other things in the store's directory are left alone") {
  REQUIRE(add(sample()));
  (void)dir.put("store/README", "mine");
  (void)dir.put("store/Not A Service/1.0/x", "mine");
  (void)dir.put("store/sudoku-solver/notes.txt", "mine");
  const auto listing = store.list();
  REQUIRE(listing.has_value());
  CHECK(listing->releases.size() == 1);
  CHECK(listing->problems.empty());
}

TEST_CASE_FIXTURE(Fixture, "cancelling leaves nothing behind") {
  CancelToken cancel;
  cancel.cancel();
  const auto added = store.add(kSolver, kOne, sample(), {kNow, &cancel});
  REQUIRE_FALSE(added.has_value());
  CHECK(added.error().code == Code::kCancelled);
  CHECK(leftovers().empty());
  CHECK_FALSE(exists(release()));
}

TEST_CASE_FIXTURE(Fixture, "a source that changes while it is read is refused") {
  const std::string source = sample();
  const auto tree = scanSource(source);
  REQUIRE(tree.has_value());
  (void)dir.put("src/conf/a.conf", "a = 2\n");
  const SourceFile& file = tree->files[2];
  REQUIRE(file.entry.path == "conf/a.conf");
  CHECK(contains(readSource(file, "", nullptr).error().message, "changed while it was read"));
  CHECK(contains(checkUnchanged(source, *tree).error().message, "conf/a.conf changed"));
  (void)dir.put("src/zz", "appeared");
  REQUIRE(makeDirs(dir / "out"));
  CHECK_FALSE(checkUnchanged(source, *scanSource(dir / "src/bin")).has_value());
}

TEST_CASE_FIXTURE(Fixture,
                  "a source written to all the time is refused or consistent, never mixed") {
  const std::string source = sample();
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    const Fd fd = cctl::openFile(source + "/conf/deep/b", O_WRONLY).value();
    for (int round = 0; !stop; ++round)
      if (::pwrite(fd.get(), round % 2 == 0 ? "x" : "y", 1, round % 300'000) != 1) break;
  });
  for (int round = 0; round < 20; ++round) {
    const Version version(fmt::format("1.{}", round));
    const auto added = add(source, version);
    if (added)
      CHECK(store.check(added->release)->empty());
    else
      CHECK(contains(added.error().message, "changed while it was read"));
  }
  stop = true;
  writer.join();
  CHECK(leftovers().empty());
}

TEST_CASE_FIXTURE(Fixture, "two processes that add one version: one wins, the other compares") {
  const std::string source = sample();
  (void)dir.put("other/bin/run", "#!/bin/sh\nexec false\n", 0755);
  for (int round = 0; round < 20; ++round) {
    const Version version(fmt::format("1.{}", round));
    std::vector<pid_t> children;
    for (int child = 0; child < 4; ++child) {
      const pid_t pid = ::fork();
      REQUIRE(pid >= 0);
      if (pid == 0) {
        const auto added = add(child < 3 ? source : dir / "other", version);
        if (!added) ::_exit(added.error().code == Code::kRefused ? 2 : 3);
        ::_exit(added->already ? 1 : 0);
      }
      children.push_back(pid);
    }
    std::vector<int> counts(4);
    for (const pid_t child : children) {
      int status = 0;
      REQUIRE(::waitpid(child, &status, 0) == child);
      REQUIRE(WIFEXITED(status));
      ++counts.at(static_cast<size_t>(WEXITSTATUS(status)));
    }
    CHECK(counts[0] == 1);
    CHECK(counts[3] == 0);
    // Either the three alike agree and the other is refused, or the other won.
    CHECK(((counts[1] == 2 && counts[2] == 1) || (counts[1] == 0 && counts[2] == 3)));
    CHECK(store.check(*store.load(kSolver, version))->empty());
  }
  CHECK(leftovers().empty());
}

TEST_CASE_FIXTURE(Fixture, "killed at any moment: no half release, and a later add tidies up") {
  for (int i = 0; i < 30; ++i)
    (void)dir.put(fmt::format("src/data/f{:02}", i), std::string(50'000, static_cast<char>(i)));
  const std::string source = sample();
  std::mt19937 random(7);
  size_t whole = 0;
  for (int round = 0; round < 60; ++round) {
    const Version version(fmt::format("1.{}", round));
    const pid_t pid = ::fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
      (void)add(source, version);
      ::_exit(0);
    }
    ::usleep(std::uniform_int_distribution<useconds_t>(0, 30'000)(random));
    ::kill(pid, SIGKILL);
    REQUIRE(::waitpid(pid, nullptr, 0) == pid);
    const auto release = store.load(kSolver, version);
    if (release) {
      ++whole;
      CHECK(store.check(*release)->empty());
    } else {
      CHECK(release.error().code == Code::kNotFound);
    }
  }
  CHECK(whole < 60);
  REQUIRE(add(source, Version("2")));
  CHECK(leftovers().empty());
  CHECK(store.list()->problems.empty());
}

TEST_CASE("release.json: what is written is read back, and nothing else is taken") {
  ReleaseInfo release;
  release.service = kSolver;
  release.version = kOne;
  release.added = kNow;
  release.files = {{"bin/link", 0, 0, "", "x"},
                   {"bin/x", kReleaseProgramMode, 5, sha256Hex("x"), ""}};
  release.files[0].mode = FileEntry().mode;
  release.elf = {{"bin/x", "x86_64", "/lib/ld.so", {"libc.so.6"}, "2.34", "$ORIGIN"}};
  release.scripts = {{"bin/s", "/bin/sh", "-e"}};
  release.digest = releaseDigest(release.files);
  const std::string text = releaseToJson(release);
  const auto back = parseReleaseJson(text);
  REQUIRE_MESSAGE(back.has_value(), (back ? "" : back.error().message));
  CHECK(back->files == release.files);
  CHECK(back->elf == release.elf);
  CHECK(back->scripts == release.scripts);
  CHECK(back->digest == release.digest);
  CHECK(back->added == release.added);

  for (size_t length = 0; length + 2 < text.size(); ++length)
    CHECK_FALSE(parseReleaseJson(std::string_view(text).substr(0, length)));
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    const size_t at = changed.find(from);
    REQUIRE(at != std::string::npos);
    return parseReleaseJson(changed.replace(at, from.size(), to));
  };
  CHECK(contains(with("\"format\": 1", "\"format\": 2").error().message, "newer clusterctl"));
  for (const auto& change : std::vector<std::pair<std::string, std::string>>{
           {"\"format\": 1", "\"format\": \"1\""},
           {"bin/link", "../link"},
           {"\"0555\"", "\"0777\""},
           {"\"0555\"", "365"},
           {"\"0555\"", "\"0444\""},
           {"\"size\": 5", "\"size\": -5"},
           {"\"size\": 5", "\"size\": \"5\""},
           {"\"link\": \"x\"", "\"link\": \"/etc\""},
           {"\"link\": \"x\"", "\"link\": \"\""},
           {"\"service\": \"sudoku-solver\"", "\"service\": \"../x\""},
           {"\"added\"", "\"when\""},
           {"\"libc.so.6\"", "7"},
           {release.digest, sha256Hex("")}}) {
    CAPTURE(change.second);
    const auto parsed = with(change.first, change.second);
    REQUIRE_FALSE(parsed.has_value());
    CHECK(parsed.error().code == Code::kCorrupt);
  }
}

TEST_CASE("no mutation of release.json crashes the reader") {
  Fixture fixture;
  REQUIRE(fixture.add(fixture.sample()));
  const std::string text = readFile(fixture.release() + "/release.json").value();
  std::mt19937 random(3);
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = text;
    for (int i = 0; i < 3; ++i)
      bytes[random() % bytes.size()] = "\"{}[],:0-\\x\0\xff "[random() % 14];
    (void)parseReleaseJson(bytes);
  }
}

TEST_CASE_FIXTURE(Fixture, "thousands of files are added as a whole") {
  for (int i = 0; i < 3000; ++i)
    (void)dir.put(fmt::format("src/d{}/f{}", i % 50, i), std::to_string(i));
  const auto added = add(dir / "src");
  REQUIRE(added.has_value());
  CHECK(added->release.files.size() == 3000);
  CHECK(store.check(*store.load(kSolver, kOne))->empty());
}
