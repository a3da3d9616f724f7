// The registers of the cluster, kept by the shim of the first registry host.
#pragma once

#include "ops/fleet.h"
#include "registry/register.h"

namespace cctl::ops {

class ShimRegisters final : public registry::Registers {
 public:
  // The host must have been begun in `fleet`, which must outlive this.
  ShimRegisters(Fleet& fleet, HostName host) : fleet_(fleet), host_(std::move(host)) {}

  [[nodiscard]] Result<protocol::RegisterValue> read(const std::string& key) override;
  [[nodiscard]] Result<protocol::RegisterWriteReply> write(const std::string& key,
                                                           uint64_t expected,
                                                           JsonText value) override;
  [[nodiscard]] Result<std::vector<std::string>> list(const std::string& prefix) override;

 private:
  [[nodiscard]] Result<ShimClient*> shim();

  Fleet& fleet_;
  const HostName host_;
};

}  // namespace cctl::ops
