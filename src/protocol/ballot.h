// Names that are never used twice, and their order: what one attempt to decide a register is called
// by, and what one wish to change it is known by.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace cctl::protocol {

// 128 bits from the kernel's generator; all zero: none.
struct UniqueId {
  uint64_t high = 0;
  uint64_t low = 0;
  auto operator<=>(const UniqueId&) const = default;
  bool isNone() const { return high == 0 && low == 0; }
  std::string text() const;  // 32 hex digits; "" for none
  [[nodiscard]] static Result<UniqueId> fromText(std::string_view text);
};

// The number of one attempt on one register. Two attempts never share one, not even of the same
// process after a time-out: the counter orders them, the random part tells them apart.
struct Ballot {
  uint64_t counter = 0;  // 0: none, lower than every ballot
  UniqueId attempt;
  auto operator<=>(const Ballot&) const = default;
  bool isNone() const { return counter == 0; }
  std::string text() const;  // "COUNTER:HEX"; "" for none
  [[nodiscard]] static Result<Ballot> fromText(std::string_view text);
};

// Which set of members a request is meant for. The incarnation rises when a lost quorum is replaced
// by force, the number with every step of a membership change. Number 0 stands for the founding of
// that incarnation: only `config` is decided then, by all hosts concerned.
struct Epoch {
  uint64_t incarnation = 0;
  uint64_t number = 0;
  auto operator<=>(const Epoch&) const = default;
  bool isNone() const { return incarnation == 0; }
  bool isFounding() const { return number == 0; }
  std::string text() const;  // "INCARNATION.NUMBER"
  [[nodiscard]] static Result<Epoch> fromText(std::string_view text);
};

}  // namespace cctl::protocol
