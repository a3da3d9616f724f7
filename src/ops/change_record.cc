#include "ops/change_record.h"

#include <array>
#include <nlohmann/json.hpp>

namespace cctl::ops {
namespace {

struct EndingNameOf {
  Ending ending;
  std::string_view name;
};
constexpr std::array kEndings = {
    EndingNameOf{Ending::kDone, "done"}, EndingNameOf{Ending::kFailed, "failed"},
    EndingNameOf{Ending::kRolledBack, "rolled-back"}, EndingNameOf{Ending::kPartial, "partial"},
    EndingNameOf{Ending::kInterrupted, "interrupted"}};

}  // namespace

std::string_view endingName(Ending ending) {
  for (const EndingNameOf& one : kEndings)
    if (one.ending == ending) return one.name;
  return "unknown";
}

std::optional<Ending> endingFromName(std::string_view name) {
  for (const EndingNameOf& one : kEndings)
    if (one.name == name) return one.ending;
  return std::nullopt;
}

ChangeEnd ChangeEnd::of(const std::optional<Error>& error) {
  if (!error) return {};
  switch (error->code) {
    case Code::kRolledBack:
      return {Ending::kRolledBack, error->message};
    case Code::kCancelled:
      return {Ending::kInterrupted, error->message};
    case Code::kPartial:
    case Code::kUnknownOutcome:
      return {Ending::kPartial, error->message};
    default:
      return {Ending::kFailed, error->message};
  }
}

Json encodeChange(const ChangeRecord& change) {
  const Identity& who = change.identity;
  return {{"login", who.login},
          {"machine", who.machine},
          {"boot_id", who.boot_id},
          {"pid", who.pid},
          {"ci_job", who.ci_job},
          {"command", change.command},
          {"began", formatTime(change.began)},
          {"id", change.id},
          {"action", change.action},
          {"from", change.from},
          {"to", change.to},
          {"signed_by", change.signed_by}};
}

ChangeRecord decodeChange(const Json& json) {
  ChangeRecord change;
  change.identity = {json.at("login"), json.at("machine"), json.at("boot_id"), json.at("pid"),
                     json.at("ci_job")};
  change.command = json.at("command");
  change.began = parseTime(json.at("began").get<std::string>()).value_or(WallTime{});
  change.id = json.at("id");
  change.action = json.at("action");
  change.from = json.at("from");
  change.to = json.at("to");
  change.signed_by = json.at("signed_by").get<std::vector<std::string>>();
  return change;
}

}  // namespace cctl::ops
