// The acceptor on a disk that loses what was not synced, is full, or fails.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "registry/acceptor_store.h"

using namespace cctl;
using namespace cctl::registry;

namespace {

class Disk {
 public:
  Disk() {
    char name[] = "/tmp/cctl-acceptor-XXXXXX";
    path = ::mkdtemp(name);
  }
  ~Disk() { (void)removeTree(path); }
  // Appends up to `room` bytes, then says ENOSPC after a short write.
  LogIo io() {
    return {[this](int fd, std::string_view bytes) -> Result<void> {
              if (bytes.size() > room) {
                (void)writeAll(fd, bytes.substr(0, room));
                return failErrno(ENOSPC, "write");
              }
              return writeAll(fd, bytes);
            },
            [this](int fd, std::function<void(int)> done) {
              ++syncs;
              synced = static_cast<size_t>(::lseek(fd, 0, SEEK_END));
              if (hold)
                held = std::move(done);
              else
                done(sync_error);
            }};
  }
  std::unique_ptr<AcceptorStore> open() {
    auto store = AcceptorStore::open(path, clock, io());
    REQUIRE_MESSAGE(store, store.error().message);
    return std::move(*store);
  }
  std::string log() const { return path + "/1.log"; }

  std::string path;
  ManualClock clock;
  size_t room = SIZE_MAX;
  int sync_error = 0;
  int syncs = 0;
  size_t synced = 0;
  bool hold = false;
  std::function<void(int)> held;
};

// One acceptor that is its whole registry, spoken to by hand.
class Speaker {
 public:
  explicit Speaker(AcceptorStore& store) : store_(store) {
    AcceptorRequest request = make(AcceptorAct::kInstall, "");
    request.membership = Membership{"c", {1, 1}, {{{"h", store.uuid()}}, false}, std::nullopt};
    (void)send(request);
    store_.flush();
  }
  AcceptorRequest make(AcceptorAct act, const std::string& key, uint64_t counter = 0) {
    AcceptorRequest request;
    request.act = act;
    request.id = ++id_;
    request.acceptor = store_.uuid();
    request.epoch = {1, 1};
    request.key = key;
    if (counter != 0) request.ballot = {counter, {1, counter}};
    if (act == AcceptorAct::kAccept)
      request.state = RegisterState{counter, {std::to_string(counter)}, {}};
    return request;
  }
  std::shared_ptr<std::optional<AcceptorReply>> send(const AcceptorRequest& request) {
    auto slot = std::make_shared<std::optional<AcceptorReply>>();
    store_.submit(request, [slot](AcceptorReply reply) { *slot = std::move(reply); });
    return slot;
  }
  AcceptorReply ask(const AcceptorRequest& request) {
    const auto slot = send(request);
    store_.flush();
    REQUIRE(*slot);
    return **slot;
  }
  AcceptorReply accept(const std::string& key, uint64_t counter) {
    return ask(make(AcceptorAct::kAccept, key, counter));
  }
  AcceptorReply read(const std::string& key) { return ask(make(AcceptorAct::kRead, key)); }

 private:
  AcceptorStore& store_;
  uint64_t id_ = 0;
};

}  // namespace

TEST_CASE("many requests share one sync, and none is answered before it") {
  Disk disk;
  auto store = disk.open();
  Speaker speaker(*store);
  disk.syncs = 0;
  std::vector<std::shared_ptr<std::optional<AcceptorReply>>> slots;
  for (uint64_t i = 1; i <= 20; ++i)
    slots.push_back(speaker.send(speaker.make(AcceptorAct::kAccept, "k" + std::to_string(i), i)));
  slots.push_back(speaker.send(speaker.make(AcceptorAct::kRead, "k1")));
  for (const auto& slot : slots) CHECK_FALSE(slot->has_value());
  store->flush();
  for (const auto& slot : slots) CHECK(slot->has_value());
  CHECK(disk.syncs == 1);
  CHECK((*slots.back())->state->revision == 1);
}

TEST_CASE("a sync under way holds back even reads; what comes meanwhile goes with the next") {
  Disk disk;
  auto store = disk.open();
  Speaker speaker(*store);
  disk.hold = true;
  const auto first = speaker.send(speaker.make(AcceptorAct::kAccept, "a", 1));
  store->flush();
  const auto second = speaker.send(speaker.make(AcceptorAct::kAccept, "a", 2));
  const auto read = speaker.send(speaker.make(AcceptorAct::kRead, "a"));
  CHECK_FALSE(store->hasWork());
  std::exchange(disk.held, {})(0);
  CHECK(first->has_value());
  CHECK_FALSE(second->has_value());
  CHECK_FALSE(read->has_value());
  std::exchange(disk.held, {})(0);
  CHECK((*read)->state->revision == 2);
}

TEST_CASE("what was answered for survives the loss of everything that was not synced") {
  Disk disk;
  {
    auto store = disk.open();
    Speaker speaker(*store);
    REQUIRE(speaker.accept("a", 1).refusal == Refusal::kNone);
    REQUIRE(speaker.ask(speaker.make(AcceptorAct::kPrepare, "a", 9)).refusal == Refusal::kNone);
    disk.hold = true;
    const auto lost = speaker.send(speaker.make(AcceptorAct::kAccept, "a", 10));
    store->flush();
    CHECK_FALSE(lost->has_value());
  }
  disk.hold = false;
  const std::string all = readFile(disk.log()).value();
  // The last record was never synced: any part of it may be there.
  for (size_t cut = 0; cut < 60; cut += 7) {
    REQUIRE(replaceFile(disk.log(), all.substr(0, all.size() - 1 - cut)));
    auto store = disk.open();
    Speaker speaker(*store);
    CHECK(speaker.read("a").state->revision == 1);
    CHECK(speaker.accept("a", 8).refusal == Refusal::kLowerBallot);  // promised 9
  }
}

TEST_CASE(
    "a full disk refuses, forgets what it could not write, and serves on when there is room") {
  Disk disk;
  auto store = disk.open();
  Speaker speaker(*store);
  REQUIRE(speaker.accept("a", 1).refusal == Refusal::kNone);
  const std::string before = readFile(disk.log()).value();
  for (const size_t room : {size_t{0}, size_t{1}, size_t{30}}) {
    disk.room = room;
    const AcceptorReply reply = speaker.accept("a", 2);
    CHECK(reply.refusal == Refusal::kNotServing);
    CHECK(reply.why.find("No space left") != std::string::npos);
    CHECK(readFile(disk.log()).value() == before);
    CHECK(speaker.read("a").state->revision == 1);
  }
  disk.room = SIZE_MAX;
  CHECK(speaker.accept("a", 2).refusal == Refusal::kNone);
  CHECK(disk.open()->membership()->cluster == "c");
}

TEST_CASE("a disk that cannot sync ends the service for good") {
  Disk disk;
  auto store = disk.open();
  Speaker speaker(*store);
  disk.sync_error = EIO;
  CHECK(speaker.accept("a", 1).refusal == Refusal::kNotServing);
  disk.sync_error = 0;
  CHECK(speaker.read("a").refusal == Refusal::kNotServing);
  CHECK(speaker.accept("b", 1).why.find("restart the shim") != std::string::npos);
  CHECK_FALSE(store->hasWork());
}

TEST_CASE("an acceptor's disk: damage, a missing log, a torn log before the last are refused") {
  Disk disk;
  {
    auto store = disk.open();
    Speaker speaker(*store);
    REQUIRE(speaker.accept("a", 1).refusal == Refusal::kNone);
    REQUIRE(speaker.accept("a", 2).refusal == Refusal::kNone);
  }
  const std::string whole = readFile(disk.log()).value();
  std::string damaged = whole;
  damaged[logMagic().size() + 20] ^= 1;
  REQUIRE(replaceFile(disk.log(), damaged));
  CHECK(AcceptorStore::open(disk.path, disk.clock).error().code == Code::kCorrupt);
  REQUIRE(replaceFile(disk.log(), whole.substr(0, whole.size() - 3)));
  REQUIRE(replaceFile(disk.path + "/2.log", logMagic()));
  CHECK(AcceptorStore::open(disk.path, disk.clock).error().code == Code::kCorrupt);
  REQUIRE(replaceFile(disk.log(), whole));
  CHECK(AcceptorStore::open(disk.path, disk.clock).has_value());
  REQUIRE(replaceFile(disk.path + "/4.log", logMagic()));
  CHECK(AcceptorStore::open(disk.path, disk.clock).error().message.find("3.log is missing") !=
        std::string::npos);
}

TEST_CASE("a wiped disk is another acceptor") {
  Disk disk;
  const std::string uuid = disk.open()->uuid();
  CHECK(disk.open()->uuid() == uuid);
  REQUIRE(removeTree(disk.path));
  auto store = disk.open();
  CHECK(store->uuid() != uuid);
  AcceptorRequest request;
  request.act = AcceptorAct::kPrepare;
  request.acceptor = uuid;
  Refusal refusal = Refusal::kNone;
  store->submit(request, [&](const AcceptorReply& reply) { refusal = reply.refusal; });
  CHECK(refusal == Refusal::kWrongAcceptor);
}

TEST_CASE("the logs are rotated behind a snapshot, and a snapshot ahead of its log does no harm") {
  Disk disk;
  std::vector<std::function<void()>> late;
  auto opened = AcceptorStore::open(disk.path, disk.clock, disk.io(),
                                    [&](std::function<void()> work) { late.push_back(work); });
  auto store = std::move(*opened);
  Speaker speaker(*store);
  const std::string big = "\"" + std::string(200'000, 'x') + "\"";
  for (uint64_t i = 1; i <= 100; ++i) {
    AcceptorRequest request = speaker.make(AcceptorAct::kAccept, "big", i);
    request.state->value.text = big;
    REQUIRE(speaker.ask(request).refusal == Refusal::kNone);
  }
  REQUIRE(speaker.accept("a", 5).refusal == Refusal::kNone);
  CHECK(late.size() > 3);
  CHECK(exists(disk.log()));
  CHECK(disk.open()->uuid() == store->uuid());  // the snapshots were never written
  late.back()();                                // and one, late
  CHECK_FALSE(exists(disk.log()));
  store.reset();
  auto again = disk.open();
  Speaker after(*again);
  CHECK(after.read("big").state->revision == 100);
  CHECK(after.read("a").state->revision == 5);
  CHECK(after.accept("a", 5).refusal == Refusal::kLowerBallot);
}

TEST_CASE("the values of the single store are imported, with their revisions, once") {
  Disk disk;
  std::string bytes(logMagic());
  for (const char* line : {R"({"key":"config","revision":1,"value":{"format":1}})",
                           R"({"key":"desired/s","revision":1,"value":{"v":1}})",
                           R"({"key":"desired/s","revision":2,"value":{"v":2}})",
                           R"({"key":"lock/s","revision":9,"value":null})"})
    bytes += encodeRecord(std::string_view(line));
  REQUIRE(replaceFile(disk.path + "/registers.log", bytes));
  REQUIRE(replaceFile(disk.path + "/uuid", "0123456789abcdef0123456789abcdef\n"));
  {
    auto store = disk.open();
    CHECK_FALSE(exists(disk.path + "/registers.log"));
  }
  auto store = disk.open();
  AcceptorRequest request;
  AcceptorReply identity;
  store->submit(request, [&](AcceptorReply reply) { identity = std::move(reply); });
  CHECK(identity.imported);
  CHECK(identity.registers == 2);
  Speaker speaker(*store);
  CHECK(speaker.read("desired/s").state->value.text == R"({"v":2})");
  CHECK(speaker.read("lock/s").state->revision == 9);
  CHECK_FALSE(speaker.read("config").state);
}

TEST_CASE("an acceptor that is told to discard goes on as another one, on the disk too") {
  Disk disk;
  auto store = disk.open();
  const std::string before = store->uuid();
  Speaker speaker(*store);
  REQUIRE(speaker.accept("a", 1).refusal == Refusal::kNone);
  AcceptorRequest request = speaker.make(AcceptorAct::kDiscard, "");
  CHECK(speaker.ask(request).refusal == Refusal::kBadRequest);
  request.forced = true;
  CHECK(speaker.ask(request).acceptor == store->uuid());
  CHECK(store->uuid() != before);
  CHECK(disk.open()->uuid() == store->uuid());
  CHECK_FALSE(disk.open()->membership());
}
