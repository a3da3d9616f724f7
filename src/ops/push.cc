#include "ops/push.h"

#include <unistd.h>

#include <cerrno>

#include "release/host_facts.h"
#include "release/needs.h"
#include "transport/fan_out.h"
#include "transport/shell_quote.h"

namespace cctl::ops {
namespace {

// Large releases over slow lines: what ends a push that is stuck is the link's own dead-peer check.
constexpr Millis kPushTimeout{3'600'000};

protocol::PushRequest encodePush(const ReleaseInfo& info) {
  protocol::PushRequest request;
  request.service = info.service.str();
  request.version = info.version.str();
  request.digest = info.digest;
  for (const FileEntry& file : info.files)
    request.files.push_back(
        {file.path, file.sha256, file.size, file.isExecutable(), file.link_target});
  return request;
}

Result<uint64_t> sendFile(ShimClient::Upload& upload, const ReleaseSource& release,
                          const FileEntry& file) {
  CCTL_TRY(Fd fd, release.open(file));
  std::string buffer(256 * 1024, '\0');
  uint64_t sent = 0;
  for (;;) {
    const ssize_t got = ::read(fd.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failErrno(errno, file.path);
    if (got == 0) break;
    CCTL_CHECK(upload.data(std::string_view(buffer).substr(0, static_cast<size_t>(got))));
    sent += static_cast<uint64_t>(got);
  }
  if (sent != file.size)
    return fail(
        Code::kCorrupt,
        "{}: {} bytes in the release store, {} when it was added; the store was changed by hand: "
        "restore it, or add the release again under a new version",
        file.path, sent, file.size);
  return sent;
}

Result<uint64_t> sendNeeded(ShimClient::Upload& upload, const ReleaseSource& release,
                            const protocol::PushNeed& need) {
  uint64_t sent = 0;
  for (const uint32_t index : need.files) {
    if (index >= release.info.files.size())
      return fail(Code::kCorrupt, "the shim asks for file {} of {}", index,
                  release.info.files.size());
    CCTL_TRY(const uint64_t size, sendFile(upload, release, release.info.files[index]));
    sent += size;
  }
  CCTL_CHECK(upload.end());
  return sent;
}

void sendSignatures(Operation& operation, HostConnection& host, const ReleaseSource& release) {
  if (release.signatures.empty()) return;
  const protocol::SignaturesRequest request{release.info.service.str(), release.info.version.str(),
                                            release.signatures};
  const auto kept =
      host.shim->call<protocol::Empty>(request, Deadline::in(kRequestTimeout), operation.cancel);
  if (!kept)
    operation.events.warning(
        host.name.str(), fmt::format("the signatures of {} {} were not kept: {}", request.service,
                                     request.version, kept.error().message));
}

// All hosts at once; one error for all that failed.
Result<void> onEach(Operation& operation, const std::vector<HostConnection*>& hosts,
                    const std::function<Result<void>(HostConnection&)>& bring) {
  ssh::FanOutOptions options;
  options.forks = operation.fleet.forks();
  options.cancel = operation.cancel;
  const auto results = ssh::forEachHost<protocol::Empty>(hosts.size(), options,
                                                         [&](size_t i) -> Result<protocol::Empty> {
                                                           CCTL_CHECK(bring(*hosts[i]));
                                                           return protocol::Empty{};
                                                         });
  HostErrors errors;
  for (size_t i = 0; i < hosts.size(); ++i)
    if (!results[i]) errors.emplace(hosts[i]->name, results[i].error());
  if (errors.empty()) return {};
  if (errors.begin()->second.code == Code::kCancelled) return fail(errors.begin()->second);
  std::string text =
      "nothing was started or stopped: the release could not be brought to every host";
  for (const auto& [name, error] : errors) text += "\n  " + error.message;
  return fail(errors.begin()->second.code, "{}", text);
}

}  // namespace

Result<PushOutcome> pushRelease(HostConnection& host, const ReleaseSource& release,
                                const CancelToken* cancel) {
  PushOutcome outcome;
  const auto on_item = [&](const protocol::Frame& frame,
                           ShimClient::Upload& upload) -> Result<void> {
    CCTL_TRY(const auto need, protocol::decodeReply<protocol::PushNeed>(frame.payload));
    if (need.files.empty()) return {};
    CCTL_TRY(outcome.sent, sendNeeded(upload, release, need));
    return {};
  };
  auto reply = host.shim->call<protocol::PushReply>(encodePush(release.info),
                                                    Deadline::in(kPushTimeout), cancel, on_item);
  if (!reply) return fail(reply.error());
  outcome.installed = reply->installed;
  return outcome;
}

Result<void> checkHostFits(HostConnection& host, const ReleaseInfo& info,
                           const CancelToken* cancel) {
  CCTL_TRY(const release::ReleaseNeeds needs, release::releaseNeeds(info));
  ssh::ExecRequest request;
  request.command = ssh::shScript(release::hostFactsScript(), release::factsToProbe(needs));
  CCTL_TRY(const ssh::ExecResult result,
           host.link->exec(request, Deadline::in(kRequestTimeout), cancel));
  auto facts = release::parseHostFacts(result.out);
  if (!facts) return fail(facts.error().context(host.name.str()));
  const std::vector<std::string> problems = checkFit(info, *facts);
  if (problems.empty()) return {};
  std::string text =
      fmt::format("{}: {} {} cannot run there:", host.name, info.service, info.version);
  for (const std::string& problem : problems) text += "\n  " + problem;
  return fail(Code::kRefused, "{}", text);
}

Result<void> checkHostsFit(Operation& operation, const ReleaseInfo& info,
                           const std::vector<HostConnection*>& hosts) {
  return onEach(operation, hosts,
                [&](HostConnection& host) { return checkHostFits(host, info, operation.cancel); });
}

Result<void> pushToAll(Operation& operation, const ReleaseSource& release,
                       const std::vector<HostConnection*>& hosts) {
  return onEach(operation, hosts, [&](HostConnection& host) -> Result<void> {
    CCTL_CHECK(checkHostFits(host, release.info, operation.cancel));
    CCTL_TRY(const PushOutcome pushed, pushRelease(host, release, operation.cancel));
    if (pushed.installed)
      operation.events.step(host.name.str(),
                            fmt::format("{} {} installed, {} sent", release.info.service,
                                        release.info.version, humanSize(pushed.sent)));
    sendSignatures(operation, host, release);
    return {};
  });
}

}  // namespace cctl::ops
