// Who does what to one service, and how it ended: what stands in its lock while it lasts and in its
// history afterwards.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "base/result.h"
#include "ops/identity.h"

namespace cctl::ops {

struct ChangeRecord {
  Identity identity;
  std::string command;  // as typed
  WallTime began{};
  std::string id;                      // of the operation: random, the same for all its services
  std::string action;                  // "deploy", "restart", …
  std::string from;                    // version before; empty: none, or it is not about versions
  std::string to;                      // version wanted
  std::vector<std::string> signed_by;  // who signed the release that it brings

  bool operator==(const ChangeRecord&) const = default;
};

enum class Ending { kDone, kFailed, kRolledBack, kPartial, kInterrupted };
std::string_view endingName(Ending ending);  // "done", "rolled-back", …
std::optional<Ending> endingFromName(std::string_view name);

// How an operation ended, in words for people behind it.
struct ChangeEnd {
  Ending ending = Ending::kDone;
  std::string detail;

  static ChangeEnd of(const std::optional<Error>& error);
};

// As an object of a register's value. Decoding throws what nlohmann::json throws; callers catch.
Json encodeChange(const ChangeRecord& change);
ChangeRecord decodeChange(const Json& json);

}  // namespace cctl::ops
