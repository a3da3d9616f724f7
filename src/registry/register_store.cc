#include "registry/register_store.h"

#include <nlohmann/json.hpp>

#include "base/digest.h"
#include "base/file.h"

namespace cctl::registry {
namespace {

std::string encodeEntry(const std::string& key, uint64_t revision, const JsonText& value) {
  return fmt::format(R"({{"key":{},"revision":{},"value":{}}})", dumpJson(Json(key)), revision,
                     value.text);
}

struct DecodedEntry {
  std::string key;
  uint64_t revision;
  JsonText value;
};

Result<DecodedEntry> decodeEntry(const std::string& record) {
  CCTL_TRY(const Json json, parseJson(record));
  const bool fits = json.is_object() && json.contains("key") && json["key"].is_string() &&
                    json.contains("revision") && json["revision"].is_number_unsigned() &&
                    json.contains("value");
  if (!fits) return fail(Code::kCorrupt, "a record is not a register of this format");
  return DecodedEntry{json["key"].get<std::string>(), json["revision"].get<uint64_t>(),
                      JsonText{dumpJson(json["value"])}};
}

Result<std::string> loadOrMakeUuid(const std::string& path) {
  if (!exists(path)) CCTL_CHECK(replaceFile(path, randomHex(16) + "\n", 0600));
  CCTL_TRY(std::string text, readFile(path, 1024));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  if (text.size() != 32)
    return fail(Code::kCorrupt, "{}: not the identity of a registry store", path);
  return text;
}

}  // namespace

Result<std::unique_ptr<RegisterStore>> RegisterStore::open(const std::string& dir,
                                                           const Clock& clock) {
  CCTL_CHECK(makeDirs(dir, 0700));
  std::unique_ptr<RegisterStore> store(new RegisterStore(clock));
  CCTL_TRY(store->uuid_, loadOrMakeUuid(dir + "/uuid"));
  std::vector<std::string> records;
  CCTL_TRY(store->log_, RecordLog::open(dir + "/registers.log", records));
  CCTL_CHECK(store->replay(records));
  return store;
}

Result<void> RegisterStore::replay(const std::vector<std::string>& records) {
  for (const std::string& record : records) {
    CCTL_TRY(DecodedEntry decoded, decodeEntry(record));
    entries_[decoded.key] = Entry{decoded.revision, std::move(decoded.value), clock_.steady()};
  }
  for (const auto& [key, entry] : entries_) live_size_ += key.size() + entry.value.text.size();
  return {};
}

protocol::RegisterValue RegisterStore::valueOf(const Entry& entry) const {
  return {entry.revision, entry.value,
          std::chrono::duration_cast<Millis>(clock_.steady() - entry.written)};
}

protocol::RegisterValue RegisterStore::read(const std::string& key) const {
  const auto found = entries_.find(key);
  return found == entries_.end() ? protocol::RegisterValue{} : valueOf(found->second);
}

Result<protocol::RegisterWriteReply> RegisterStore::write(const std::string& key, uint64_t expected,
                                                          JsonText value) {
  if (key.empty() || key.size() > kMaxKeySize)
    return fail(Code::kBadInput, "a register's key has 1 to {} bytes, this one {}", kMaxKeySize,
                key.size());
  if (value.text.size() > kMaxValueSize)
    return fail(Code::kBadInput, "{}: {} bytes of value, {} allowed", key, value.text.size(),
                kMaxValueSize);
  const protocol::RegisterValue current = read(key);
  if (current.revision != expected) return protocol::RegisterWriteReply{false, current};
  const uint64_t revision = expected + 1;
  CCTL_CHECK(log_.append(encodeEntry(key, revision, value)));
  Entry& entry = entries_[key];
  live_size_ +=
      (entry.revision == 0 ? key.size() : 0) + value.text.size() - entry.value.text.size();
  entry = Entry{revision, std::move(value), clock_.steady()};
  protocol::RegisterWriteReply reply{true, valueOf(entry)};
  CCTL_CHECK(compactIfLarge());
  return reply;
}

std::vector<std::string> RegisterStore::list(const std::string& prefix) const {
  std::vector<std::string> keys;
  for (auto at = entries_.lower_bound(prefix); at != entries_.end(); ++at) {
    if (at->first.compare(0, prefix.size(), prefix) != 0) break;
    if (!at->second.value.isNull()) keys.push_back(at->first);
  }
  return keys;
}

Result<void> RegisterStore::compactIfLarge() {
  if (log_.size() < (4u << 20) || log_.size() < 4 * live_size_) return {};
  std::vector<std::string> records;
  for (const auto& [key, entry] : entries_)
    records.push_back(encodeEntry(key, entry.revision, entry.value));
  return log_.rewrite(records);
}

}  // namespace cctl::registry
