#include "ops/evidence.h"

#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "ops/difference.h"

namespace cctl::ops {
namespace {

constexpr int kOutputLines = 500;
constexpr size_t kMostInstances = 20;  // that are asked about; failures.json has them all

std::string kindName(OpEventKind kind) {
  constexpr const char* kNames[] = {"phase", "step", "late", "warning", "failure"};
  return kNames[static_cast<int>(kind)];
}

// 20261124T153012Z
std::string stamp(WallTime at) {
  std::string text = formatTime(at);
  text = text.substr(0, text.find('.'));
  std::erase_if(text, [](char c) { return c == '-' || c == ':' || c == 'Z'; });
  return text + "Z";
}

Result<std::string> makeDirectory(const EvidenceInput& input, const std::string& parent) {
  CCTL_CHECK(makeDirs(parent, 0700));
  const std::string base =
      fmt::format("{}/{}-{}-{}", parent, input.service, input.version, stamp(SystemClock().wall()));
  for (int turn = 1; turn < 100; ++turn) {
    const std::string path = turn == 1 ? base : fmt::format("{}-{}", base, turn);
    if (::mkdir(path.c_str(), 0700) != 0) {
      if (errno == EEXIST) continue;
      return failErrno(errno, path);
    }
    char absolute[PATH_MAX];
    return ::realpath(path.c_str(), absolute) ? std::string(absolute) : path;
  }
  return fail(Code::kError, "{}: there are too many of that name", base);
}

std::string summary(const Operation& operation, const EvidenceInput& input) {
  std::string text =
      fmt::format("{} {}, before it {}\ncommand  {}\nby       {}\nbegun    {}\nfailed   {}\n\n{}\n",
                  input.service, input.version,
                  input.previous_version.empty() ? std::string("nothing") : input.previous_version,
                  operation.reason, operation.identity.text(), formatTime(input.begun),
                  formatTime(SystemClock().wall()), input.cause.message);
  for (const InstanceFailure& failure : input.failures)
    if (input.cause.message.find(failure.problem) == std::string::npos)  // a lone one is the cause
      text += fmt::format("{} on {}: {}\n", failure.id, failure.host, failure.problem);
  return text;
}

std::string failuresText(const std::vector<InstanceFailure>& failures) {
  Json list = Json::array();
  for (const InstanceFailure& failure : failures)
    list.push_back({{"instance", failure.id.text()},
                    {"host", failure.host.str()},
                    {"problem", failure.problem},
                    {"unreachable", failure.unreachable},
                    {"health_answer", failure.health_answer},
                    {"exit", failure.exit ? protocol::encode(*failure.exit) : Json()}});
  return dumpJsonPretty({{"format", 1}, {"failures", list}}) + "\n";
}

// One instance: what its host can tell.
class Witness {
 public:
  Witness(const Operation& operation, HostConnection& host, const EvidenceInput& input,
          const InstanceId& id)
      : host_(host), input_(input), id_(id), ref_(operation.ref(id)) {}

  Result<std::string> status() {
    Json list = Json::array();
    const auto on_item = [&](const protocol::Frame& frame, ShimClient::Upload&) -> Result<void> {
      CCTL_TRY(Json json, parseJson(frame.payload));
      if (json.value("index", -1) == id_.index) list.push_back(std::move(json));
      return {};
    };
    CCTL_CHECK(host_.shim->call<protocol::HostStatus>(
        protocol::StatusRequest{ref_.service}, Deadline::in(kRequestTimeout), nullptr, on_item));
    return dumpJsonPretty(list) + "\n";
  }

  Result<std::string> output() {
    std::string text;
    const auto on_item = [&](const protocol::Frame& frame, ShimClient::Upload&) -> Result<void> {
      if (frame.kind == protocol::FrameKind::kData) text += frame.payload;
      return {};
    };
    protocol::LogsRequest request;
    request.instance = ref_;
    request.lines = kOutputLines;
    CCTL_CHECK(host_.shim->call<protocol::Empty>(request, Deadline::in(kRequestTimeout), nullptr,
                                                 on_item));
    return text;
  }

  Result<std::string> events() {
    std::string text;
    const auto on_item = [&](const protocol::Frame& frame, ShimClient::Upload&) -> Result<void> {
      CCTL_TRY(const Json json, parseJson(frame.payload));
      if (json.value("service", "") == ref_.service && json.value("index", -1) == id_.index)
        text += dumpJson(json) + "\n";
      return {};
    };
    CCTL_CHECK(host_.shim->call<protocol::Empty>(protocol::EventsRequest{0, input_.begun, false},
                                                 Deadline::in(kRequestTimeout), nullptr, on_item));
    return text;
  }

  Result<std::string> configDiff() {
    const auto fresh = input_.fresh.find(id_), old = input_.old.find(id_);
    if (fresh == input_.fresh.end() || old == input_.old.end())
      return std::string("there are no two generations to compare\n");
    CCTL_TRY(const auto after, generation(fresh->second));
    CCTL_TRY(const auto before, generation(old->second));
    const std::string text = diffOf(before, after);
    return text.empty() ? std::string("no difference\n") : text;
  }

 private:
  Result<protocol::GenerationSpec> generation(int number) {
    return host_.shim->call<protocol::GenerationSpec>(protocol::GenerationRequest{ref_, number},
                                                      Deadline::in(kRequestTimeout));
  }

  HostConnection& host_;
  const EvidenceInput& input_;
  const InstanceId id_;
  const protocol::InstanceRef ref_;
};

Result<void> put(const std::string& path, const Result<std::string>& text) {
  return replaceFile(path, text ? *text : "cannot be had: " + text.error().message + "\n", 0600,
                     Sync::kNo);
}

Result<void> describeInstance(Operation& operation, const EvidenceInput& input,
                              const InstanceFailure& failure, const std::string& directory) {
  auto host = operation.fleet.await(failure.host);
  if (!host || failure.unreachable) return {};  // failures.json says why
  const std::string own =
      fmt::format("{}/{}-{}-{}", directory, failure.host, failure.id.service, failure.id.index);
  CCTL_CHECK(makeDirs(own, 0700));
  Witness witness(operation, **host, input, failure.id);
  CCTL_CHECK(put(own + "/status.json", witness.status()));
  CCTL_CHECK(put(own + "/output.log", witness.output()));
  CCTL_CHECK(put(own + "/events.jsonl", witness.events()));
  return put(own + "/config.diff", witness.configDiff());
}

}  // namespace

void Timeline::onEvent(const OpEvent& event) {
  {
    const std::lock_guard lock(mutex_);
    events_.emplace_back(SystemClock().wall(), event);
  }
  next_.onEvent(event);
}

std::string Timeline::jsonLines() const {
  const std::lock_guard lock(mutex_);
  std::string text;
  for (const auto& [at, event] : events_)
    text += dumpJson({{"at", formatTime(at)},
                      {"kind", kindName(event.kind)},
                      {"subject", event.subject},
                      {"text", event.text}}) +
            "\n";
  return text;
}

Result<std::string> writeEvidence(Operation& operation, const EvidenceInput& input,
                                  const std::string& parent) {
  CCTL_TRY(const std::string directory, makeDirectory(input, parent));
  CCTL_CHECK(put(directory + "/summary.txt", summary(operation, input)));
  CCTL_CHECK(put(directory + "/failures.json", failuresText(input.failures)));
  if (input.timeline) CCTL_CHECK(put(directory + "/timeline.jsonl", input.timeline->jsonLines()));
  for (size_t i = 0; i < std::min(kMostInstances, input.failures.size()); ++i)
    CCTL_CHECK(describeInstance(operation, input, input.failures[i], directory));
  return directory;
}

}  // namespace cctl::ops
