// What a supervisor leaves to the next one.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "shim/fd_store.h"
#include "shim/log_capture.h"
#include "shim/log_mover.h"
#include "shim/sealed_file.h"
#include "shim/state.h"
#include "shim/survivors.h"
#include "support.h"

namespace cctl::shim {
namespace {

Fd copy(const Fd& fd) { return Fd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3)); }

ino_t inodeOf(int fd) {
  struct stat info {};
  REQUIRE(::fstat(fd, &info) == 0);
  return info.st_ino;
}

Fd anyFile() { return Fd(::memfd_create("any", MFD_CLOEXEC)); }

TEST_CASE("fd store: the next one finds what was kept, the newest under each name, and no more") {
  auto ends = FdStore::makeEnds();
  REQUIRE(ends);
  const Fd a = anyFile();
  const Fd b = anyFile();
  const Fd c = anyFile();
  {
    FdStore store(copy(ends->first), copy(ends->second));
    REQUIRE(store.park("one", {a.get(), b.get()}));
    REQUIRE(store.park("two", {b.get()}));
    REQUIRE(store.park("three", {c.get()}));
    REQUIRE(store.park("two", {c.get()}));
    store.drop("three");
  }
  for (int round = 0; round < 3; ++round) {  // looking takes nothing away
    FdStore store(copy(ends->first), copy(ends->second));
    store.load();
    const auto one = store.take("one");
    REQUIRE(one.size() == 2);
    CHECK(inodeOf(one[0].get()) == inodeOf(a.get()));
    CHECK(inodeOf(one[1].get()) == inodeOf(b.get()));
    const auto two = store.take("two");
    REQUIRE(two.size() == 1);
    CHECK(inodeOf(two[0].get()) == inodeOf(c.get()));
    CHECK(store.take("two").empty());
    CHECK(store.take("none").empty());
  }
  FdStore store(copy(ends->first), copy(ends->second));
  store.load();
  CHECK(store.take("one").size() == 2);
  store.dropUntaken();
  for (int i = 0; i < 200; ++i) REQUIRE(store.park("busy", {a.get()}));  // compacts on its way
  FdStore last(copy(ends->first), copy(ends->second));
  last.load();
  CHECK(last.take("one").size() == 2);
  CHECK(last.take("two").empty());
  CHECK(last.take("busy").size() == 1);
}

TEST_CASE("fd store: without an anchor nothing is kept, and too much is refused") {
  FdStore store((Fd()), Fd());
  CHECK_FALSE(store.park("x", {1}));
  store.load();
  CHECK(store.take("x").empty());
  auto ends = FdStore::makeEnds();
  FdStore real(std::move(ends->first), std::move(ends->second));
  CHECK_FALSE(real.park("x", std::vector<int>(17, 1)));
  CHECK_FALSE(real.park(std::string(300, 'n'), {1}));
  CHECK_FALSE(real.park("", {1}));
}

TEST_CASE("survivors: slots by name, seen by the next, reused after release") {
  auto memory = Survivors::makeMemory();
  REQUIRE(memory);
  auto first = Survivors::open(copy(*memory));
  REQUIRE(first);
  CHECK_FALSE(first->inherited());
  first->markInherited();
  first->slot("svc/0/1")->pid = 42;
  first->slot("svc/1/1")->pid = 43;
  auto second = Survivors::open(copy(*memory));
  CHECK(second->inherited());
  CHECK(second->pidOf("svc/0/1") == 42);
  CHECK(second->pidOf("svc/2/1") == 0);
  second->release("svc/0/1");
  CHECK(second->pidOf("svc/0/1") == 0);
  CHECK(second->slot("svc/5/1") == second->slot("svc/5/1"));
  CHECK(second->pidOf("svc/1/1") == 43);
  CHECK(second->slot(std::string(200, 'x')) == nullptr);
  for (size_t i = 2; i < Survivors::kSlots; ++i)
    REQUIRE(second->slot("other/" + std::to_string(i)));
  CHECK(second->slot("one/too/many") == nullptr);
}

struct Logging {
  TempDir dir;
  ManualClock clock;
  EventLoop loop{clock};
  Fd memory = std::move(*Survivors::makeMemory());
  Fd stage = std::move(*LogMover::makeStage());
  LogFile file{dir.path(), {1000, 3}, clock};
  LogPipe out = std::move(*LogPipe::make());
  LogPipe err = std::move(*LogPipe::make());

  // As the next supervisor gets them: other descriptors of the same pipes.
  LogPipes pipes() {
    return {std::move(*LogPipe::of(copy(out.read), copy(out.write))),
            std::move(*LogPipe::of(copy(err.read), copy(err.write)))};
  }
  void say(const std::string& text) {
    REQUIRE(::write(out.write.get(), text.data(), text.size()) ==
            static_cast<ssize_t>(text.size()));
  }
  std::string logged() {
    LogFile::Position from = file.tail(1'000'000);
    std::string all;
    for (std::string part = file.read(from, 100'000); !part.empty();
         part = file.read(from, 100'000))
      all += part;
    return all;
  }
};

std::string withoutStamps(const std::string& text) {
  std::string plain;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    plain += text.substr(at + 27, end - at - 26);
    at = end + 1;
  }
  return plain;
}

TEST_CASE("log capture: whole lines, an unfinished one stays in its pipe until it ends") {
  Logging l;
  auto survivors = Survivors::open(copy(l.memory));
  auto mover = LogMover::open(copy(l.stage), *survivors);
  {
    LogCapture capture(l.loop, *mover, l.file, "svc/0/1", l.pipes());
    l.say("one\ntwo\nthr");
    l.loop.turn(Millis(0));
    CHECK(withoutStamps(l.logged()) == "one\ntwo\n");
    CHECK(capture.lastLines() == std::vector<std::string>{"one", "two"});
  }
  // The supervisor is gone in between; the beginning of the line is not.
  LogCapture capture(l.loop, *mover, l.file, "svc/0/1", l.pipes());
  l.say("ee\n");
  l.loop.turn(Millis(0));
  CHECK(withoutStamps(l.logged()) == "one\ntwo\nthree\n");
  l.say("last");
  capture.drain();
  CHECK(withoutStamps(l.logged()) == "one\ntwo\nthree\nlast\n");
  CHECK(l.logged().substr(24, 3) == " O ");
}

// Found by the fault suite: more was in the pipe than is looked at in one go, and the line at the
// edge became two.
TEST_CASE("log capture: much that is left at the end of a run is drained in whole lines") {
  Logging l;
  l.file.setLimits({10u << 20, 3});
  auto survivors = Survivors::open(copy(l.memory));
  auto mover = LogMover::open(copy(l.stage), *survivors);
  LogCapture capture(l.loop, *mover, l.file, "svc/0/1", l.pipes());
  std::string expected;
  for (int i = 0; expected.size() < 200'000; ++i) expected += "line " + std::to_string(i) + "\n";
  l.say(expected + "unfinished");
  capture.drain();
  CHECK(withoutStamps(l.logged()) == expected + "unfinished\n");
}

TEST_CASE("log capture: long lines are cut, much output is rotated and nothing is lost") {
  Logging l;
  l.file.setLimits({10'000, 1000});
  auto survivors = Survivors::open(copy(l.memory));
  auto mover = LogMover::open(copy(l.stage), *survivors);
  LogCapture capture(l.loop, *mover, l.file, "svc/0/1", l.pipes());
  std::string expected;
  for (int i = 0; i < 5000; ++i) expected += "line " + std::to_string(i) + "\n";
  l.say(expected);
  for (int i = 0; i < 20; ++i) l.loop.turn(Millis(0));
  CHECK(withoutStamps(l.logged()) == expected);
  CHECK(capture.lastLines().size() == LogCapture::kLastLines);
  CHECK(capture.lastLines().back() == "line 4999");
  l.say(std::string(40'000, 'x') + "\n");
  for (int i = 0; i < 20; ++i) l.loop.turn(Millis(0));
  const std::string tail = withoutStamps(l.logged()).substr(expected.size());
  CHECK(std::count(tail.begin(), tail.end(), 'x') == 40'000);
  CHECK(std::count(tail.begin(), tail.end(), '\n') == 3);
}

// Every way in which a supervisor can be killed in the middle of a move: before and after the bytes
// were taken, and with none, half or all of the lines in the log.
TEST_CASE("log capture: a move that was cut off is done again, once") {
  for (const bool taken : {false, true}) {
    for (const double written : {0.0, 0.5, 1.0}) {
      if (!taken && written > 0) continue;
      Logging l;
      auto survivors = Survivors::open(copy(l.memory));
      l.say("zero\n");
      {
        auto mover = LogMover::open(copy(l.stage), *survivors);
        LogCapture capture(l.loop, *mover, l.file, "svc/0/1", l.pipes());
        capture.drain();
        l.say("one\ntwo\nthree\n");
        const auto room = l.file.roomFor("x\n");
        REQUIRE(room);
        mover->take(taken ? l.out.read.get() : -1, {"svc/0/1", 'O', room->inode, room->size, 14});
        std::string lines;
        for (const char* line : {"one", "two", "three"})
          lines += "2026-11-23T10:00:00.123Z O " + std::string(line) + "\n";
        lines.resize(static_cast<size_t>(static_cast<double>(lines.size()) * written));
        if (!lines.empty()) l.file.append(lines, 3);
      }  // killed
      auto mover = LogMover::open(copy(l.stage), *survivors);
      REQUIRE(mover->unfinished());
      CHECK(mover->unfinished()->name == "svc/0/1");
      LogCapture capture(l.loop, *mover, l.file, "svc/0/1", l.pipes());
      capture.finishMove(*mover->unfinished());
      CHECK_FALSE(mover->unfinished());
      l.say("four\n");
      capture.drain();
      CHECK(withoutStamps(l.logged()) == "zero\none\ntwo\nthree\nfour\n");
    }
  }
}

TEST_CASE(
    "log capture: the last lines of an adopted run are read back, not those of earlier runs") {
  Logging l;
  auto survivors = Survivors::open(copy(l.memory));
  auto mover = LogMover::open(copy(l.stage), *survivors);
  LogCapture capture(l.loop, *mover, l.file, "svc/0/1", l.pipes());
  l.say("of an earlier run\n");
  capture.drain();
  l.clock.advance(Millis(1000));
  const WallTime begun = l.clock.wall();
  l.say("one\ntwo\n");
  capture.drain();
  capture.resumeRun(begun);
  CHECK(capture.lastLines() == std::vector<std::string>{"one", "two"});
  capture.resumeRun(begun + Millis(1));
  CHECK(capture.lastLines().empty());
}

TEST_CASE("state: in memory at the turn's end, in the file later; the newer one counts") {
  TempDir dir;
  ManualClock clock;
  EventLoop loop{clock};
  const std::string path = dir / "state.json";
  auto memory = StateMemory::makeMemory();
  REQUIRE(memory);
  {
    State state(path, loop, StateMemory(copy(*memory)));
    REQUIRE(state.load());
    for (int i = 0; i < 3; ++i) state.findOrMake({"svc", i}).current = 1;
    state.touch();
    loop.turn(Millis(0));
    CHECK_FALSE(exists(path));
    clock.advance(Millis(250));
    for (int i = 0; i < 200 && !exists(path); ++i) loop.turn(Millis(50));
    REQUIRE(exists(path));
    CHECK(*readSealed(path, "state") == Json::parse(encodeState(state.data())));
    state.findOrMake({"svc", 1}).current = 9;
    state.data().tokens["svc"] = 3;
    state.erase({"svc", 2});
    loop.turn(Millis(0));
  }  // killed before the file was written again
  State next(path, loop, StateMemory(copy(*memory)));
  REQUIRE(next.load());
  CHECK(next.find({"svc", 1})->current == 9);
  CHECK(next.find({"svc", 0})->current == 1);
  CHECK(next.find({"svc", 2}) == nullptr);
  CHECK(next.data().tokens["svc"] == 3);
  State alone(path, loop);
  REQUIRE(alone.load());
  CHECK(alone.find({"svc", 1})->current == 1);
}

TEST_CASE("state: what the disk did not take is written once it can be, without another change") {
  TempDir dir;
  ManualClock clock;
  EventLoop loop{clock};
  const std::string path = dir / "missing/state.json";
  State state(path, loop);
  state.findOrMake({"svc", 0}).current = 1;
  state.touch();
  bool refused = false;
  state.whenDurable([&](const Result<void>& written) { refused = !written; });
  turnUntil(loop, [&] { return refused; });
  REQUIRE(makeDirs(dir / "missing"));
  for (int i = 0; i < 5; ++i) loop.turn(Millis(0));
  CHECK_FALSE(exists(path));  // nor does the loop spin
  clock.advance(Millis(5000));
  turnUntil(loop, [&] { return exists(path); });
  CHECK(*readSealed(path, "state") == Json::parse(encodeState(state.data())));
}

}  // namespace
}  // namespace cctl::shim
