#include "ops/fenced_registers.h"

#include <array>
#include <string_view>

namespace cctl::ops {
namespace {

// The service whose lock covers a key; empty when none does.
std::string guardedService(std::string_view key) {
  for (const std::string_view prefix : {"desired/", "endpoints/"})
    if (key.substr(0, prefix.size()) == prefix) return std::string(key.substr(prefix.size()));
  return "";
}

}  // namespace

Result<protocol::RegisterWriteReply> FencedRegisters::write(const std::string& key,
                                                            uint64_t expected, JsonText value) {
  {
    const std::lock_guard lock(mutex_);
    const auto lease = leases_.find(guardedService(key));
    if (lease != leases_.end() && !lease->second->held()) return fail(lease->second->lost());
  }
  return behind_.write(key, expected, std::move(value));
}

void FencedRegisters::guard(const Lease& lease) {
  const std::lock_guard lock(mutex_);
  leases_[lease.service()] = &lease;
}

void FencedRegisters::release(const Lease& lease) {
  const std::lock_guard lock(mutex_);
  const auto found = leases_.find(lease.service());
  if (found != leases_.end() && found->second == &lease) leases_.erase(found);
}

bool FencedRegisters::isGuarded(const ServiceName& service) {
  const std::lock_guard lock(mutex_);
  return leases_.count(service.str()) != 0;
}

}  // namespace cctl::ops
