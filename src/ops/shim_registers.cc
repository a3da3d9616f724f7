#include "ops/shim_registers.h"

namespace cctl::ops {
namespace {

constexpr Millis kRegisterTimeout{10'000};

}  // namespace

// Orders to the registers are not cancelled by Ctrl-C: the lock must be released after it, too.
Result<ShimClient*> ShimRegisters::shim() {
  auto connection = fleet_.await(host_);
  if (!connection)
    return fail(Code::kNoQuorum, "the registry is kept by {}, which cannot be used: {}", host_,
                connection.error().message);
  return (*connection)->shim.get();
}

Result<protocol::RegisterValue> ShimRegisters::read(const std::string& key) {
  CCTL_TRY(ShimClient * shim, this->shim());
  auto value = shim->call<protocol::RegisterValue>(protocol::RegisterReadRequest{key},
                                                   Deadline::in(kRegisterTimeout));
  if (!value && value.error().code == Code::kUnreachable)
    return fail(Code::kNoQuorum, "register {}: {}", key, value.error().message);
  return value;
}

Result<protocol::RegisterWriteReply> ShimRegisters::write(const std::string& key, uint64_t expected,
                                                          JsonText value) {
  CCTL_TRY(ShimClient * shim, this->shim());
  auto reply = shim->call<protocol::RegisterWriteReply>(
      protocol::RegisterWriteRequest{key, expected, std::move(value)},
      Deadline::in(kRegisterTimeout));
  const bool unknown =
      !reply && (reply.error().code == Code::kUnreachable || reply.error().code == Code::kTimeout);
  if (unknown)
    return fail(Code::kUnknownOutcome, "register {}: {}; whether it was written is unknown", key,
                reply.error().message);
  return reply;
}

Result<std::vector<std::string>> ShimRegisters::list(const std::string& prefix) {
  CCTL_TRY(ShimClient * shim, this->shim());
  CCTL_TRY(protocol::RegisterListReply reply,
           shim->call<protocol::RegisterListReply>(protocol::RegisterListRequest{prefix},
                                                   Deadline::in(kRegisterTimeout)));
  return std::move(reply.keys);
}

}  // namespace cctl::ops
