// The checker of histories, on histories whose verdict is known.
#include <doctest/doctest.h>
#include <unistd.h>

#include "base/file.h"
#include "history.h"

using namespace cctl;
using namespace cctl::sim;

namespace {

class History {
 public:
  History& read(int64_t call, int64_t ret, uint64_t revision, const std::string& value) {
    add(OpKind::kRead, call, ret, OpStatus::kOk).result = Versioned{revision, value};
    return *this;
  }
  History& cas(int64_t call, int64_t ret, uint64_t expected, const std::string& value) {
    HistoryOp& op = add(OpKind::kCas, call, ret, OpStatus::kOk);
    op.expected = expected;
    op.value = value;
    op.result = Versioned{expected + 1, value};
    return *this;
  }
  // What stood in its way.
  History& refused(int64_t call, int64_t ret, uint64_t expected, uint64_t revision,
                   const std::string& value) {
    HistoryOp& op = add(OpKind::kCas, call, ret, OpStatus::kFail);
    op.expected = expected;
    op.value = "\"never\"";
    op.result = Versioned{revision, value};
    return *this;
  }
  History& failed(int64_t call, int64_t ret, uint64_t expected, const std::string& value) {
    HistoryOp& op = add(OpKind::kCas, call, ret, OpStatus::kFail);
    op.expected = expected;
    op.value = value;
    return *this;
  }
  History& unknown(int64_t call, uint64_t expected, const std::string& value) {
    HistoryOp& op = add(OpKind::kCas, call, 0, OpStatus::kInfo);
    op.expected = expected;
    op.value = value;
    return *this;
  }
  History& write(int64_t call, int64_t ret, const std::string& value) {
    add(OpKind::kWrite, call, ret, OpStatus::kOk).value = value;
    return *this;
  }
  History& of(const std::string& key) {
    ops.back().key = key;
    return *this;
  }
  bool isGood() const { return !findNonLinearizable(ops); }

  std::vector<HistoryOp> ops;

 private:
  HistoryOp& add(OpKind kind, int64_t call, int64_t ret, OpStatus status) {
    HistoryOp& op = ops.emplace_back();
    op.client = static_cast<int>(ops.size());
    op.kind = kind;
    op.key = "k";
    op.call = call;
    op.ret = ret;
    op.status = status;
    return op;
  }
};

}  // namespace

TEST_CASE("histories that are linearizable") {
  CHECK(History().isGood());
  CHECK(History().read(1, 2, 0, "null").isGood());
  CHECK(History().cas(1, 2, 0, "1").read(3, 4, 1, "1").cas(5, 6, 1, "2").isGood());
  // Overlapping: the read may come before the write, or after.
  CHECK(History().cas(1, 10, 0, "1").read(2, 3, 0, "null").read(4, 5, 1, "1").isGood());
  CHECK(History().cas(1, 10, 0, "1").read(2, 9, 1, "1").read(3, 8, 0, "null").isGood());
  CHECK(History().cas(1, 2, 0, "1").refused(3, 4, 0, 1, "1").isGood());
  CHECK(History().write(1, 2, "1").write(3, 4, "2").read(5, 6, 2, "2").isGood());
  // Two registers know nothing of each other.
  CHECK(History().cas(1, 2, 0, "1").read(3, 4, 0, "null").of("other").isGood());
  // At the same instant: may overlap.
  CHECK(History().cas(1, 5, 0, "1").read(5, 6, 0, "null").isGood());
}

TEST_CASE("an operation of unknown outcome may take effect late, or never") {
  CHECK(History().unknown(1, 0, "1").read(2, 3, 0, "null").isGood());
  CHECK(History().unknown(1, 0, "1").read(2, 3, 1, "1").isGood());
  CHECK(History().unknown(1, 0, "1").read(2, 3, 0, "null").read(50, 51, 1, "1").isGood());
  CHECK(History().unknown(1, 0, "1").unknown(1, 0, "2").read(9, 10, 1, "2").isGood());
  // But not before its call, not twice, and not back again.
  CHECK_FALSE(History().read(1, 2, 1, "1").unknown(3, 0, "1").isGood());
  CHECK_FALSE(History().unknown(1, 0, "1").read(2, 3, 1, "1").read(4, 5, 0, "null").isGood());
  CHECK_FALSE(History().unknown(1, 0, "1").cas(2, 3, 0, "2").read(4, 5, 1, "1").isGood());
}

TEST_CASE("histories that are not") {
  // A stale read.
  CHECK_FALSE(History().cas(1, 2, 0, "1").read(3, 4, 0, "null").isGood());
  // A lost update: two writers of the same revision.
  CHECK_FALSE(History().cas(1, 5, 0, "1").cas(2, 6, 0, "2").isGood());
  // Two reads that see the writes in opposite order.
  CHECK_FALSE(History()
                  .cas(1, 20, 0, "1")
                  .cas(2, 21, 1, "2")
                  .read(3, 4, 2, "2")
                  .read(5, 6, 1, "1")
                  .isGood());
  // A value out of nothing; a value of a write that surely failed.
  CHECK_FALSE(History().read(1, 2, 1, "7").isGood());
  CHECK_FALSE(History().failed(1, 2, 0, "1").read(3, 4, 1, "1").isGood());
  // The right revision with another value.
  CHECK_FALSE(History().cas(1, 2, 0, "1").read(3, 4, 1, "2").isGood());
  // Refused by what was not there yet, or by the very revision that it expected.
  CHECK_FALSE(History().refused(1, 2, 0, 1, "1").cas(3, 4, 0, "1").isGood());
  CHECK_FALSE(History().cas(1, 2, 0, "1").refused(3, 4, 1, 1, "1").isGood());
  // A deleted register that comes back.
  CHECK_FALSE(History().cas(1, 2, 0, "1").cas(3, 4, 1, "null").read(5, 6, 1, "1").isGood());
}

TEST_CASE("many clients at once, good and with one read moved") {
  History history;
  uint64_t revision = 0;
  for (int64_t round = 0; round < 300; ++round) {
    const int64_t at = round * 100;
    history.cas(at, at + 90, revision, std::to_string(round));
    history.refused(at + 1, at + 95, revision + 5, revision,
                    round == 0 ? "null" : std::to_string(round - 1));
    ++revision;
    history.read(at + 2, at + 99, revision, std::to_string(round));
    history.unknown(at + 3, revision + 1, "\"late\"");
  }
  CHECK(history.isGood());
  history.ops[402].result->revision -= 2;
  CHECK_FALSE(history.isGood());
}

TEST_CASE("a history survives the way to a file and back; what is not one is refused by line") {
  const History history = History()
                              .cas(1, 2, 0, "{\"a\":1}")
                              .read(3, 4, 1, "{\"a\":1}")
                              .unknown(5, 1, "2")
                              .refused(6, 7, 0, 1, "{\"a\":1}");
  const std::string path = "/tmp/cctl-history-" + std::to_string(::getpid());
  REQUIRE(writeHistory(path, history.ops));
  const auto back = readHistory(path).value();
  REQUIRE(back.size() == 4);
  for (size_t i = 0; i < back.size(); ++i) CHECK(encodeOp(back[i]) == encodeOp(history.ops[i]));
  REQUIRE(replaceFile(path, encodeOp(history.ops[0]) + "\n{\"op\":\"read\"}\n"));
  CHECK(readHistory(path).error().message.find(path + ":2") == 0);
  REQUIRE(removeTree(path));
}
