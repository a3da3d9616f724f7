// Looking at what is on a host: output, journal, digests.
#pragma once

#include <functional>

#include "ops/operation.h"

namespace cctl::ops {

// Lines "TIME STREAM TEXT\n" as the shim kept them, in chunks that may cut a line. Blocks until the
// end; with `follow`, until cancelled or the instance is gone. `on_bytes` is called on this thread.
[[nodiscard]] Result<void> streamLogs(HostConnection& host, const protocol::LogsRequest& request,
                                      const std::function<void(std::string_view)>& on_bytes,
                                      const CancelToken* cancel);

// Oldest first. The same rules.
[[nodiscard]] Result<void> streamEvents(HostConnection& host,
                                        const protocol::EventsRequest& request,
                                        const std::function<void(const protocol::Event&)>& on_event,
                                        const CancelToken* cancel);

// Rehashes all that is installed and running of a service (of all when empty): slow on purpose.
[[nodiscard]] Result<std::vector<protocol::VerifyItem>> verifyHost(HostConnection& host,
                                                                   const std::string& service,
                                                                   const CancelToken* cancel);

}  // namespace cctl::ops
