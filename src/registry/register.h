// The registers of the cluster as operations see them: read, compare-and-set by revision, list.
// What is behind the interface (one durable store for now) is nobody else's business.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "protocol/messages.h"

namespace cctl::registry {

// Thread-safe; every call blocks until decided. Errors: kNoQuorum when nothing could be decided
// (surely not done), kUnknownOutcome when a write was sent and no answer came.
class Registers {
 public:
  virtual ~Registers() = default;
  [[nodiscard]] virtual Result<protocol::RegisterValue> read(const std::string& key) = 0;
  // `swapped` false: the register held another revision, which is returned.
  [[nodiscard]] virtual Result<protocol::RegisterWriteReply> write(const std::string& key,
                                                                   uint64_t expected,
                                                                   JsonText value) = 0;
  [[nodiscard]] virtual Result<std::vector<std::string>> list(const std::string& prefix) = 0;
};

// Reads, lets `change` make the next value, writes; again from the start when another writer was
// faster, at most 20 times (then kConflict). `change` returns an error to stop. Returns what
// stands.
[[nodiscard]] Result<protocol::RegisterValue> update(
    Registers& registers, const std::string& key,
    const std::function<Result<JsonText>(const protocol::RegisterValue&)>& change);

}  // namespace cctl::registry
