// The registers in memory, with a clock that a test moves.
#pragma once

#include <map>
#include <mutex>

#include "registry/register.h"

namespace cctl::test {

class MemoryRegisters final : public registry::Registers {
 public:
  Result<protocol::RegisterValue> read(const std::string& key) override {
    const std::lock_guard lock(mutex_);
    protocol::RegisterValue value = values_[key];
    value.age += age;
    return value;
  }
  Result<protocol::RegisterWriteReply> write(const std::string& key, uint64_t expected,
                                             JsonText value) override {
    const std::lock_guard lock(mutex_);
    protocol::RegisterValue& current = values_[key];
    if (current.revision != expected) return protocol::RegisterWriteReply{false, current};
    current.revision = expected + 1;
    current.value = std::move(value);
    return protocol::RegisterWriteReply{true, current};
  }
  Result<std::vector<std::string>> list(const std::string& prefix) override {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> keys;
    for (const auto& [key, value] : values_)
      if (key.compare(0, prefix.size(), prefix) == 0 && !value.value.isNull()) keys.push_back(key);
    return keys;
  }

  Millis age{0};  // of every value read

 private:
  std::mutex mutex_;
  std::map<std::string, protocol::RegisterValue> values_;
};

}  // namespace cctl::test
