#include "ops/drain_connections.h"

#include <algorithm>

#include "base/text.h"
#include "transport/fan_out.h"

namespace cctl::ops {
namespace {

constexpr Millis kQuiet{500}, kEvery{50};

// nullopt when one of the hosts cannot tell.
std::optional<int> connectionsTo(Operation& operation, const std::vector<OldGeneration>& items) {
  ssh::FanOutOptions options;
  options.forks = operation.fleet.forks();
  const auto replies = ssh::forEachHost<protocol::ConnectionsReply>(
      items.size(), options, [&](size_t i) -> Result<protocol::ConnectionsReply> {
        CCTL_TRY(HostConnection * connection, operation.fleet.await(items[i].host));
        protocol::ConnectionsRequest request;
        request.service = items[i].id.service.str();
        request.index = items[i].id.index;
        request.generation = items[i].generation;
        request.most = 0;
        return connection->shim->call<protocol::ConnectionsReply>(request,
                                                                  Deadline::in(kRequestTimeout));
      });
  int total = 0;
  for (const auto& reply : replies) {
    if (!reply) return std::nullopt;
    total += reply->total;
  }
  return total;
}

}  // namespace

Result<void> drainConnections(Operation& operation, const std::vector<OldGeneration>& items,
                              Millis most, const CancelToken* cancel) {
  const auto begun = std::chrono::steady_clock::now();
  const auto since = [&](SteadyTime then) {
    return std::chrono::duration_cast<Millis>(std::chrono::steady_clock::now() - then);
  };
  std::optional<int> open = 0;
  SteadyTime busy = begun;
  CCTL_CHECK(pauseFor(kLeastDrain - kQuiet, cancel));
  for (;;) {
    open = connectionsTo(operation, items);
    if (open != 0) busy = std::chrono::steady_clock::now();
    if (since(begun) >= kLeastDrain && since(busy) >= kQuiet) return {};
    if (since(begun) >= std::max(kLeastDrain, most)) break;
    CCTL_CHECK(pauseFor(kEvery, cancel));
  }
  if (open.value_or(0) > 0)
    operation.events.step("", fmt::format("{} open after {}; going on",
                                          counted(static_cast<size_t>(*open), "connection"),
                                          humanDuration(since(begun))));
  return {};
}

Result<void> drainLeftBehind(Operation& operation, const ServiceName& service,
                             const std::vector<OldGeneration>& items, Millis most) {
  CCTL_CHECK(pushNames(operation, {service}, allHosts(operation.inventory())));
  return drainConnections(operation, items, most, operation.cancel);
}

}  // namespace cctl::ops
