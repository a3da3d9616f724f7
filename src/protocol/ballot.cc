#include "protocol/ballot.h"

#include <charconv>

namespace cctl::protocol {
namespace {

bool readNumber(std::string_view text, uint64_t& value, int base) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

std::string UniqueId::text() const {
  return isNone() ? std::string() : fmt::format("{:016x}{:016x}", high, low);
}

Result<UniqueId> UniqueId::fromText(std::string_view text) {
  UniqueId id;
  if (text.empty()) return id;
  if (text.size() != 32 || !readNumber(text.substr(0, 16), id.high, 16) ||
      !readNumber(text.substr(16), id.low, 16))
    return fail(Code::kCorrupt, "not an identifier of 32 hex digits");
  return id;
}

std::string Ballot::text() const {
  return isNone() ? std::string() : fmt::format("{}:{}", counter, attempt.text());
}

Result<Ballot> Ballot::fromText(std::string_view text) {
  Ballot ballot;
  if (text.empty()) return ballot;
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos || !readNumber(text.substr(0, colon), ballot.counter, 10) ||
      ballot.counter == 0)
    return fail(Code::kCorrupt, "not a ballot");
  CCTL_TRY(ballot.attempt, UniqueId::fromText(text.substr(colon + 1)));
  return ballot;
}

std::string Epoch::text() const { return fmt::format("{}.{}", incarnation, number); }

Result<Epoch> Epoch::fromText(std::string_view text) {
  Epoch epoch;
  const size_t dot = text.find('.');
  if (dot == std::string_view::npos || !readNumber(text.substr(0, dot), epoch.incarnation, 10) ||
      !readNumber(text.substr(dot + 1), epoch.number, 10))
    return fail(Code::kCorrupt, "not an epoch");
  return epoch;
}

}  // namespace cctl::protocol
