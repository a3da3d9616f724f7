#include <algorithm>
#include <map>
#include <unordered_set>

#include "history.h"

namespace cctl::sim {
namespace {

// The state of a register: its revision, and its value as a small number.
struct State {
  uint64_t revision = 0;
  int value = 0;
  bool operator==(const State&) const = default;
};

struct Op {
  const HistoryOp* of = nullptr;
  OpKind kind = OpKind::kRead;
  bool certain = false;  // ok, or a cas that failed and saw why: must have its moment
  bool wrote = true;     // ok or unknown: takes effect
  State seen;            // read, failed cas
  bool has_seen = false;
  uint64_t expected = 0;
  int value = 0;
};

// The next state when `op` has its moment in `state`; nothing: it cannot.
std::optional<State> step(const State& state, const Op& op) {
  if (op.kind == OpKind::kRead) return op.seen == state ? std::optional(state) : std::nullopt;
  if (!op.wrote) {
    const bool fits = state.revision != op.expected && op.seen == state;
    return fits ? std::optional(state) : std::nullopt;
  }
  if (op.kind == OpKind::kCas && state.revision != op.expected) return std::nullopt;
  const State next{state.revision + 1, op.value};
  if (op.has_seen && op.seen.revision != next.revision) return std::nullopt;
  return next;
}

// A set of operations and a state, met before: not worth another look.
struct Tried {
  std::vector<uint64_t> done;
  State state;
  bool operator==(const Tried&) const = default;
};
struct TriedHash {
  size_t operator()(const Tried& tried) const {
    uint64_t hash =
        tried.state.revision * 0x9e3779b97f4a7c15u + static_cast<uint64_t>(tried.state.value);
    for (const uint64_t word : tried.done)
      hash = (hash ^ word) * 0xff51afd7ed558ccdu ^ (hash >> 29);
    return hash;
  }
};

// One register's operations as a list of calls and returns in order of time.
class Search {
 public:
  explicit Search(std::vector<Op> ops) : ops_(std::move(ops)), done_((ops_.size() + 63) / 64) {
    build();
  }

  bool run() {
    int at = next_[kHead];
    while (certain_ > 0) {
      if (at != kEnd && isCall(at)) {
        at = tryCall(at) ? next_[kHead] : next_[static_cast<size_t>(at)];
        continue;
      }
      // A return of an operation that has had no moment yet, or the end: back.
      if (trail_.empty()) return false;
      at = undo();
    }
    return true;
  }

 private:
  static constexpr int kEnd = -1;
  static constexpr size_t kHead = 0;
  struct Step {
    int entry;
    State before;
  };
  // Entry 1 + 2i is the call of operation i, entry 2 + 2i its return.
  static bool isCall(int entry) { return entry % 2 == 1; }
  static size_t opOf(int entry) { return static_cast<size_t>(entry - 1) / 2; }

  void build() {
    std::vector<std::pair<int64_t, int>> order;
    for (size_t i = 0; i < ops_.size(); ++i) {
      order.emplace_back(ops_[i].of->call * 2, static_cast<int>(1 + 2 * i));
      // At the same time the call comes first: the two may have overlapped.
      if (ops_[i].certain) order.emplace_back(ops_[i].of->ret * 2 + 1, static_cast<int>(2 + 2 * i));
      certain_ += ops_[i].certain ? 1 : 0;
    }
    std::sort(order.begin(), order.end());
    next_.assign(1 + 2 * ops_.size(), kEnd);
    prev_.assign(1 + 2 * ops_.size(), kEnd);
    int last = static_cast<int>(kHead);
    for (const auto& [time, entry] : order) {
      next_[static_cast<size_t>(last)] = entry;
      prev_[static_cast<size_t>(entry)] = last;
      last = entry;
    }
  }

  bool tryCall(int entry) {
    const size_t op = opOf(entry);
    const auto next = step(state_, ops_[op]);
    if (!next) return false;
    done_[op / 64] |= uint64_t{1} << (op % 64);
    if (!tried_.insert({done_, *next}).second) {
      done_[op / 64] &= ~(uint64_t{1} << (op % 64));
      return false;
    }
    trail_.push_back({entry, state_});
    state_ = *next;
    lift(entry);
    if (ops_[op].certain) {
      lift(entry + 1);
      --certain_;
    }
    return true;
  }

  int undo() {
    const Step step = trail_.back();
    trail_.pop_back();
    const size_t op = opOf(step.entry);
    if (ops_[op].certain) {
      unlift(step.entry + 1);
      ++certain_;
    }
    unlift(step.entry);
    done_[op / 64] &= ~(uint64_t{1} << (op % 64));
    state_ = step.before;
    return next_[static_cast<size_t>(step.entry)];
  }

  void lift(int entry) {
    const int before = prev_[static_cast<size_t>(entry)];
    const int after = next_[static_cast<size_t>(entry)];
    next_[static_cast<size_t>(before)] = after;
    if (after != kEnd) prev_[static_cast<size_t>(after)] = before;
  }
  void unlift(int entry) {
    const int before = prev_[static_cast<size_t>(entry)];
    const int after = next_[static_cast<size_t>(entry)];
    next_[static_cast<size_t>(before)] = entry;
    if (after != kEnd) prev_[static_cast<size_t>(after)] = entry;
  }

  std::vector<Op> ops_;
  std::vector<int> next_;
  std::vector<int> prev_;
  std::vector<uint64_t> done_;
  std::vector<Step> trail_;
  std::unordered_set<Tried, TriedHash> tried_;
  State state_;
  size_t certain_ = 0;
};

class Values {
 public:
  int number(const std::string& value) {
    return numbers_.try_emplace(value, static_cast<int>(numbers_.size())).first->second;
  }

 private:
  std::map<std::string, int> numbers_{{"null", 0}};
};

std::optional<Op> prepare(const HistoryOp& of, Values& values) {
  // What surely did not happen, and what was never answered and changes nothing, has no moment.
  if (of.status == OpStatus::kFail && !(of.kind == OpKind::kCas && of.result)) return std::nullopt;
  if (of.status == OpStatus::kInfo && of.kind == OpKind::kRead) return std::nullopt;
  Op op;
  op.of = &of;
  op.kind = of.kind;
  op.certain = of.status != OpStatus::kInfo;
  op.wrote = of.status != OpStatus::kFail;
  op.expected = of.expected;
  if (of.kind != OpKind::kRead) op.value = values.number(of.value);
  op.has_seen = of.result.has_value();
  if (of.result) op.seen = {of.result->revision, values.number(of.result->value)};
  return op;
}

}  // namespace

std::optional<std::string> findNonLinearizable(const std::vector<HistoryOp>& history) {
  std::map<std::string, std::vector<Op>> by_key;
  Values values;
  for (const HistoryOp& of : history)
    if (const auto op = prepare(of, values)) by_key[of.key].push_back(*op);
  for (auto& [key, ops] : by_key) {
    const size_t count = ops.size();
    if (!Search(std::move(ops)).run())
      return fmt::format("register {} is not linearizable ({} operations)", key, count);
  }
  return std::nullopt;
}

}  // namespace cctl::sim
