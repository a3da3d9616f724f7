// One of several rival writers of the same registers, over SSH sessions of its own, and what it
// saw:
//   registry_writer INVENTORY CLIENT SECONDS KEYS HISTORY
// Appends a line to HISTORY (tests/sim/history.h) before each operation, of status info, and one
// after it with what became of it: the later line of one client and call counts. Killed at any
// moment it leaves an operation of unknown outcome.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <map>

#include "base/file.h"
#include "history.h"
#include "model/disk_files.h"
#include "model/load.h"
#include "ops/fleet_acceptors.h"

using namespace cctl;
using sim::HistoryOp;
using sim::OpKind;
using sim::OpStatus;

namespace {

[[noreturn]] void die(const std::string& why) {
  std::fprintf(stderr, "registry_writer: %s\n", why.c_str());
  std::exit(1);
}

int64_t nanos() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

class Silent final : public ops::EventSink {
  void onEvent(const ops::OpEvent&) override {}
};

// One line by one write(2), so that a kill leaves whole lines.
void append(int fd, const HistoryOp& op) {
  if (auto written = writeAll(fd, sim::encodeOp(op) + "\n"); !written) die(written.error().message);
}

class Writer {
 public:
  Writer(registry::Registers& registers, int client, int keys, int history)
      : registers_(registers), client_(client), keys_(keys), history_(history) {}

  void once() {
    HistoryOp op;
    op.client = client_;
    op.key = "rivals/" + std::to_string(random_.next() % static_cast<uint64_t>(keys_));
    op.kind = random_.next() % 100 < 40 ? OpKind::kRead : OpKind::kCas;
    op.expected = op.kind == OpKind::kCas ? known_[op.key] : 0;
    op.value = fmt::format("\"{}-{}\"", client_, ++count_);
    if (op.kind == OpKind::kRead || random_.next() % 10 == 0) op.value = "null";
    op.call = nanos();
    append(history_, op);
    op.kind == OpKind::kRead ? read(op) : swap(op);
    append(history_, op);
  }

 private:
  void read(HistoryOp& op) {
    const auto value = registers_.read(op.key);
    op.ret = nanos();
    op.status = value ? OpStatus::kOk : OpStatus::kFail;
    if (!value) return pause();
    op.result = sim::Versioned{value->revision, value->value.text};
    known_[op.key] = value->revision;
  }

  void swap(HistoryOp& op) {
    const auto reply = registers_.write(op.key, op.expected, {op.value});
    op.ret = nanos();
    if (!reply) {
      if (reply.error().code == Code::kNoQuorum) op.status = OpStatus::kFail;
      return pause();
    }
    op.status = reply->swapped ? OpStatus::kOk : OpStatus::kFail;
    op.result = sim::Versioned{reply->current.revision, reply->current.value.text};
    known_[op.key] = reply->current.revision;
  }

  // Without a quorum an answer comes at once: not thousands of them.
  static void pause() { ::usleep(100'000); }

  registry::Registers& registers_;
  const int client_;
  const int keys_;
  const int history_;
  registry::SystemRandomness random_;
  std::map<std::string, uint64_t> known_;
  int count_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) die("usage: INVENTORY CLIENT SECONDS KEYS HISTORY");
  LoadedInventory loaded = loadInventory(DiskFiles(), argv[1]);
  if (!loaded.ok()) die(toError(loaded.problems).message);
  const Inventory inventory = std::move(*loaded.inventory);
  Silent events;
  auto fleet = ops::Fleet::create(inventory, {}, events, nullptr);
  if (!fleet) die(fleet.error().message);
  auto history = openFile(argv[5], O_WRONLY | O_APPEND | O_CREAT);
  if (!history) die(history.error().message);
  ops::FleetAcceptors links(**fleet);
  registry::QuorumOptions options = ops::quorumOptionsOf(inventory);
  options.operation = Millis(4'000);
  options.timing.attempt = Millis(800);
  registry::QuorumRegisters registers(links, options);
  Writer writer(registers, std::atoi(argv[2]), std::atoi(argv[4]), history->get());
  const int64_t end = nanos() + std::atoll(argv[3]) * 1'000'000'000;
  while (nanos() < end) writer.once();
  return 0;
}
