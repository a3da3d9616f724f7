// The durable registers of one host: key → (revision, JSON), each changed by compare-and-set.
//
// For now one store, that of the first registry host, decides alone; the registers of a quorum will
// stand on the same log.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "protocol/messages.h"
#include "registry/record_log.h"

namespace cctl::registry {

constexpr size_t kMaxValueSize = 256u << 10;
constexpr size_t kMaxKeySize = 200;

// Blocks on the disk in open and write. Not thread-safe. `clock` must outlive it.
class RegisterStore {
 public:
  // Files in `dir`: `uuid` (this store's identity for ever) and `registers.log`. A corrupt log is
  // an error: a register that forgets breaks every promise made with it.
  [[nodiscard]] static Result<std::unique_ptr<RegisterStore>> open(const std::string& dir,
                                                                   const Clock& clock);

  protocol::RegisterValue read(const std::string& key) const;
  // Swaps when the register's revision is `expected`; the new revision is then one higher. Durable
  // before it returns. A null value deletes and leaves a tombstone, so that revisions only rise.
  [[nodiscard]] Result<protocol::RegisterWriteReply> write(const std::string& key,
                                                           uint64_t expected, JsonText value);
  // Keys with a value, sorted.
  std::vector<std::string> list(const std::string& prefix) const;

  const std::string& uuid() const { return uuid_; }
  size_t tornBytes() const { return log_.tornBytes(); }

 private:
  struct Entry {
    uint64_t revision = 0;
    JsonText value;
    SteadyTime written{};
  };

  explicit RegisterStore(const Clock& clock) : clock_(clock) {}
  [[nodiscard]] Result<void> replay(const std::vector<std::string>& records);
  [[nodiscard]] Result<void> compactIfLarge();
  protocol::RegisterValue valueOf(const Entry& entry) const;

  const Clock& clock_;
  std::string uuid_;
  RecordLog log_;
  std::map<std::string, Entry> entries_;
  size_t live_size_ = 0;
};

}  // namespace cctl::registry
