#include "shim/hooks.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "model/host_paths.h"
#include "shim/sealed_file.h"

namespace cctl::shim {
namespace {

using protocol::EventKind;
using protocol::ExitReport;

constexpr char kKind[] = "hooks";
constexpr size_t kMaxHooks = 64;

Result<void> checkHooks(const std::vector<protocol::Hook>& hooks) {
  if (hooks.size() > kMaxHooks) return fail(Code::kBadInput, "more than {} hooks", kMaxHooks);
  for (const protocol::Hook& hook : hooks) {
    const bool absolute = !hook.argv.empty() && hook.argv.front().starts_with('/');
    const bool text = std::all_of(hook.argv.begin(), hook.argv.end(), [](const std::string& word) {
      return word.find('\0') == std::string::npos;
    });
    if (!absolute || !text || hook.on.empty())
      return fail(Code::kBadInput,
                  "a hook wants the absolute path of a program, and what to be run for");
  }
  return {};
}

}  // namespace

std::string hookInput(const Identity& identity, const protocol::Event& event) {
  Json json = protocol::encode(event);
  json["host"] = identity.host;
  json["cluster"] = identity.cluster;
  return dumpJson(json) + "\n";
}

Hooks::Hooks(std::string root, Identity identity, EventLoop& loop, Journal& journal,
             HookLimits limits)
    : root_(std::move(root)),
      identity_(std::move(identity)),
      loop_(loop),
      journal_(journal),
      limits_(limits) {
  load();
  observation_ = journal_.observe([this](const protocol::Event& event) { onEvent(event); });
}

Hooks::~Hooks() { journal_.unobserve(observation_); }

void Hooks::load() {
  const std::string path = paths::hooksFile(root_);
  const auto json = readSealed(path, kKind);
  if (!json && json.error().code == Code::kNotFound) return;
  auto stored = json ? protocol::decode<protocol::HooksRequest>(*json)
                     : Result<protocol::HooksRequest>(fail(json.error()));
  if (stored)
    if (auto checked = checkHooks(stored->hooks); !checked) stored = fail(checked.error());
  if (stored) {
    hooks_ = std::move(stored->hooks);
    return;
  }
  problem_ = stored.error().message;
  wake();  // the journal is opened after this
}

Result<void> Hooks::replace(std::vector<protocol::Hook> hooks) {
  if (hooks == hooks_) return {};
  CCTL_CHECK(checkHooks(hooks));
  CCTL_CHECK(writeSealed(paths::hooksFile(root_), kKind,
                         protocol::encode(protocol::HooksRequest{hooks}), Sync::kYes));
  hooks_ = std::move(hooks);
  protocol::Event event;
  event.kind = EventKind::kOrder;
  event.text = fmt::format("alerts changed: {}", counted(hooks_.size(), "program"));
  journal_.append(std::move(event));
  return {};
}

void Hooks::onEvent(const protocol::Event& event) {
  if (!event.alert) return;
  for (const protocol::Hook& hook : hooks_) {
    if (std::find(hook.on.begin(), hook.on.end(), *event.alert) == hook.on.end()) continue;
    if (waiting_.size() >= limits_.waiting)
      ++dropped_;
    else
      waiting_.push_back({hook.argv, event});
  }
  if (!waiting_.empty()) wake();
}

// From the loop: whoever appends is in the middle of restarting the service.
void Hooks::wake() {
  if (!wake_.pending()) wake_ = loop_.after(Millis(0), [this] { beginWaiting(); });
}

void Hooks::beginWaiting() {
  tellProblem();
  tellDropped();
  while (!waiting_.empty() && runs_.size() < limits_.at_once) {
    begin(std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

void Hooks::tellProblem() {
  if (problem_.empty()) return;
  protocol::Event event;
  event.kind = EventKind::kLost;
  event.text = std::exchange(problem_, {}) +
               "; no alerts are run until the next command that changes something";
  journal_.append(std::move(event));
}

void Hooks::tellDropped() {
  if (dropped_ == 0 || waiting_.size() >= limits_.waiting) return;
  protocol::Event event;
  event.kind = EventKind::kHook;
  event.text = fmt::format("{} not run: more than {} were waiting",
                           counted(std::exchange(dropped_, 0), "alert"), limits_.waiting);
  journal_.append(std::move(event));
}

void Hooks::begin(Job job) {
  const std::string input = hookInput(identity_, job.event);
  auto program = std::make_unique<Program>(loop_, limits_.time_limit,
                                           [this](Program& ended) { onEnd(ended); });
  if (auto begun = program->begin(job.argv, input); !begun)
    return recordFailure(job, begun.error().message, std::nullopt);
  runs_.push_back({std::move(job), std::move(program)});
}

void Hooks::onEnd(Program& program) {
  const auto run = std::find_if(runs_.begin(), runs_.end(),
                                [&](const Run& one) { return one.program.get() == &program; });
  if (!program.succeeded()) recordFailure(run->job, program.describe(), program.report());
  runs_.erase(run);
  wake();
}

void Hooks::recordFailure(const Job& job, const std::string& how, std::optional<ExitReport> exit) {
  protocol::Event event;
  event.kind = EventKind::kHook;
  event.service = job.event.service;
  event.index = job.event.index;
  event.generation = job.event.generation;
  event.version = job.event.version;
  event.text = fmt::format("alert {} failed: {}", job.argv.front(), how);
  event.exit = std::move(exit);
  journal_.append(std::move(event));
}

}  // namespace cctl::shim
