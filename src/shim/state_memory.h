// A text that survives the supervisor, in memory that the anchor holds too (memfd_create(2)). Two
// areas and a head that says which one counts: a write that is cut off changes nothing.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"

namespace cctl::shim {

class StateMemory {
 public:
  [[nodiscard]] static Result<Fd> makeMemory();
  // Without a descriptor it keeps nothing.
  explicit StateMemory(Fd memory = Fd()) : memory_(std::move(memory)) {}

  bool kept() const { return memory_.valid(); }
  // The last text that was written whole; nothing when there was none.
  std::optional<std::string> read() const;
  [[nodiscard]] Result<void> write(std::string_view text);

 private:
  Fd memory_;
};

}  // namespace cctl::shim
