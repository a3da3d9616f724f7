// What clients did to registers and what came of it, as lines of JSON that other checkers can read:
//   {"client":1,"op":"cas","key":"k","args":{"expected":3,"value":"v"},"result":{"revision":4,
//    "value":"v"},"call_ns":1,"return_ns":2,"status":"ok"}
// op:     read; cas: to `value` when the revision is `expected`; write: to `value` whatever stands
// status: ok: done. fail: surely not done; of a cas, `result` is what stood in its way, when known.
//         info: may take effect at any time after the call, or never
// A value is any JSON; revision 0 is a register that was never written, whose value is null.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace cctl::sim {

enum class OpKind { kRead, kCas, kWrite };
enum class OpStatus { kOk, kFail, kInfo };

struct Versioned {
  uint64_t revision = 0;
  std::string value = "null";
  bool operator==(const Versioned&) const = default;
};

struct HistoryOp {
  int client = 0;
  OpKind kind = OpKind::kRead;
  std::string key;
  uint64_t expected = 0;  // cas
  std::string value;      // cas, write
  std::optional<Versioned> result;
  int64_t call = 0;
  int64_t ret = 0;  // info: none
  OpStatus status = OpStatus::kInfo;
};

std::string encodeOp(const HistoryOp& op);
[[nodiscard]] Result<HistoryOp> decodeOp(const std::string& line);
[[nodiscard]] Result<std::vector<HistoryOp>> readHistory(const std::string& path);
[[nodiscard]] Result<void> writeHistory(const std::string& path, const std::vector<HistoryOp>& ops);

// Whether each register behaved as if every operation took place at one moment between its call and
// its return (Herlihy and Wing). Wing and Gong's search with Lowe's memory of what was tried.
// Returns what is wrong, or nothing.
std::optional<std::string> findNonLinearizable(const std::vector<HistoryOp>& history);

}  // namespace cctl::sim
