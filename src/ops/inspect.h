// Looking at what is on a host: output, journal, digests.
#pragma once

#include <functional>

#include "ops/operation.h"

namespace cctl::ops {

// Lines "TIME STREAM TEXT\n" as the shim kept them, in chunks that may cut a line. Blocks until the
// end; with `follow`, until cancelled or the instance is gone: a connection that is lost, or a shim
// that is upgraded, is said as a warning, and the stream goes on where it was once the host answers
// again. `on_bytes` is called on this thread. The host must have been begun.
[[nodiscard]] Result<void> streamLogs(Fleet& fleet, const HostName& host,
                                      protocol::LogsRequest request,
                                      const std::function<void(std::string_view)>& on_bytes);

// Oldest first. The same rules.
[[nodiscard]] Result<void> streamEvents(
    Fleet& fleet, const HostName& host, protocol::EventsRequest request,
    const std::function<void(const protocol::Event&)>& on_event);

// Rehashes all that is installed and running of a service (of all when empty): slow on purpose.
[[nodiscard]] Result<std::vector<protocol::VerifyItem>> verifyHost(HostConnection& host,
                                                                   const std::string& service,
                                                                   const CancelToken* cancel);

}  // namespace cctl::ops
