#include "ops/history.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "unit/ops/memory_registers.h"

using namespace cctl;
using namespace cctl::ops;

namespace {

const ServiceName kWeb("web");

HistoryEntry entryOf(const std::string& id, const std::string& to = "1.0.0") {
  HistoryEntry entry;
  entry.service = kWeb;
  entry.change.identity = {"alice", "ws1", "boot", 7, "https://ci/1"};
  entry.change.command = "clusterctl deploy web " + to;
  entry.change.began = WallTime(Millis(1'700'000'000'000));
  entry.change.id = id;
  entry.change.action = "deploy";
  entry.change.from = "0.9.0";
  entry.change.to = to;
  entry.change.signed_by = {"qa@example.com"};
  entry.ended = WallTime(Millis(1'700'000'002'000));
  entry.end = {Ending::kRolledBack, "web/0 on host1: exit status 3"};
  return entry;
}

// Replaces a register behind everybody's back.
void tamper(registry::Registers& registers, const std::string& key, JsonText value) {
  const uint64_t revision = registers.read(key).value().revision;
  REQUIRE(registers.write(key, revision, std::move(value)).value().swapped);
}

void addEntries(registry::Registers& registers, int count) {
  for (int i = 1; i <= count; ++i)
    REQUIRE(appendHistory(registers, entryOf("id" + std::to_string(i), std::to_string(i))));
}

}  // namespace

TEST_CASE("an entry survives a round trip; anything else is corrupt") {
  const HistoryEntry entry = entryOf("a");
  const HistoryEntry back = decodeEntry(encodeEntry(entry)).value();
  CHECK(back.change == entry.change);
  CHECK(back.end.ending == Ending::kRolledBack);
  CHECK(back.end.detail == entry.end.detail);
  CHECK(back.ended == entry.ended);
  CHECK(digestOf(back) == digestOf(entry));
  for (const char* bad : {"{}", "[]", "7", "{\"format\":2}", "\"x\""})
    CHECK(decodeEntry({bad}).error().code == Code::kCorrupt);
}

TEST_CASE("a history is read back oldest first and chains") {
  test::MemoryRegisters registers;
  CHECK(readHistory(registers, kWeb, 10).value().entries.empty());
  addEntries(registers, 5);
  const History all = readHistory(registers, kWeb, 100).value();
  REQUIRE(all.entries.size() == 5);
  CHECK(all.problems.empty());
  CHECK(all.entries[0].number == 1);
  CHECK(all.entries[4].change.to == "5");
  const History newest = readHistory(registers, kWeb, 2).value();
  REQUIRE(newest.entries.size() == 2);
  CHECK(newest.problems.empty());
  CHECK(newest.entries[0].number == 4);
  CHECK(servicesWithHistory(registers).value() == std::vector<ServiceName>{kWeb});
}

TEST_CASE("an entry that was changed, taken out or put at the end shows") {
  const auto problems = [](const std::function<void(registry::Registers&)>& change) {
    test::MemoryRegisters registers;
    addEntries(registers, 4);
    change(registers);
    return readHistory(registers, kWeb, 100).value().problems;
  };
  CHECK(problems([](registry::Registers&) {}).empty());
  const auto changed = problems([](registry::Registers& registers) {
    HistoryEntry entry = decodeEntry(registers.read("history/web/2").value().value).value();
    entry.change.identity.login = "mallory";
    tamper(registers, "history/web/2", encodeEntry(entry));
  });
  CHECK(changed == std::vector<std::string>{"entry 2 was changed"});
  // With a digest of its own that fits, its successor gives it away.
  const auto redone = problems([](registry::Registers& registers) {
    HistoryEntry entry = decodeEntry(registers.read("history/web/2").value().value).value();
    entry.change.identity.login = "mallory";
    entry.digest = digestOf(entry);
    tamper(registers, "history/web/2", encodeEntry(entry));
  });
  CHECK(redone == std::vector<std::string>{"entry 3 does not follow the one before it"});
  const auto last = problems([](registry::Registers& registers) {
    HistoryEntry entry = decodeEntry(registers.read("history/web/4").value().value).value();
    entry.end.ending = Ending::kDone;
    entry.digest = digestOf(entry);
    tamper(registers, "history/web/4", encodeEntry(entry));
  });
  CHECK(last.size() == 1);
  const auto missing = problems(
      [](registry::Registers& registers) { tamper(registers, "history/web/3", JsonText{}); });
  CHECK(missing == std::vector<std::string>{"entry 3 is missing"});
  const auto garbage = problems(
      [](registry::Registers& registers) { tamper(registers, "history/web/3", {"[1,2]"}); });
  CHECK(garbage.size() == 1);
}

TEST_CASE("a writer that is killed between entry and head loses nothing") {
  test::MemoryRegisters registers;
  addEntries(registers, 2);
  HistoryEntry third = entryOf("id3", "3");
  third.number = 3;
  third.previous = readHistory(registers, kWeb, 1).value().entries[0].digest;
  third.digest = digestOf(third);
  REQUIRE(registers.write("history/web/3", 0, encodeEntry(third)).value().swapped);
  History seen = readHistory(registers, kWeb, 100).value();
  CHECK(seen.entries.size() == 3);
  CHECK(seen.problems.empty());
  REQUIRE(appendHistory(registers, entryOf("id4", "4")));
  seen = readHistory(registers, kWeb, 100).value();
  REQUIRE(seen.entries.size() == 4);
  CHECK(seen.problems.empty());
  CHECK(seen.entries[2].change.to == "3");
}

TEST_CASE("an operation is recorded once, by itself or by its successor") {
  test::MemoryRegisters registers;
  REQUIRE(appendHistory(registers, entryOf("same")));
  HistoryEntry by_successor = entryOf("same");
  by_successor.recorded_by = "bob@ws2";
  REQUIRE(appendHistory(registers, by_successor));
  CHECK(readHistory(registers, kWeb, 100).value().entries.size() == 1);
}

TEST_CASE("the last thousand entries are kept, and chain") {
  test::MemoryRegisters registers;
  addEntries(registers, static_cast<int>(kHistoryKept) + 3);
  const History all = readHistory(registers, kWeb, UINT64_MAX).value();
  CHECK(all.entries.size() == kHistoryKept);
  CHECK(all.entries.front().number == 4);
  CHECK(all.problems.empty());
  CHECK(registers.list("history/web/").value().size() == kHistoryKept);
}

TEST_CASE("a damaged head is an error that names it") {
  test::MemoryRegisters registers;
  for (const char* bad : {"[]", "{\"format\":1,\"next\":0,\"digest\":\"\"}", "{\"format\":9}"}) {
    tamper(registers, "history/web", {bad});
    const auto read = readHistory(registers, kWeb, 10);
    REQUIRE_FALSE(read);
    CHECK(read.error().code == Code::kCorrupt);
    CHECK(read.error().message.find("history/web") != std::string::npos);
    CHECK_FALSE(appendHistory(registers, entryOf("x")));
  }
}
