#include "ops/history.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/digest.h"

namespace cctl::ops {
namespace {

constexpr int kFormat = 1;
constexpr std::string_view kPrefix = "history/";
// How far back an operation's own entry can be: others append without its lock (`lock break`).
constexpr uint64_t kLookBack = 4;

std::string headKey(const ServiceName& service) { return std::string(kPrefix) + service.str(); }
std::string entryKey(const ServiceName& service, uint64_t number) {
  return fmt::format("{}/{}", headKey(service), number);
}

struct Head {
  uint64_t next = 1;
  std::string digest;  // of entry next - 1
};

Result<Head> decodeHead(const std::string& key, const JsonText& value) {
  if (value.isNull()) return Head{};
  CCTL_TRY(const Json json, parseJson(value.text));
  try {
    if (json.at("format") != kFormat) throw std::invalid_argument("unknown format");
    Head head{json.at("next"), json.at("digest")};
    if (head.next == 0) throw std::invalid_argument("number 0");
    return head;
  } catch (const std::exception& error) {
    return fail(Code::kCorrupt, "register {} cannot be read: {}", key, jsonProblem(error));
  }
}

JsonText encodeHead(const Head& head) {
  return {dumpJson(Json{{"format", kFormat}, {"next", head.next}, {"digest", head.digest}})};
}

// All that the digest covers.
Json coveredJson(const HistoryEntry& entry) {
  Json json = encodeChange(entry.change);
  json["format"] = kFormat;
  json["number"] = entry.number;
  json["service"] = entry.service.str();
  json["ended"] = formatTime(entry.ended);
  json["outcome"] = endingName(entry.end.ending);
  json["detail"] = entry.end.detail;
  json["recorded_by"] = entry.recorded_by;
  json["previous"] = entry.previous;
  return json;
}

HistoryEntry entryFrom(const Json& json) {
  HistoryEntry entry;
  if (json.at("format") != kFormat) throw std::invalid_argument("unknown format");
  entry.number = json.at("number");
  entry.service = ServiceName(json.at("service").get<std::string>());
  entry.change = decodeChange(json);
  entry.ended = parseTime(json.at("ended").get<std::string>()).value_or(WallTime{});
  const auto ending = endingFromName(json.at("outcome").get<std::string>());
  if (!ending) throw std::invalid_argument("unknown outcome");
  entry.end = {*ending, json.at("detail")};
  entry.recorded_by = json.at("recorded_by");
  entry.previous = json.at("previous");
  entry.digest = json.at("digest");
  return entry;
}

struct Slot {
  uint64_t revision = 0;
  std::optional<HistoryEntry> entry;
};

Result<Slot> readSlot(registry::Registers& registers, const ServiceName& service, uint64_t number) {
  CCTL_TRY(const protocol::RegisterValue value, registers.read(entryKey(service, number)));
  if (value.value.isNull()) return Slot{value.revision, std::nullopt};
  auto entry = decodeEntry(value.value);
  if (!entry) return fail(entry.error().context(entryKey(service, number)));
  return Slot{value.revision, std::move(*entry)};
}

Result<bool> isRecorded(registry::Registers& registers, const ServiceName& service,
                        const std::string& id, uint64_t next) {
  if (id.empty()) return false;
  for (uint64_t number = next - std::min(next - 1, kLookBack); number < next; ++number) {
    CCTL_TRY(const Slot slot, readSlot(registers, service, number));
    if (slot.entry && slot.entry->change.id == id) return true;
  }
  return false;
}

// A register that is deleted already, or never was, is left alone.
void forgetEntry(registry::Registers& registers, const ServiceName& service, uint64_t number) {
  const auto value = registers.read(entryKey(service, number));
  // Should this fail, the entry is one more than need be.
  if (value && !value->value.isNull())
    (void)registers.write(entryKey(service, number), value->revision, JsonText{});
}

// The head past an entry. Somebody else may have moved it there already.
Result<void> advance(registry::Registers& registers, const ServiceName& service,
                     const HistoryEntry& entry) {
  const auto next = [&](const protocol::RegisterValue& value) -> Result<JsonText> {
    CCTL_TRY(const Head head, decodeHead(headKey(service), value.value));
    return head.next > entry.number ? value.value : encodeHead({entry.number + 1, entry.digest});
  };
  CCTL_CHECK(registry::update(registers, headKey(service), next));
  if (entry.number > kHistoryKept) forgetEntry(registers, service, entry.number - kHistoryKept);
  return {};
}

}  // namespace

std::string digestOf(const HistoryEntry& entry) { return sha256Hex(dumpJson(coveredJson(entry))); }

JsonText encodeEntry(const HistoryEntry& entry) {
  Json json = coveredJson(entry);
  json["digest"] = entry.digest;
  return {dumpJson(json)};
}

Result<HistoryEntry> decodeEntry(const JsonText& value) {
  CCTL_TRY(const Json json, parseJson(value.text));
  try {
    return entryFrom(json);
  } catch (const std::exception& error) {
    return fail(Code::kCorrupt, "not an entry of a history: {}", jsonProblem(error));
  }
}

Result<void> appendHistory(registry::Registers& registers, HistoryEntry entry) {
  const std::string key = headKey(entry.service);
  for (int attempt = 0; attempt < 20; ++attempt) {
    CCTL_TRY(const protocol::RegisterValue value, registers.read(key));
    CCTL_TRY(const Head head, decodeHead(key, value.value));
    CCTL_TRY(const Slot slot, readSlot(registers, entry.service, head.next));
    if (slot.entry) {  // of a writer that was killed before it moved the head, or is about to
      CCTL_CHECK(advance(registers, entry.service, *slot.entry));
      continue;
    }
    CCTL_TRY(const bool recorded, isRecorded(registers, entry.service, entry.change.id, head.next));
    if (recorded) return {};
    entry.number = head.next;
    entry.previous = head.digest;
    entry.digest = digestOf(entry);
    CCTL_TRY(const auto reply, registers.write(entryKey(entry.service, entry.number), slot.revision,
                                               encodeEntry(entry)));
    if (!reply.swapped) continue;
    return advance(registers, entry.service, entry);
  }
  return fail(Code::kConflict, "{}: others kept writing the history", entry.service);
}

namespace {

// Entries in the order of their numbers, and whether each follows the one before.
class ChainReader {
 public:
  explicit ChainReader(ServiceName service) : service_(std::move(service)) {}

  // `previous` of the next entry must be this; not known for the oldest that is read.
  void expect(std::optional<std::string> digest) { previous_ = std::move(digest); }

  void take(uint64_t number, Result<Slot> slot) {
    if (!slot || !slot->entry) {
      history_.problems.push_back(slot ? fmt::format("entry {} is missing", number)
                                       : slot.error().message);
      previous_.reset();
      return;
    }
    HistoryEntry& entry = *slot->entry;
    if (digestOf(entry) != entry.digest || entry.number != number || entry.service != service_)
      history_.problems.push_back(fmt::format("entry {} was changed", number));
    else if (previous_ && entry.previous != *previous_)
      history_.problems.push_back(
          fmt::format("entry {} does not follow the one before it", number));
    previous_ = entry.digest;
    history_.entries.push_back(std::move(entry));
  }

  void checkHead(const std::string& digest) {
    if (previous_ && *previous_ != digest)
      history_.problems.push_back("the newest entry is not the one that was written last");
  }

  History done() { return std::move(history_); }

 private:
  const ServiceName service_;
  std::optional<std::string> previous_;
  History history_;
};

}  // namespace

Result<History> readHistory(registry::Registers& registers, const ServiceName& service,
                            uint64_t limit) {
  CCTL_TRY(const protocol::RegisterValue value, registers.read(headKey(service)));
  CCTL_TRY(const Head head, decodeHead(headKey(service), value.value));
  const uint64_t kept = std::min({head.next - 1, kHistoryKept, limit});
  ChainReader reader(service);
  if (kept == head.next - 1) reader.expect("");
  for (uint64_t number = head.next - kept; number < head.next; ++number) {
    auto slot = readSlot(registers, service, number);
    if (!slot && slot.error().code != Code::kCorrupt) return fail(slot.error());
    reader.take(number, std::move(slot));
  }
  reader.checkHead(head.digest);
  // Written, and its writer killed before it was counted in.
  auto uncounted = readSlot(registers, service, head.next);
  if (uncounted && uncounted->entry) reader.take(head.next, std::move(uncounted));
  return reader.done();
}

Result<std::vector<ServiceName>> servicesWithHistory(registry::Registers& registers) {
  CCTL_TRY(const std::vector<std::string> keys, registers.list(std::string(kPrefix)));
  std::vector<ServiceName> services;
  for (const std::string& key : keys) {
    const std::string name = key.substr(kPrefix.size());
    if (name.find('/') == std::string::npos) services.emplace_back(name);
  }
  return services;
}

}  // namespace cctl::ops
