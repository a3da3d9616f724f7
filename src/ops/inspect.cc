#include "ops/inspect.h"

namespace cctl::ops {
namespace {

constexpr Millis kVerifyTimeout{600'000};

Deadline deadlineFor(bool follow) {
  return follow ? Deadline::never() : Deadline::in(kRequestTimeout);
}

Result<void> ignoreReply(const Result<protocol::Empty>& reply) {
  if (!reply) return fail(reply.error());
  return {};
}

}  // namespace

Result<void> streamLogs(HostConnection& host, const protocol::LogsRequest& request,
                        const std::function<void(std::string_view)>& on_bytes,
                        const CancelToken* cancel) {
  const auto on_item = [&](const protocol::Frame& frame, ShimClient::Upload&) -> Result<void> {
    on_bytes(frame.payload);
    return {};
  };
  return ignoreReply(
      host.shim->call<protocol::Empty>(request, deadlineFor(request.follow), cancel, on_item));
}

Result<void> streamEvents(HostConnection& host, const protocol::EventsRequest& request,
                          const std::function<void(const protocol::Event&)>& on_event,
                          const CancelToken* cancel) {
  const auto on_item = [&](const protocol::Frame& frame, ShimClient::Upload&) -> Result<void> {
    CCTL_TRY(const auto event, protocol::decodeReply<protocol::Event>(frame.payload));
    on_event(event);
    return {};
  };
  return ignoreReply(
      host.shim->call<protocol::Empty>(request, deadlineFor(request.follow), cancel, on_item));
}

Result<std::vector<protocol::VerifyItem>> verifyHost(HostConnection& host,
                                                     const std::string& service,
                                                     const CancelToken* cancel) {
  std::vector<protocol::VerifyItem> items;
  const auto on_item = [&](const protocol::Frame& frame, ShimClient::Upload&) -> Result<void> {
    CCTL_TRY(auto item, protocol::decodeReply<protocol::VerifyItem>(frame.payload));
    items.push_back(std::move(item));
    return {};
  };
  CCTL_CHECK(ignoreReply(host.shim->call<protocol::Empty>(
      protocol::VerifyRequest{service}, Deadline::in(kVerifyTimeout), cancel, on_item)));
  return items;
}

}  // namespace cctl::ops
