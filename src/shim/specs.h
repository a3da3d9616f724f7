// The specs on this host, and which releases and specs nothing here needs any more.
#pragma once

#include "protocol/messages.h"
#include "shim/host.h"

namespace cctl::shim {

// kCorrupt when the text does not have its digest; kNoSpace. Durable when it returns.
[[nodiscard]] Result<void> putSpec(const std::string& root, const protocol::SpecPutRequest& spec);
// kNotFound; kCorrupt when it was changed on the disk.
[[nodiscard]] Result<std::string> getSpec(const std::string& root,
                                          const protocol::SpecGetRequest& request);

// A regular file of an installed release, links not followed. kNotFound.
[[nodiscard]] Result<Fd> openReleaseFile(Host& host, const protocol::ReleaseReadRequest& request);

// What must stay is looked up here and now, whatever the request says.
[[nodiscard]] Result<protocol::PruneReply> prune(Host& host, const protocol::PruneRequest& request);

}  // namespace cctl::shim
