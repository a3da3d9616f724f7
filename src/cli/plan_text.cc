#include "cli/plan_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "model/node_set.h"
#include "model/text_diff.h"

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

// The lines that change and where they are, without those around them.
std::string changedLines(const std::string& diff) {
  std::string changed;
  for (size_t at = 0; at < diff.size();) {
    const size_t end = std::min(diff.find('\n', at), diff.size() - 1) + 1;
    if (diff[at] != ' ') changed += diff.substr(at, end - at);
    at = end;
  }
  return changed;
}

std::string paintedDiff(const std::string& diff, const Painter& painter) {
  std::string text;
  for (size_t at = 0; at < diff.size();) {
    const size_t end = std::min(diff.find('\n', at), diff.size());
    const std::string line = printable(diff.substr(at, end - at));
    const Style style = diff.compare(at, 2, "@@") == 0 ? Style::kDim
                        : diff[at] == '+'              ? Style::kGood
                        : diff[at] == '-'              ? Style::kBad
                                                       : Style::kPlain;
    text += painter.paint(style, line) + "\n";
    at = end + 1;
  }
  return text;
}

}  // namespace

std::vector<FileDiff> diffsOf(const std::string& instance,
                              const std::vector<FileDifference>& files) {
  std::vector<FileDiff> diffs;
  for (const FileDifference& file : files)
    diffs.push_back({instance, file.path,
                     unifiedDiff(file.is_new ? "/dev/null" : file.path + " (runs now)",
                                 file.path + " (planned)", file.before, file.after)});
  return diffs;
}

std::string diffText(const std::vector<FileDiff>& diffs, const Painter& painter) {
  struct Group {
    const FileDiff* first;
    std::string changed;
    std::vector<std::string> instances;
  };
  std::vector<Group> groups;
  for (const FileDiff& diff : diffs) {
    const std::string changed = changedLines(diff.text);
    auto group = std::find_if(groups.begin(), groups.end(), [&](const Group& one) {
      return one.first->path == diff.path && one.changed == changed;
    });
    if (group == groups.end()) group = groups.insert(group, {&diff, changed, {}});
    group->instances.push_back(diff.instance);
  }
  std::string text;
  for (const Group& group : groups)
    text += painter.paint(
                Style::kBold,
                printable(fmt::format("{}: {}", foldNodeSet(group.instances), group.first->path))) +
            "\n" + paintedDiff(group.first->text, painter);
  return text;
}

std::string diffText(const std::vector<PlannedChange>& changes, const Painter& painter) {
  std::vector<FileDiff> all;
  for (const PlannedChange& change : changes)
    for (FileDiff& diff : diffsOf(change.id.text(), change.files)) all.push_back(std::move(diff));
  return diffText(all, painter);
}

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

std::string dependantsText(const std::vector<ops::DependantChange>& dependants) {
  std::string text;
  for (const ops::DependantChange& change : dependants) {
    std::vector<std::string> names;
    size_t most = 0;
    for (const auto& [id, count] : change.instances) {
      names.push_back(id.text());
      most = std::max(most, count);
    }
    text += fmt::format("    {}: its config follows the changed endpoints", foldNodeSet(names));
    if (change.action != OnChange::kNone)
      text += change.action == OnChange::kRestart ? ", and it restarts" : ", and it is reloaded";
    if (names.size() > change.batch) text += fmt::format(", {} at a time", change.batch);
    if (most > 1) text += fmt::format("; {} times, once for each change", most);
    text += "\n";
  }
  return text;
}

Json dependantsJson(const std::vector<ops::DependantChange>& dependants) {
  Json list = Json::array();
  for (const ops::DependantChange& change : dependants) {
    Json instances = Json::object();
    for (const auto& [id, count] : change.instances) instances[id.text()] = count;
    list.push_back({{"service", change.service.str()},
                    {"on_change", onChangeName(change.action)},
                    {"batch", change.batch},
                    {"instances", instances}});
  }
  return list;
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

Json diffsJson(const std::vector<FileDiff>& diffs) {
  Json list = Json::array();
  for (const FileDiff& diff : diffs) list.push_back({{"path", diff.path}, {"diff", diff.text}});
  return list;
}

Json changeJson(const PlannedChange& change, bool diff) {
  Json json = {{"action", changeName(change.kind)},
               {"instance", change.id.text()},
               {"host", change.host.str()},
               {"from_host", change.from ? Json(change.from->str()) : Json()},
               {"version", change.version.str()},
               {"why", change.why}};
  if (diff) json["files"] = diffsJson(diffsOf(change.id.text(), change.files));
  return json;
}

Json planJson(const PlanInput& input, const Plan& plan, bool diff) {
  Json changes = Json::array(), waves = Json::array(), kept = Json::array(), held = Json::array();
  for (const PlannedChange& change : changesOf(input, plan))
    changes.push_back(changeJson(change, diff));
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
