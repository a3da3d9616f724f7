#include "ops/inspect.h"

#include <poll.h>

#include <algorithm>

namespace cctl::ops {
namespace {

constexpr Millis kVerifyTimeout{600'000};
constexpr Millis kFirstPause{100};  // between attempts to get a lost stream back
constexpr Millis kLongestPause{5'000};
constexpr Millis kShimBack{90'000};  // the boot hook starts a shim within a minute

Deadline deadlineFor(bool follow) {
  return follow ? Deadline::never() : Deadline::in(kRequestTimeout);
}

Result<void> ignoreReply(const Result<protocol::Empty>& reply) {
  if (!reply) return fail(reply.error());
  return {};
}

// One stream of one host, over as many connections as it takes.
class Follower {
 public:
  Follower(Fleet& fleet, HostName host) : fleet_(fleet), host_(std::move(host)) {}

  // `request` is sent again as it has become meanwhile.
  template <typename Request>
  Result<void> run(const Request& request, bool follow, const ShimClient::OnItem& on_item) {
    CCTL_TRY(HostConnection * connection, fleet_.await(host_));
    for (;;) {
      auto done = ignoreReply(connection->shim->call<protocol::Empty>(request, deadlineFor(follow),
                                                                      fleet_.cancel(), on_item));
      if (done || !follow || done.error().code != Code::kUnreachable || cancelled()) return done;
      tell(done.error().message + "; trying again");
      CCTL_TRY(again_, connectPatiently());
      connection = again_.get();
      tell("connected again");
    }
  }

 private:
  bool cancelled() const { return fleet_.cancel() && fleet_.cancel()->cancelled(); }
  // The host stands before it in any case.
  void tell(std::string text) const {
    if (text.starts_with(host_.str() + ": ")) text.erase(0, host_.str().size() + 2);
    fleet_.events().onEvent({OpEventKind::kWarning, host_.str(), std::move(text), {}});
  }

  // Until it is there, or has become something else than unreachable.
  Result<std::unique_ptr<HostConnection>> connectPatiently() const {
    const Deadline shim_back = Deadline::in(kShimBack);
    for (Millis pause = kFirstPause;; pause = std::min(pause * 2, kLongestPause)) {
      auto connected = fleet_.connectAgain(host_, fleet_.cancel());
      if (connected || cancelled()) return connected;
      const Code code = connected.error().code;
      const bool no_shim = code == Code::kNotFound;
      if (no_shim ? shim_back.passed() : code != Code::kUnreachable && code != Code::kTimeout)
        return connected;
      pollfd wait{fleet_.cancel() ? fleet_.cancel()->fd() : -1, POLLIN, 0};
      ::poll(&wait, 1, static_cast<int>(pause.count()));
    }
  }

  Fleet& fleet_;
  const HostName host_;
  std::unique_ptr<HostConnection> again_;
};

}  // namespace

Result<void> streamLogs(Fleet& fleet, const HostName& host, protocol::LogsRequest request,
                        const std::function<void(std::string_view)>& on_bytes) {
  request.positions = request.follow;
  const auto on_item = [&](const protocol::Frame& frame, ShimClient::Upload&) -> Result<void> {
    if (frame.kind == protocol::FrameKind::kItem) {
      CCTL_TRY(request.from, protocol::decodeReply<protocol::LogPosition>(frame.payload));
    } else {
      on_bytes(frame.payload);
    }
    return {};
  };
  return Follower(fleet, host).run(request, request.follow, on_item);
}

Result<void> streamEvents(Fleet& fleet, const HostName& host, protocol::EventsRequest request,
                          const std::function<void(const protocol::Event&)>& on_event) {
  const auto on_item = [&](const protocol::Frame& frame, ShimClient::Upload&) -> Result<void> {
    CCTL_TRY(const auto event, protocol::decodeReply<protocol::Event>(frame.payload));
    request.after = event.seq;
    on_event(event);
    return {};
  };
  return Follower(fleet, host).run(request, request.follow, on_item);
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
