#include <doctest/doctest.h>
#include <unistd.h>

#include "base/file.h"
#include "registry/register.h"
#include "registry/register_store.h"

using namespace cctl;
using namespace cctl::registry;

namespace {

class StoreDir {
 public:
  StoreDir() {
    char name[] = "/tmp/cctl-registry-XXXXXX";
    path = ::mkdtemp(name);
  }
  ~StoreDir() { (void)removeTree(path); }
  std::string log() const { return path + "/registers.log"; }
  Result<std::unique_ptr<RegisterStore>> open() { return RegisterStore::open(path, clock); }
  std::string path;
  ManualClock clock;
};

// The interface over one store in memory of this process.
class LocalRegisters final : public Registers {
 public:
  explicit LocalRegisters(RegisterStore& store) : store_(store) {}
  Result<protocol::RegisterValue> read(const std::string& key) override {
    ++reads;
    return store_.read(key);
  }
  Result<protocol::RegisterWriteReply> write(const std::string& key, uint64_t expected,
                                             JsonText value) override {
    if (disturb > 0 && disturb-- > 0) (void)store_.write(key, expected, {"\"other\""});
    return store_.write(key, expected, std::move(value));
  }
  Result<std::vector<std::string>> list(const std::string& prefix) override {
    return store_.list(prefix);
  }
  int reads = 0;
  int disturb = 0;

 private:
  RegisterStore& store_;
};

}  // namespace

TEST_CASE("compare-and-set: only the expected revision swaps, and what stood in the way is shown") {
  StoreDir dir;
  auto store = dir.open().value();
  CHECK(store->read("a").revision == 0);
  CHECK(store->write("a", 0, {"1"})->swapped);
  const auto refused = store->write("a", 0, {"2"}).value();
  CHECK_FALSE(refused.swapped);
  CHECK(refused.current.revision == 1);
  CHECK(refused.current.value.text == "1");
  CHECK(store->write("a", 1, {"2"})->current.revision == 2);
}

TEST_CASE(
    "what was acknowledged is there after a restart, with its revision and the same identity") {
  StoreDir dir;
  const std::string uuid = dir.open().value()->uuid();
  REQUIRE(dir.open().value()->write("lock/x", 0, {R"({"owner":"me"})"}));
  auto again = dir.open().value();
  CHECK(again->read("lock/x").revision == 1);
  CHECK(again->read("lock/x").value.text == R"({"owner":"me"})");
  CHECK(again->uuid() == uuid);
}

TEST_CASE("a delete leaves a tombstone: the revision goes on rising, the key is not listed") {
  StoreDir dir;
  auto store = dir.open().value();
  REQUIRE(store->write("a/1", 0, {"1"}));
  REQUIRE(store->write("a/2", 0, {"1"}));
  REQUIRE(store->write("b/1", 0, {"1"}));
  REQUIRE(store->write("a/1", 1, {}));
  CHECK(store->list("a/") == std::vector<std::string>{"a/2"});
  CHECK(store->read("a/1").revision == 2);
  CHECK_FALSE(store->write("a/1", 0, {"9"})->swapped);
}

TEST_CASE("the age of a value is counted from its write, or from the start after a restart") {
  StoreDir dir;
  auto store = dir.open().value();
  REQUIRE(store->write("a", 0, {"1"}));
  dir.clock.advance(Millis(1500));
  CHECK(store->read("a").age == Millis(1500));
  store = dir.open().value();
  CHECK(store->read("a").age == Millis(0));
}

TEST_CASE("every torn tail is cut, whatever the byte at which the write stopped") {
  StoreDir dir;
  REQUIRE(dir.open().value()->write("a", 0, {"1"}));
  const std::string whole = readFile(dir.log()).value();
  REQUIRE(dir.open().value()->write("a", 1, {"2"}));
  const std::string longer = readFile(dir.log()).value();
  for (size_t size = whole.size(); size < longer.size(); ++size) {
    REQUIRE(replaceFile(dir.log(), longer.substr(0, size)));
    auto store = dir.open();
    REQUIRE(store);
    CHECK((*store)->read("a").revision == 1);
    CHECK((*store)->tornBytes() == size - whole.size());
  }
}

TEST_CASE("damage in the middle is refused, not cut") {
  StoreDir dir;
  auto store = dir.open().value();
  REQUIRE(store->write("a", 0, {"1"}));
  REQUIRE(store->write("a", 1, {"2"}));
  std::string bytes = readFile(dir.log()).value();
  bytes[logMagic().size() + 12] ^= 1;
  REQUIRE(replaceFile(dir.log(), bytes));
  CHECK(dir.open().error().code == Code::kCorrupt);
  REQUIRE(replaceFile(dir.log(), "something else entirely, of another program\n"));
  CHECK(dir.open().error().code == Code::kCorrupt);
}

TEST_CASE("values too large and keys without a name are refused") {
  StoreDir dir;
  auto store = dir.open().value();
  CHECK(store->write("", 0, {"1"}).error().code == Code::kBadInput);
  CHECK(store->write("a", 0, {std::string(kMaxValueSize + 1, '1')}).error().code ==
        Code::kBadInput);
}

TEST_CASE("the log does not grow without bound") {
  StoreDir dir;
  auto store = dir.open().value();
  const JsonText value{"\"" + std::string(100'000, 'x') + "\""};
  for (uint64_t revision = 0; revision < 120; ++revision)
    REQUIRE(store->write("a", revision, value)->swapped);
  CHECK(readFile(dir.log())->size() < (5u << 20));
  CHECK(dir.open().value()->read("a").revision == 120);
}

TEST_CASE("update tries again when another writer was faster, and gives up in the end") {
  StoreDir dir;
  auto store = dir.open().value();
  LocalRegisters registers(*store);
  const auto count = [](const protocol::RegisterValue&) -> Result<JsonText> {
    return JsonText{"7"};
  };
  registers.disturb = 3;
  CHECK(update(registers, "a", count)->revision == 4);
  CHECK(update(registers, "a", count)->revision == 4);  // nothing to change
  registers.disturb = 1000;
  CHECK(update(registers, "b", count).error().code == Code::kConflict);
}
