#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "shim/background.h"
#include "shim/boot_hook.h"
#include "shim/exit_log.h"
#include "shim/generation_files.h"
#include "shim/identity.h"
#include "shim/install.h"
#include "shim/journal.h"
#include "shim/log_archive.h"
#include "shim/log_file.h"
#include "shim/names.h"
#include "shim/proc.h"
#include "shim/sealed_file.h"
#include "shim/state.h"
#include "shim/users.h"
#include "support.h"

namespace cctl::shim {
namespace {

protocol::Event event(const std::string& text) {
  protocol::Event made;
  made.kind = protocol::EventKind::kOrder;
  made.text = text;
  return made;
}

struct Disk {
  TempDir dir;
  ManualClock clock;
  EventLoop loop{clock};
};

// Found by the fuzzer: revision 0 left a name without endpoints, and a line that was no JSON.
TEST_CASE("names: an entry of revision 0 in a file is none") {
  Disk disk;
  REQUIRE(makeDirs(disk.dir / "registry/services"));
  REQUIRE(replaceFile(disk.dir / "registry/services/svc.json",
                      R"({"format":1,"service":"svc","revision":0,"endpoints":[]})"));
  Names names(disk.dir.path(), "demo", disk.loop);
  REQUIRE(names.load());
  CHECK(parseJson(names.lineFor("svc")));
  CHECK(names.all().services.empty());
}

TEST_CASE("journal: numbers, reading from a point, from a time") {
  Disk disk;
  Journal journal(disk.dir / "j", disk.loop);
  REQUIRE(journal.open());
  for (int i = 1; i <= 5; ++i) {
    journal.append(event(std::to_string(i)));
    disk.clock.advance(Millis(1000));
  }
  CHECK(journal.lastSeq() == 0);  // the turn of the loop is not over yet
  disk.loop.turn(Millis(0));
  CHECK(journal.lastSeq() == 5);
  CHECK(journal.read(0, {}, 100).size() == 5);
  CHECK(journal.read(3, {}, 100).front().text == "4");
  CHECK(journal.read(0, {}, 2).back().seq == 2);
  const WallTime since = disk.clock.wall() - Millis(2000);
  CHECK(journal.read(0, since, 100).size() == 2);
}

TEST_CASE("journal: tells of an exit by pid and start, among many and over segments") {
  Disk disk;
  Journal journal(disk.dir / "j", disk.loop, {2000, 50});
  REQUIRE(journal.open());
  for (int pid = 1; pid <= 30; ++pid) {
    protocol::Event ended = event("exit status 0");
    ended.exit.emplace();
    ended.exit->pid = pid;
    ended.exit->start_ticks = 100 + static_cast<uint64_t>(pid);
    journal.append(ended);
  }
  for (int pid = 1; pid <= 30; ++pid)  // what waits to be written counts
    CHECK(journal.tellsExitOf(pid, 100 + static_cast<uint64_t>(pid)));
  CHECK_FALSE(journal.tellsExitOf(1, 102));
  CHECK_FALSE(journal.tellsExitOf(1, 10));  // the beginning of a number
  CHECK_FALSE(journal.tellsExitOf(31, 131));
}

TEST_CASE("journal: rotates, drops the oldest, and goes on after a restart") {
  Disk disk;
  for (int round = 0; round < 3; ++round) {
    Journal journal(disk.dir / "j", disk.loop, {2000, 3});
    REQUIRE(journal.open());
    CHECK(journal.problems().empty());
    for (int i = 0; i < 50; ++i) journal.append(event("some text"));
  }
  CHECK(listDir(disk.dir / "j")->size() == 3);
  Journal journal(disk.dir / "j", disk.loop, {2000, 3});
  REQUIRE(journal.open());
  CHECK(journal.lastSeq() == 150);
  const auto events = journal.read(0, {}, 1000);
  for (size_t i = 0; i < events.size(); ++i) CHECK(events[i].seq == events[0].seq + i);
  CHECK(events.back().seq == 150);
}

TEST_CASE("journal: every torn tail is cut and told, and what was before is whole") {
  Disk disk;
  std::string whole;
  {
    Journal journal(disk.dir / "j", disk.loop);
    REQUIRE(journal.open());
    for (int i = 0; i < 3; ++i) journal.append(event("event " + std::to_string(i)));
    journal.flush();
    whole = *readFile(disk.dir / "j/00000000000000000001.log");
  }
  const size_t last = whole.rfind('\n', whole.size() - 2) + 1;
  for (size_t length = last + 1; length < whole.size(); ++length) {
    REQUIRE(replaceFile(disk.dir / "j/00000000000000000001.log", whole.substr(0, length)));
    Journal journal(disk.dir / "j", disk.loop);
    REQUIRE(journal.open());
    CHECK(journal.problems().size() == 1);
    CHECK(journal.read(0, {}, 10).size() == 2);
    journal.append(event("next"));
    CHECK(journal.read(0, {}, 10).back().seq == 3);
  }
}

TEST_CASE("journal: one that somebody removed is begun anew, and that is told") {
  Disk disk;
  Journal journal(disk.dir / "j", disk.loop);
  REQUIRE(journal.open());
  CHECK(journal.isNew());
  journal.append(event("before"));
  journal.flush();
  REQUIRE(removeTree(disk.dir / "j"));
  journal.append(event("after"));
  auto events = journal.read(0, {}, 10);
  REQUIRE(events.size() == 2);
  CHECK(events[0].text == "after");
  CHECK(events[0].seq == 2);
  CHECK(events[1].text.find("j was removed: what happened before") != std::string::npos);
  CHECK(journal.problems() == std::vector<std::string>{events[1].text});
  // Whoever asks need not wait for the next event.
  REQUIRE(removeTree(disk.dir / "j"));
  journal.noticeRemoved();
  journal.noticeRemoved();
  CHECK(journal.problems().size() == 2);
  journal.flush();
  Journal again(disk.dir / "j", disk.loop);
  REQUIRE(again.open());
  CHECK_FALSE(again.isNew());
}

TEST_CASE("journal: damage in the middle is told and passed over, not cut") {
  Disk disk;
  {
    Journal journal(disk.dir / "j", disk.loop);
    REQUIRE(journal.open());
    for (int i = 0; i < 5; ++i) journal.append(event("event " + std::to_string(i)));
  }
  std::string text = *readFile(disk.dir / "j/00000000000000000001.log");
  text[text.find("event 2")] = 'E';
  REQUIRE(replaceFile(disk.dir / "j/00000000000000000001.log", text));
  Journal journal(disk.dir / "j", disk.loop);
  REQUIRE(journal.open());
  CHECK(journal.problems().size() == 1);
  const auto events = journal.read(0, {}, 10);
  CHECK(events.size() == 4);
  CHECK(journal.lastSeq() == 5);
}

TEST_CASE("sealed files: back as written; torn, altered, foreign and newer ones are told apart") {
  TempDir dir;
  const std::string path = dir / "f";
  const Json body = {{"a", 1}, {"b", "text"}};
  REQUIRE(writeSealed(path, "state", body, Sync::kNo));
  CHECK(*readSealed(path, "state") == body);
  CHECK(readSealed(path, "other").error().code == Code::kCorrupt);
  CHECK(readSealed(dir / "none", "state").error().code == Code::kNotFound);
  const std::string text = *readFile(path);
  for (size_t length = 0; length + 2 < text.size(); ++length) {
    REQUIRE(replaceFile(path, text.substr(0, length), 0600, Sync::kNo));
    CHECK(readSealed(path, "state").error().code == Code::kCorrupt);
  }
  std::string altered = text;
  altered[altered.find("text")] = 'T';
  REQUIRE(replaceFile(path, altered));
  CHECK(readSealed(path, "state").error().code == Code::kCorrupt);
  std::string newer = text;
  newer.replace(newer.find("\"format\":1"), 10, "\"format\":2");
  REQUIRE(replaceFile(path, newer));
  CHECK(readSealed(path, "state").error().code == Code::kRefused);
}

TEST_CASE("state: back as written, one write and sync for a whole turn") {
  Disk disk;
  State state(disk.dir / "state.json", disk.loop);
  REQUIRE(state.load());
  state.data().tokens["svc"] = 7;
  InstanceRecord& record = state.findOrMake({"svc", 3});
  record.current = 2;
  GenerationRecord generation;
  generation.generation = 2;
  generation.ports = {{"main", 21000}};
  generation.process = ProcessRecord{42, 1234567, disk.clock.wall(), true, 5, 6};
  record.generations.push_back(generation);
  int done = 0;
  state.whenDurable([&](Result<void> written) { done += written ? 1 : 0; });
  state.whenDurable([&](Result<void> written) { done += written ? 1 : 0; });
  CHECK(done == 0);
  for (int i = 0; i < 200 && done < 2; ++i) disk.loop.turn(Millis(50));
  CHECK(done == 2);

  State again(disk.dir / "state.json", disk.loop);
  REQUIRE(again.load());
  CHECK(again.data().tokens["svc"] == 7);
  REQUIRE(again.find({"svc", 3}));
  CHECK(again.find({"svc", 3})->generations == std::vector<GenerationRecord>{generation});
}

TEST_CASE("log: tail over rotated files, reading on through a rotation") {
  Disk disk;
  LogFile log(disk.dir.path(), {200, 3}, disk.clock);
  LogFile::Position reader = log.tail(10);
  std::string all;
  for (int i = 0; i < 30; ++i) {
    log.append("line " + std::to_string(i) + " of some length\n", 1);
    for (std::string part = log.read(reader, 1000); !part.empty(); part = log.read(reader, 1000))
      all += part;
  }
  CHECK(std::count(all.begin(), all.end(), '\n') == 30);
  LogFile::Position tail = log.tail(5);
  std::string last;
  for (std::string part = log.read(tail, 1000); !part.empty(); part = log.read(tail, 1000))
    last += part;
  CHECK(last.starts_with("line 25 "));
  CHECK(listDir(disk.dir.path())->size() == 4);
}

// Found by a test under load: a file rotated after the clock was set back sorted before an older
// one, and a reader that followed passed it over.
TEST_CASE("log: files stay in order when the clock is set back or stands still") {
  Disk disk;
  LogFile log(disk.dir.path(), {60, 4}, disk.clock);
  LogFile::Position reader = log.tail(0);
  std::string all;
  for (int i = 10; i < 60; ++i) {
    log.append("line number " + std::to_string(i) + " of a few\n", 1);
    if (i % 3 != 0) disk.clock.advance(Millis(i % 2 ? -7 : 5));
    for (std::string part = log.read(reader, 1000); !part.empty(); part = log.read(reader, 1000))
      all += part;
  }
  std::string expected;
  for (int i = 10; i < 60; ++i) expected += "line number " + std::to_string(i) + " of a few\n";
  CHECK(all == expected);
}

TEST_CASE("log: the service's own files beside it are neither read nor removed") {
  Disk disk;
  REQUIRE(replaceFile(disk.dir / "access.log", "own"));
  REQUIRE(replaceFile(disk.dir / "2026-11-23.log", "own"));
  LogFile log(disk.dir.path(), {40, 1}, disk.clock);
  for (int i = 0; i < 20; ++i) log.append("a line of some length, " + std::to_string(i) + "\n", 1);
  CHECK(exists(disk.dir / "access.log"));
  CHECK(exists(disk.dir / "2026-11-23.log"));
  LogFile::Position tail = log.tail(1000);
  CHECK(log.read(tail, 1000).find("own") == std::string::npos);
}

TEST_CASE("log: much at once is rotated by size, and a line larger than a file stays whole") {
  Disk disk;
  LogFile log(disk.dir.path(), {100, 2}, disk.clock);
  std::string many;
  for (int i = 0; i < 100; ++i) many += "0123456789012345678\n";
  log.append(many, 100);
  const auto names = listDir(disk.dir.path());
  REQUIRE(names);
  for (const std::string& name : *names) CHECK(readFile(disk.dir / name)->size() == 100);
  log.append(std::string(500, 'x') + "\n", 1);
  LogFile::Position tail = log.tail(1);
  CHECK(log.read(tail, 1000).size() == 501);
}

TEST_CASE("log: rotated files are compressed but the newest, and read as if they were not") {
  TempDir dir;
  SystemClock clock;
  EventLoop loop(clock);
  Background archiver(loop, 100);
  LogFile log(dir.path(), {200, 5}, clock, &archiver);
  LogFile::Position follower = log.tail(0);
  std::string expected;
  std::string followed;
  for (int i = 100; i < 130; ++i) {
    const std::string line = "line number " + std::to_string(i) + " with words in it\n";
    log.append(line, 1);
    expected += line;
    for (std::string part = log.read(follower, 50); !part.empty(); part = log.read(follower, 50))
      followed += part;
  }
  CHECK(followed == expected);
  const auto archives = [&] {
    const auto names = listDir(dir.path());
    return std::count_if(names->begin(), names->end(),
                         [](const std::string& name) { return name.ends_with(".log.gz"); });
  };
  for (int i = 0; i < 200 && archives() < 3; ++i) loop.turn(Millis(50));
  CHECK(archives() == 3);
  for (const int lines : {3, 12, 25, 1000}) {
    LogFile::Position from = log.tail(lines);
    std::string text;
    for (std::string part = log.read(from, 70); !part.empty(); part = log.read(from, 70))
      text += part;
    CHECK(expected.ends_with(text));
    if (lines <= 25) CHECK(std::count(text.begin(), text.end(), '\n') == lines);
  }
  // Someone who was in the middle of a file finds the place again in its archive.
  LogFile::Position middle = log.tail(20);
  std::string rest = log.read(middle, 90);
  log.append("the last line, which rotates nothing away\n", 1);
  for (std::string part = log.read(middle, 90); !part.empty(); part = log.read(middle, 90))
    rest += part;
  CHECK(rest.ends_with("the last line, which rotates nothing away\n"));
  CHECK(std::count(rest.begin(), rest.end(), '\n') == 21);
}

// Found by a test under load: while both were there, a reader went round from one to the other.
TEST_CASE("log: a file whose archive is complete and that is not removed yet is read once") {
  Disk disk;
  LogFile log(disk.dir.path(), {40, 3}, disk.clock);
  for (int i = 0; i < 6; ++i) log.append("a line of some length, " + std::to_string(i) + "\n", 1);
  const auto names = listDir(disk.dir.path());
  REQUIRE(replaceFile(disk.dir / archiveName(names->front(), 4711), "not even an archive"));
  LogFile::Position from = log.tail(1000);
  std::string text;
  for (int reads = 0; reads < 100; ++reads) text += log.read(from, 1000);
  CHECK(std::count(text.begin(), text.end(), '\n') == 4);
}

// Found in CI: the reader of a file that was rotated and archived went on in the next one, which
// had got the inode of the first.
TEST_CASE("log: a file is not taken for a later one with its inode") {
  Disk disk;
  LogFile log(disk.dir.path(), {1000, 5}, disk.clock);
  log.append("the first line\n", 1);
  LogFile::Position follower = log.tail(1);
  REQUIRE(log.read(follower, 1000) == "the first line\n");
  log.append("the second line\n", 1);
  const std::string rotated = "2026-11-23T10:00:00.123Z-000000.log";
  const uint64_t inode = follower.inode;
  REQUIRE(::rename((disk.dir / "current").c_str(), (disk.dir / rotated).c_str()) == 0);
  REQUIRE(replaceFile(disk.dir / "later", "the first line, later\n"));
  struct stat later {};
  REQUIRE(::stat((disk.dir / "later").c_str(), &later) == 0);
  REQUIRE(::rename((disk.dir / "later").c_str(), (disk.dir / "current").c_str()) == 0);
  REQUIRE(archive(disk.dir.path(), rotated));
  const std::string archived = archiveName(rotated, inode);
  follower.inode = later.st_ino;  // as if the kernel had given it out again
  REQUIRE(::rename((disk.dir / archived).c_str(),
                   (disk.dir / archiveName(rotated, later.st_ino)).c_str()) == 0);
  CHECK(log.read(follower, 1000) == "the second line\n");
  CHECK(log.read(follower, 1000) == "the first line, later\n");
  CHECK(log.read(follower, 1000).empty());
}

// Found in CI: a file that was listed and gone when it was opened made the reader begin again.
TEST_CASE("log: a file that goes into its archive while it is read is read once") {
  for (int round = 0; round < 100; ++round) {
    Disk disk;
    LogFile log(disk.dir.path(), {200, 20}, disk.clock);
    std::string expected;
    for (int i = 100; i < 160; ++i) {
      const std::string line = "line number " + std::to_string(i) + " with words in it\n";
      log.append(line, 1);
      expected += line;
    }
    const auto names = listDir(disk.dir.path());
    REQUIRE(names);
    bool archived = true;
    std::thread archiver([&] {
      for (const std::string& name : *names)
        if (name != "current" && !archive(disk.dir.path(), name)) archived = false;
    });
    LogFile::Position from = log.tail(1000);
    std::string text;
    for (std::string part = log.read(from, 64); !part.empty(); part = log.read(from, 64))
      text += part;
    archiver.join();
    REQUIRE(archived);
    REQUIRE(text == expected);
  }
}

TEST_CASE("log: a file that is rotated away while it is archived leaves no archive") {
  TempDir dir;
  const std::string name = "2026-11-23T10:00:00.123Z-000000.log";
  REQUIRE(::mkfifo((dir / name).c_str(), 0600) == 0);  // read as long as somebody writes
  bool archived = false;
  std::thread archiver([&] { archived = archive(dir.path(), name).has_value(); });
  Fd writer(::open((dir / name).c_str(), O_WRONLY | O_CLOEXEC));
  REQUIRE(::unlink((dir / name).c_str()) == 0);
  REQUIRE(writeAll(writer.get(), "a line\n"));
  writer.reset();
  archiver.join();
  CHECK(archived);
  CHECK(listDir(dir.path())->empty());
}

TEST_CASE("log: neither links nor foreign files are written to") {
  Disk disk;
  REQUIRE(replaceFile(disk.dir / "victim", "precious"));
  REQUIRE(::symlink("victim", (disk.dir / "current").c_str()) == 0);
  LogFile log(disk.dir.path(), {}, disk.clock);
  log.append("line\n", 1);
  CHECK(*readFile(disk.dir / "victim") == "precious");
  ::unlink((disk.dir / "current").c_str());
  REQUIRE(::link((disk.dir / "victim").c_str(), (disk.dir / "current").c_str()) == 0);
  log.append("line\n", 1);
  CHECK(*readFile(disk.dir / "victim") == "precious");
  ::unlink((disk.dir / "current").c_str());
  log.append("line\n", 1);
  const std::string text = *readFile(disk.dir / "current");
  CHECK(text.find("2 lines could not be written") != std::string::npos);
}

protocol::NamedService named(const std::string& name, uint64_t revision, const std::string& list) {
  return {name, revision, JsonText{list}};
}

void untilWritten(Disk& disk, Names& names) {
  bool done = false;
  names.whenWritten([&](const Result<void>& written) { done = written.has_value(); });
  disk.clock.advance(Millis(1));
  turnUntil(disk.loop, [&] { return done; });
}

TEST_CASE(
    "names: only rising revisions count; files hold what is known; a restart knows it again") {
  Disk disk;
  {
    Names names(disk.dir.path(), "demo", disk.loop);
    REQUIRE(names.load());
    REQUIRE(names.apply({named("a", 2, "[1]"), named("b", 1, "[]")}));
    REQUIRE(names.apply({named("a", 1, "[9]"), named("a", 2, "[8]")}));
    CHECK(names.lineFor("a") ==
          "{\"format\":1,\"service\":\"a\",\"revision\":2,\"endpoints\":[1]}\n");
    CHECK(names.lineFor("b").find("known") == std::string::npos);
    CHECK(names.lineFor("c").find("\"known\":false") != std::string::npos);
    const uint64_t before = names.generation();
    disk.clock.advance(Millis(200));
    turnUntil(disk.loop, [&] { return names.generation() == before + 1; });
  }
  const auto registry = parseJson(*readFile(disk.dir / "registry/registry.json"));
  REQUIRE(registry);
  CHECK((*registry)["services"]["a"]["revision"] == 2);
  CHECK((*registry)["cluster"] == "demo");
  // Of two files that disagree the newer revision counts, and a torn one is told.
  REQUIRE(replaceFile(disk.dir / "registry/services/b.json",
                      "{\"format\":1,\"service\":\"b\",\"revision\":5,\"endpoints\":[7]}"));
  REQUIRE(replaceFile(disk.dir / "registry/services/a.json", "{\"format\":1,"));
  Names again(disk.dir.path(), "demo", disk.loop);
  REQUIRE(again.load());
  CHECK(again.problems().size() == 1);
  CHECK(again.all().services.size() == 2);
  CHECK(again.lineFor("a").find("\"revision\":2") != std::string::npos);
  CHECK(again.lineFor("b").find("\"revision\":5") != std::string::npos);
}

TEST_CASE("names: a malformed push changes nothing") {
  Disk disk;
  Names names(disk.dir.path(), "demo", disk.loop);
  REQUIRE(names.load());
  CHECK_FALSE(names.apply({named("a", 1, "[]"), named("../x", 1, "[]")}));
  CHECK_FALSE(names.apply({named("a", 1, "[]"), named("b", 1, "{}")}));
  CHECK(names.all().services.empty());
}

TEST_CASE(
    "names: a file that cannot be replaced is told to who waits, and written when it can be") {
  Disk disk;
  Names names(disk.dir.path(), "demo", disk.loop);
  REQUIRE(names.load());
  const std::string blocked = disk.dir / "registry/services/a.json";
  REQUIRE(makeDirs(blocked + "/x"));
  REQUIRE(names.apply({named("a", 1, "[]"), named("b", 1, "[]")}));
  int failed = 0;
  int written = 0;
  const auto count = [&](const Result<void>& done) { ++(done ? written : failed); };
  names.whenWritten(count);
  disk.clock.advance(Millis(1));
  disk.loop.turn(Millis(0));
  CHECK(failed == 1);
  CHECK(exists(disk.dir / "registry/services/b.json"));
  names.apply({named("a", 1, "[]")}).value();  // the same push, once more
  names.whenWritten(count);
  disk.clock.advance(Millis(1));
  disk.loop.turn(Millis(0));
  CHECK(failed == 2);
  REQUIRE(removeTree(blocked));
  disk.clock.advance(Millis(1000));
  disk.loop.turn(Millis(0));
  CHECK(readFile(blocked).value_or("").find("\"revision\":1,") != std::string::npos);
  names.whenWritten(count);
  CHECK(written == 1);
}

TEST_CASE("names: changes that never cease do not put off the files for ever") {
  Disk disk;
  Names names(disk.dir.path(), "demo", disk.loop);
  REQUIRE(names.load());
  const std::string file = disk.dir / "registry/services/a.json";
  uint64_t revision = 0;
  for (int i = 0; i < 25 && !exists(file); ++i) {  // two in each millisecond
    REQUIRE(names.apply({named("a", ++revision, "[]")}));
    if (i % 2 == 1) disk.clock.advance(Millis(1));
    if (i % 2 == 1) REQUIRE(names.apply({named("a", ++revision, "[]")}));
    disk.loop.turn(Millis(0));
  }
  CHECK(exists(file));
}

// What a file or a line shows of the endpoints of host1.
std::string stateIn(const std::string& text) {
  const auto json = parseJson(text);
  REQUIRE(json);
  const Json& endpoint = (*json)["endpoints"][0];
  const std::string registered = endpoint.value("registered", "");
  return endpoint["state"].get<std::string>() + (registered.empty() ? "" : "/" + registered);
}

TEST_CASE("names: a process of this host that is not ready is unhealthy to local readers at once") {
  Disk disk;
  const std::string list =
      R"([{"address":"10.0.0.1","host":"host1","instance":"a/0","ports":{"main":80},)"
      R"("state":"ready","version":"1"}])";
  bool ready = true;
  std::map<std::string, int> ports{{"main", 80}};
  const auto judge = [&](Names& names, const char* host) {
    names.judge(host, [&](const protocol::InstanceRef& ref, const auto& asked) {
      CHECK(ref.service == "a");
      return asked == ports ? std::optional<bool>(ready) : std::nullopt;
    });
  };
  const std::string file = disk.dir / "registry/services/a.json";
  {
    Names names(disk.dir.path(), "demo", disk.loop);
    judge(names, "host1");
    REQUIRE(names.load());
    std::vector<std::string> told;
    names.onChange(
        [&](const std::string& service) { told.push_back(stateIn(names.lineFor(service))); });
    REQUIRE(names.apply({named("a", 3, list)}));
    ready = false;
    names.localChange("a");
    CHECK(told.size() == 1);  // not in the middle of the turn
    disk.loop.turn(Millis(0));
    CHECK(told == std::vector<std::string>{"ready", "unhealthy/ready"});
    CHECK_FALSE(exists(file));  // those who heard it have their turn first
    untilWritten(disk, names);
    CHECK(stateIn(*readFile(file)) == "unhealthy/ready");
    CHECK(names.revisionOf("a") == 3);
    CHECK(names.all().services[0].endpoints.text == list);
    names.localChange("a");  // still the same
    disk.loop.turn(Millis(0));
    CHECK(told.size() == 2);
    REQUIRE(names.apply({named("a", 4, list)}));  // a push does not hide it
    CHECK(told.back() == "unhealthy/ready");
    ready = true;
    names.localChange();
    disk.loop.turn(Millis(0));
    CHECK(told.back() == "ready");
    untilWritten(disk, names);
    CHECK(stateIn(*readFile(file)) == "ready");
    ready = false;
    names.localChange();
    disk.loop.turn(Millis(0));
    names.finish();
    CHECK(stateIn(*readFile(file)) == "unhealthy/ready");
  }
  // The next shim knows what is registered, though the file shows what was the case.
  Names again(disk.dir.path(), "demo", disk.loop);
  judge(again, "host1");
  REQUIRE(again.load());
  CHECK(again.all().services[0].endpoints.text == list);
  // An instance with other ports, or of another host, is not this one's to judge.
  ports = {{"main", 81}};
  again.localChange();
  disk.loop.turn(Millis(0));
  CHECK(stateIn(again.lineFor("a")) == "ready");
  Names other(disk.dir.path(), "demo", disk.loop);
  ports = {{"main", 80}};
  judge(other, "host2");
  REQUIRE(other.load());
  other.localChange();
  disk.loop.turn(Millis(0));
  CHECK(stateIn(other.lineFor("a")) == "ready");
}

TEST_CASE("names: what comes from disk is as of its revision until a push confirms it") {
  Disk disk;
  {
    Names names(disk.dir.path(), "demo", disk.loop);
    REQUIRE(names.load());
    REQUIRE(names.apply({named("a", 2, "[]"), named("b", 3, "[]")}));
    CHECK(names.lineFor("a").find("as_of") == std::string::npos);
    untilWritten(disk, names);
  }
  Names names(disk.dir.path(), "demo", disk.loop);
  REQUIRE(names.load());
  CHECK(names.lineFor("a") ==
        "{\"format\":1,\"service\":\"a\",\"revision\":2,\"as_of\":2,\"endpoints\":[]}\n");
  const auto marked = [&](const char* path) {
    return readFile(disk.dir / path).value_or("").find("\"as_of\":2") != std::string::npos;
  };
  disk.clock.advance(Millis(1));
  turnUntil(disk.loop,
            [&] { return marked("registry/services/a.json") && marked("registry/registry.json"); });
  int told = 0;
  names.onChange([&](const std::string&) { ++told; });
  const auto applied = names.apply({named("a", 2, "[]")});
  REQUIRE(applied);
  CHECK(applied->empty());
  CHECK(told == 1);
  untilWritten(disk, names);
  CHECK_FALSE(marked("registry/services/a.json"));
  REQUIRE(names.apply({named("a", 2, "[]")}));
  CHECK(told == 1);
}

TEST_CASE("names: a registry of many services is written in slices and read by lines") {
  Disk disk;
  std::vector<protocol::NamedService> many;
  for (int i = 0; i < 500; ++i)
    many.push_back(named("s" + std::to_string(i), 1, "[\"" + std::string(1000, 'x') + "\"]"));
  uint64_t before = 0;
  {
    Names names(disk.dir.path(), "demo", disk.loop);
    REQUIRE(names.load());
    before = names.generation();
    REQUIRE(names.apply(many));
    untilWritten(disk, names);
    turnUntil(disk.loop, [&] { return names.generation() == before + 1; });
  }
  const auto text = readFile(disk.dir / "registry/registry.json");
  REQUIRE(text);
  CHECK((*parseJson(*text))["services"].size() == 500);
  REQUIRE(removeTree(disk.dir / "registry/services"));
  Names again(disk.dir.path(), "demo", disk.loop);
  REQUIRE(again.load());
  CHECK(again.problems().empty());
  CHECK(again.services().size() == 500);
  CHECK(again.generation() == before + 1);
  // Laid out in another way, by whoever restored it.
  REQUIRE(removeTree(disk.dir / "registry/services"));
  REQUIRE(replaceFile(disk.dir / "registry/registry.json", dumpJsonPretty(*parseJson(*text))));
  Names pretty(disk.dir.path(), "demo", disk.loop);
  REQUIRE(pretty.load());
  CHECK(pretty.services().size() == 500);
}

TEST_CASE("proc: the command name may hold anything") {
  const auto stat = parseProcStat(
      "42 (a) b (c)) S 1 42 43 0 -1 4194560 1 2 3 4 15 16 0 0 20 0 7 0 98765 1000 250 "
      "18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 9");
  REQUIRE(stat);
  CHECK(stat->state == 'S');
  CHECK(stat->parent == 1);
  CHECK(stat->group == 42);
  CHECK(stat->session == 43);
  CHECK(stat->user_ticks == 15);
  CHECK(stat->threads == 7);
  CHECK(stat->start_ticks == 98765);
  CHECK(stat->rss_pages == 250);
  CHECK_FALSE(parseProcStat(""));
  CHECK_FALSE(parseProcStat("1 (x) S 1"));
  CHECK(aliveProcess(::getpid(), readProcStat(::getpid())->start_ticks));
  CHECK_FALSE(aliveProcess(::getpid(), 1));
}

TEST_CASE("users: by name, by number, with groups; none is an error that names the user") {
  TempDir dir;
  REQUIRE(replaceFile(dir / "passwd",
                      "root:x:0:0:root:/root:/bin/sh\nbroken\n"
                      "solver:x:1001:1002:A solver,,,:/home/solver:/bin/false\n"));
  REQUIRE(replaceFile(dir / "group", "g1:x:2001:other,solver\ng2:x:2002:\ng3:x:2003:solverx\n"));
  const auto user = findUser("solver", dir / "passwd", dir / "group");
  REQUIRE(user);
  CHECK(user->uid == 1001);
  CHECK(user->gid == 1002);
  CHECK(user->home == "/home/solver");
  CHECK(user->groups == std::vector<gid_t>{1002, 2001});
  CHECK(findUser("1001", dir / "passwd", dir / "group")->name == "solver");
  const auto none = findUser("nobody2", dir / "passwd", dir / "group");
  REQUIRE_FALSE(none);
  CHECK(none.error().message.find("nobody2") != std::string::npos);
}

TEST_CASE("boot hook: texts, and crontabs that keep what is not ours") {
  CHECK(unitText("/opt/c", "demo").find("ExecStart=/opt/c/shim/current run --root /opt/c\n") !=
        std::string::npos);
  CHECK(unitText("/opt/c", "demo").find("KillMode=process\n") != std::string::npos);
  CHECK(unitText("/opt/c", "demo")
            .find("ExecStop=/opt/c/shim/current stop-with-host --root /opt/c\n") !=
        std::string::npos);
  CHECK(
      cronFileText("/opt/c", "demo").find("@reboot root /opt/c/shim/current start --root /opt/c") !=
      std::string::npos);
  CHECK(cronFileName("a.b") == "clusterctl-a_b");
  const std::string own = "MAILTO=me\n5 4 * * * backup";
  const std::string once = crontabWith(own, "/home/u/.c", "demo");
  CHECK(once.starts_with("MAILTO=me\n5 4 * * * backup\n# BEGIN clusterctl-demo\n@reboot "));
  CHECK(crontabWith(once, "/home/u/.c", "demo") == once);
  const std::string both = crontabWith(once, "/home/u/.d", "other");
  CHECK(crontabWithout(crontabWithout(both, "demo"), "other") == own + "\n");
}

TEST_CASE("versions: compared as numbers, a pre-release before its release") {
  CHECK(compareVersions("1.10.0", "1.9.9") > 0);
  CHECK(compareVersions("1.0", "1.0.0") == 0);
  CHECK(compareVersions("0.1.0", "0.1.1") < 0);
  CHECK(compareVersions("1.0.0-rc1", "1.0.0") < 0);
  CHECK(compareVersions("1.0.0-rc1", "1.0.0-rc2") < 0);
  CHECK(compareVersions("2", "10") < 0);
}

TEST_CASE("identity and operators: back as written, junk passed over; roots that cannot be") {
  TempDir dir;
  REQUIRE(makeDirs(dir / "shim"));
  REQUIRE(saveIdentity(dir.path(), {"demo", "h1", "10.0.0.1", true}));
  const auto identity = loadIdentity(dir.path());
  REQUIRE(identity);
  CHECK(identity->cluster == "demo");
  CHECK(identity->advertise == "10.0.0.1");
  CHECK(identity->boot_hook);
  REQUIRE(replaceFile(dir / "shim/operators", "1000\njunk\n12x\n\n1001"));
  CHECK(loadOperators(dir.path()) == std::set<unsigned>{1000, 1001});
  for (const char* bad : {"", "/", "x", "/a/", "/a b", "/a'b", "/a/../b", "//a", "/a\nb", "/a%b"})
    CHECK_FALSE(checkRoot(bad));
  CHECK_FALSE(checkRoot("/" + std::string(100, 'a')));
  CHECK(checkRoot("/opt/clusterctl"));
}

protocol::GenerationSpec spec() {
  protocol::GenerationSpec made;
  made.service = "svc";
  made.index = 0;
  made.generation = 1;
  made.version = "1.0";
  made.argv = {"bin/x"};
  made.config = {{"a.conf", "0640", "one"}, {"sub/b.conf", "0600", "two"}};
  return made;
}

TEST_CASE("generation files: whole or not at all, immutable, rewritten on demand") {
  TempDir dir;
  REQUIRE(writeGeneration(dir.path(), spec()));
  REQUIRE(writeGeneration(dir.path(), spec()));
  auto other = spec();
  other.argv = {"bin/y"};
  CHECK(writeGeneration(dir.path(), other).error().code == Code::kRefused);
  const std::string conf = dir / "services/svc/instances/0/generations/1/conf";
  struct stat info {};
  REQUIRE(::stat((conf + "/a.conf").c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0640);
  CHECK(*readGeneration(dir.path(), {"svc", 0}, 1) == spec());
  other = spec();
  other.config = {{"a.conf", "0600", "three"}};
  REQUIRE(rewriteConfig(dir.path(), other));
  CHECK(*readFile(conf + "/a.conf") == "three");
  CHECK_FALSE(exists(conf + "/sub/b.conf"));
  CHECK(*readGeneration(dir.path(), {"svc", 0}, 1) == other);
  REQUIRE(linkCurrent(dir.path(), {"svc", 0}, 1));
  CHECK(exists(dir / "services/svc/instances/0/current/spec.json"));
}

TEST_CASE("generation specs that cannot be are refused") {
  const auto bad = [](auto change) {
    auto made = spec();
    change(made);
    return !checkSpec(made);
  };
  CHECK(checkSpec(spec()));
  CHECK(bad([](auto& s) { s.argv.clear(); }));
  CHECK(bad([](auto& s) { s.argv = {std::string("a\0b", 3)}; }));
  CHECK(bad([](auto& s) { s.env["A=B"] = "x"; }));
  CHECK(bad([](auto& s) { s.index = -1; }));
  CHECK(bad([](auto& s) { s.service = "../x"; }));
  CHECK(bad([](auto& s) { s.version = "specs"; }));
  CHECK(bad([](auto& s) { s.ports["a"] = 70000; }));
  CHECK(bad([](auto& s) { s.stop_signal = 0; }));
  CHECK(bad([](auto& s) { s.config[0].path = "../x"; }));
  CHECK(bad([](auto& s) { s.config[0].mode = "4755"; }));
  CHECK(bad([](auto& s) { s.config[1].path = "a.conf/x"; }));
  CHECK(bad([](auto& s) { s.ready = {protocol::ProbeKind::kTcp, "none", "", {}}; }));
  CHECK(bad([](auto& s) { s.ready = {protocol::ProbeKind::kExec, "", "", {}}; }));
}

TEST_CASE("exit log: finds by pid and start time, keeps the newest") {
  auto memory = ExitLog::makeMemory();
  REQUIRE(memory);
  std::optional<ExitLog> log(std::in_place, std::move(*memory));
  for (int i = 1; i <= 5000; ++i) log->add({i, i << 8, 1000u + static_cast<uint64_t>(i), 1, 2, 3});
  CHECK(log->find(5000, 6000)->status == 5000 << 8);
  CHECK(log->find(1000, 2000));
  CHECK_FALSE(log->find(1, 1001));
  CHECK_FALSE(log->find(5000, 1));
  CHECK_FALSE(ExitLog(Fd()).find(1, 1));
}

TEST_CASE("loop: timers in order, cancelled ones never, work at the turn's end") {
  ManualClock clock;
  EventLoop loop(clock);
  std::string order;
  Timer second = loop.after(Millis(20), [&] { order += "2"; });
  Timer first = loop.after(Millis(10), [&] { order += "1"; });
  Timer never = loop.after(Millis(15), [&] { order += "x"; });
  never.reset();
  loop.soon([&] { loop.atTurnEnd([&] { order += "e"; }); });
  loop.turn(Millis(0));
  CHECK(order == "e");
  CHECK(first.pending());
  clock.advance(Millis(30));
  loop.turn(Millis(0));
  CHECK(order == "e12");
  CHECK_FALSE(first.pending());
}

TEST_CASE("loop: a callback may end its own watch and others'") {
  SystemClock clock;
  EventLoop loop(clock);
  int pipe_ends[2];
  REQUIRE(::pipe2(pipe_ends, O_CLOEXEC) == 0);
  const Fd read_end(pipe_ends[0]);
  const Fd write_end(pipe_ends[1]);
  const Fd copy(::dup(read_end.get()));
  int calls = 0;
  Watch a;
  Watch b;
  const auto end_both = [&](uint32_t) {
    ++calls;
    a.reset();
    b.reset();
  };
  a = loop.watch(read_end.get(), EPOLLIN, end_both);
  b = loop.watch(copy.get(), EPOLLIN, end_both);
  REQUIRE(writeAll(write_end.get(), "x"));
  loop.turn(Millis(10));
  loop.turn(Millis(0));
  CHECK(calls == 1);
}

}  // namespace
}  // namespace cctl::shim
