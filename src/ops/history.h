// What was done to each service: entries that are written once and chained by their digests, so
// that one that was changed or taken out later shows (registry.md, "history/S", "history/S/N").
//
// `history/S` names the digest of the newest entry and the next number; `history/S/N` is an entry
// with the digest of the one before. The entry is written first: a writer that is killed between
// the two leaves one that the next writer counts in.
#pragma once

#include <string>
#include <vector>

#include "model/names.h"
#include "ops/change_record.h"
#include "registry/register.h"

namespace cctl::ops {

constexpr uint64_t kHistoryKept = 1'000;  // entries of a service; older ones are deleted

struct HistoryEntry {
  uint64_t number = 0;  // from 1, without gaps
  ServiceName service;
  ChangeRecord change;
  WallTime ended{};
  ChangeEnd end;
  // Who wrote it, where that is not who did it: the successor of one that was interrupted.
  std::string recorded_by;
  std::string previous;  // digest of the entry before; empty for the first
  std::string digest;    // of all the above
};

// Pure. Decoding answers kCorrupt for what is no entry, not for a digest that does not hold.
JsonText encodeEntry(const HistoryEntry& entry);
[[nodiscard]] Result<HistoryEntry> decodeEntry(const JsonText& value);
std::string digestOf(const HistoryEntry& entry);

// Adds an entry; its number and digests are made here. Nothing is added when one of the newest
// entries is of the same operation already (change.id): what a successor records may have been
// recorded by whoever was interrupted, too.
[[nodiscard]] Result<void> appendHistory(registry::Registers& registers, HistoryEntry entry);

struct History {
  std::vector<HistoryEntry> entries;  // oldest first
  // What does not hold: "entry 7 was changed", "entry 8 is missing". Empty: the chain is whole.
  std::vector<std::string> problems;
};

// The last `limit` entries of a service, and whether they chain. Blocks for one read an entry.
[[nodiscard]] Result<History> readHistory(registry::Registers& registers,
                                          const ServiceName& service, uint64_t limit);

// Services that have one, also those that are retired.
[[nodiscard]] Result<std::vector<ServiceName>> servicesWithHistory(registry::Registers& registers);

}  // namespace cctl::ops
