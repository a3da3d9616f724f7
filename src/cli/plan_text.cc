#include "cli/plan_text.h"

#include <nlohmann/json.hpp>

#include "base/text.h"

namespace cctl::cli {
namespace {

struct Mark {
  const char* sign;
  Style style;
};

Mark markOf(ChangeKind kind) {
  switch (kind) {
    case ChangeKind::kStart:
      return {"+", Style::kGood};
    case ChangeKind::kReplace:
    case ChangeKind::kMove:
      return {"~", Style::kWarn};
    case ChangeKind::kRemove:
    case ChangeKind::kStray:
      break;
  }
  return {"-", Style::kBad};
}

std::string placeText(const PlannedChange& change) {
  if (change.from) return fmt::format("from {} to {}", *change.from, change.host);
  return fmt::format("on {}", change.host);
}

// Each step in a few words; without its instances, which the changes name.
struct StepWords {
  std::string operator()(const StartStep&) const { return "start, wait until ready"; }
  std::string operator()(const ObserveStep& step) const {
    return step.duration.count() > 0 ? "observe " + humanDuration(step.duration) : "look again";
  }
  std::string operator()(const RestartStep&) const { return "restart"; }
  std::string operator()(const PublishStep&) const { return "publish"; }
  std::string operator()(const WithdrawStep&) const { return "withdraw"; }
  std::string operator()(const DrainStep& step) const {
    return "drain up to " + humanDuration(step.most);
  }
  std::string operator()(const StopStep&) const { return "stop the old"; }
  std::string operator()(const ForgetStep&) const { return "take off the host"; }
};

}  // namespace

std::string changeText(const PlannedChange& change, const Painter& painter) {
  const Mark mark = markOf(change.kind);
  const bool ends = change.kind == ChangeKind::kRemove || change.kind == ChangeKind::kStray;
  return painter.paint(mark.style,
                       printable(fmt::format(
                           "  {} {} {}: {} {} ({})", mark.sign, change.id, placeText(change),
                           ends ? "stop and remove" : changeName(change.kind),
                           ends ? change.version.str() : "as " + change.version.str(),
                           fmt::join(change.why, "; ")))) +
         "\n";
}

std::string stepsText(const Wave& wave) {
  std::string text;
  for (const Step& step : wave.steps)
    text += (text.empty() ? "" : " → ") + std::visit(StepWords{}, step);
  return text;
}

std::string planText(const PlanInput& input, const Plan& plan, const Painter& painter) {
  std::string text;
  Plan strays;
  strays.strays = plan.strays;
  for (const PlannedChange& change : changesOf(input, strays)) text += changeText(change, painter);
  for (size_t i = 0; i < plan.waves.size(); ++i) {
    const std::vector<PlannedChange> changes = changesOf(input, plan.waves[i]);
    text += painter.paint(Style::kDim, fmt::format("  wave {} of {}: {}", i + 1, plan.waves.size(),
                                                   stepsText(plan.waves[i]))) +
            "\n";
    if (changes.empty()) text += "    " + plan.waves[i].title + "\n";
    for (const PlannedChange& change : changes) text += "  " + changeText(change, painter);
  }
  for (const InstanceId& id : plan.held) text += fmt::format("    {}: stays stopped\n", id);
  if (!plan.kept.empty())
    text += fmt::format("    {} as it should be\n", counted(plan.kept.size(), "instance"));
  return text;
}

std::string countsText(const std::vector<PlannedChange>& changes) {
  static const std::pair<ChangeKind, const char*> kKinds[] = {{ChangeKind::kStart, "start"},
                                                              {ChangeKind::kReplace, "replace"},
                                                              {ChangeKind::kMove, "move"},
                                                              {ChangeKind::kRemove, "remove"},
                                                              {ChangeKind::kStray, "clean up"}};
  std::string text;
  for (const auto& [kind, verb] : kKinds) {
    size_t count = 0;
    for (const PlannedChange& change : changes) count += change.kind == kind ? 1 : 0;
    if (count > 0) text += fmt::format("{}{} to {}", text.empty() ? "" : ", ", count, verb);
  }
  return text.empty() ? "nothing to do" : text;
}

Json changeJson(const PlannedChange& change) {
  return {{"action", changeName(change.kind)},
          {"instance", change.id.text()},
          {"host", change.host.str()},
          {"from_host", change.from ? Json(change.from->str()) : Json()},
          {"version", change.version.str()},
          {"why", change.why}};
}

Json planJson(const PlanInput& input, const Plan& plan) {
  Json changes = Json::array(), waves = Json::array(), kept = Json::array(), held = Json::array();
  for (const PlannedChange& change : changesOf(input, plan)) changes.push_back(changeJson(change));
  for (const Wave& wave : plan.waves) {
    Json steps = Json::array();
    for (const Step& step : wave.steps) steps.push_back(std::visit(StepWords{}, step));
    waves.push_back({{"title", wave.title}, {"steps", steps}});
  }
  for (const InstanceId& id : plan.kept) kept.push_back(id.text());
  for (const InstanceId& id : plan.held) held.push_back(id.text());
  return {{"changes", changes}, {"waves", waves}, {"kept", kept}, {"held", held}};
}

}  // namespace cctl::cli
