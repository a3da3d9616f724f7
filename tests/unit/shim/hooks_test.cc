#include "shim/hooks.h"

#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "model/host_paths.h"
#include "support.h"

namespace cctl::shim {
namespace {

using protocol::AlertKind;
using protocol::EventKind;

const Identity kIdentity{"demo", "host1", "", true};

// What hooks need of a shim, in a directory of its own.
struct TestHost {
  TempDir dir;
  SystemClock clock;
  EventLoop loop{clock};
  Journal journal{dir / "journal", loop};

  TestHost() {
    REQUIRE(makeDirs(paths::shimStateDir(dir.path())));
    REQUIRE(journal.open());
  }

  // A program that keeps what it read, and then goes on with `more`.
  std::string program(const std::string& name, const std::string& more) {
    const std::string path = dir / name;
    REQUIRE(replaceFile(path, "#!/bin/sh\ncat >> \"$0.in\"; echo \"$@\" >> \"$0.args\"\n" + more,
                        0755));
    return path;
  }
  std::string textOf(const std::string& name) {
    const auto text = readFile(dir / name);
    return text ? *text : "";
  }
  // As the next shim finds them.
  std::vector<protocol::Hook> stored() {
    return Hooks(dir.path(), kIdentity, loop, journal).hooks();
  }
  std::vector<protocol::Event> failures() {
    std::vector<protocol::Event> found;
    for (const protocol::Event& event : journal.read(0, std::nullopt, 1000))
      if (event.kind == EventKind::kHook) found.push_back(event);
    return found;
  }
  void happen(std::optional<AlertKind> alert, EventKind kind = EventKind::kExit) {
    protocol::Event event;
    event.kind = kind;
    event.service = "web";
    event.index = 2;
    event.text = "signal 11 (SEGV)";
    event.alert = alert;
    journal.append(std::move(event));
  }
};

TEST_CASE("hooks: run for what they are for, with the event on standard input") {
  TestHost test;
  Hooks hooks(test.dir.path(), kIdentity, test.loop, test.journal);
  const std::string path = test.program("page", "");
  REQUIRE(hooks.replace({{{AlertKind::kCrash}, {path, "--team", "a b"}}}));
  test.happen(std::nullopt);
  test.happen(AlertKind::kUnhealthy, EventKind::kUnhealthy);
  test.happen(AlertKind::kCrash);
  turnUntil(test.loop, [&] { return !test.textOf("page.args").empty(); });
  CHECK(test.textOf("page.args") == "--team a b\n");
  const auto json = parseJson(test.textOf("page.in"));
  REQUIRE(json);
  CHECK((*json)["alert"] == "crash");
  CHECK((*json)["kind"] == "exit");
  CHECK((*json)["service"] == "web");
  CHECK((*json)["index"] == 2);
  CHECK((*json)["host"] == "host1");
  CHECK((*json)["cluster"] == "demo");
  CHECK(test.failures().empty());
}

TEST_CASE("hooks: one that fails is journalled with its exit and what it said") {
  TestHost test;
  Hooks hooks(test.dir.path(), kIdentity, test.loop, test.journal);
  const std::string path = test.program("page", "echo no pager >&2\nexit 3\n");
  REQUIRE(hooks.replace({{{AlertKind::kCrashLoop}, {path}}, {{AlertKind::kCrashLoop}, {"/nope"}}}));
  test.happen(AlertKind::kCrashLoop, EventKind::kFailed);
  turnUntil(test.loop, [&] { return test.failures().size() == 2; });
  auto failures = test.failures();
  if (failures[0].text.find("/nope") != std::string::npos) std::swap(failures[0], failures[1]);
  CHECK(failures[0].text == "alert " + path + " failed: exit status 3");
  CHECK(failures[0].service == "web");
  CHECK(failures[0].index == 2);
  CHECK(failures[0].exit->last_lines == std::vector<std::string>{"no pager"});
  CHECK(failures[1].text == "alert /nope failed: exit status 127");
}

TEST_CASE("hooks: one that hangs is killed with all that it started") {
  TestHost test;
  Hooks hooks(test.dir.path(), kIdentity, test.loop, test.journal, {Millis(100), 4, 64});
  const std::string path = test.program("page", "sleep 1000 & echo $! > \"$0.child\"\nwait\n");
  REQUIRE(hooks.replace({{{AlertKind::kCrash}, {path}}}));
  test.happen(AlertKind::kCrash);
  turnUntil(test.loop, [&] { return test.failures().size() == 1; });
  CHECK(test.failures()[0].text == "alert " + path + " failed: killed after 100ms");
}

TEST_CASE("hooks: so many at once, so many waiting, the others counted") {
  TestHost test;
  Hooks hooks(test.dir.path(), kIdentity, test.loop, test.journal, {Millis(30'000), 1, 2});
  const std::string path = test.program("page", "");
  REQUIRE(hooks.replace({{{AlertKind::kCrash}, {path, "x"}}}));
  for (int i = 0; i < 5; ++i) test.happen(AlertKind::kCrash);
  turnUntil(test.loop, [&] { return test.textOf("page.args") == "x\nx\n"; });
  turnUntil(test.loop, [&] { return test.failures().size() == 1; });
  CHECK(test.failures()[0].text == "3 alerts not run: more than 2 were waiting");
}

TEST_CASE("hooks: kept over a restart of the shim; nonsense is refused and changes nothing") {
  TestHost test;
  const std::vector<protocol::Hook> wanted = {{{AlertKind::kCrash}, {"/bin/true", "x"}}};
  {
    Hooks hooks(test.dir.path(), kIdentity, test.loop, test.journal);
    REQUIRE(hooks.replace(wanted));
    CHECK_FALSE(hooks.replace({{{AlertKind::kCrash}, {"true"}}}));
    CHECK_FALSE(hooks.replace({{{AlertKind::kCrash}, {}}}));
    CHECK_FALSE(hooks.replace({{{}, {"/bin/true"}}}));
    CHECK_FALSE(hooks.replace({{{AlertKind::kCrash}, {"/bin/true", std::string("a\0b", 3)}}}));
    CHECK(hooks.hooks() == wanted);
  }
  CHECK(test.stored() == wanted);
  test.journal.flush();
  const uint64_t before = test.journal.lastSeq();
  Hooks again(test.dir.path(), kIdentity, test.loop, test.journal);
  REQUIRE(again.replace(wanted));
  test.journal.flush();
  CHECK(test.journal.lastSeq() == before);  // the same again is nothing to tell
}

TEST_CASE("hooks: a damaged file of them is told, and the next order puts it right") {
  TestHost test;
  REQUIRE(replaceFile(paths::hooksFile(test.dir.path()), "{}"));
  Hooks hooks(test.dir.path(), kIdentity, test.loop, test.journal);
  CHECK(hooks.hooks().empty());
  turnUntil(test.loop, [&] { return test.journal.lastSeq() == 1; });
  const auto told = test.journal.read(0, std::nullopt, 10);
  CHECK(told[0].kind == EventKind::kLost);
  CHECK(told[0].text.find("hooks.json") != std::string::npos);
  REQUIRE(hooks.replace({{{AlertKind::kCrash}, {"/bin/true"}}}));
  CHECK(test.stored().size() == 1);
}

}  // namespace
}  // namespace cctl::shim
