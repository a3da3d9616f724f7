// The registers as operations write them: nothing about a service by one who lost its lock.
#pragma once

#include <map>
#include <mutex>
#include <string>

#include "ops/lock.h"
#include "registry/register.h"

namespace cctl::ops {

// Passes everything through, but `desired/S` and `endpoints/S` are refused (kLocked) while this
// process has a lease on S that is not held any more. The moment between this check and the write
// is closed by whoever takes a lock over: it raises the revision of both (ops/change.h).
// Thread-safe.
class FencedRegisters final : public registry::Registers {
 public:
  // Must outlive this.
  explicit FencedRegisters(registry::Registers& behind) : behind_(behind) {}

  [[nodiscard]] Result<protocol::RegisterValue> read(const std::string& key) override {
    return behind_.read(key);
  }
  [[nodiscard]] Result<protocol::RegisterWriteReply> write(const std::string& key,
                                                           uint64_t expected,
                                                           JsonText value) override;
  [[nodiscard]] Result<std::vector<std::string>> list(const std::string& prefix) override {
    return behind_.list(prefix);
  }

  // Until release(), which must come before the lease ends.
  void guard(const Lease& lease);
  void release(const Lease& lease);
  // Whether this process has the lease of the service.
  bool isGuarded(const ServiceName& service);

 private:
  registry::Registers& behind_;
  std::mutex mutex_;
  std::map<std::string, const Lease*> leases_;  // by service; guarded by mutex_
};

}  // namespace cctl::ops
