// Bringing a release to hosts: immutable, checked there, and invisible to what runs.
#pragma once

#include <functional>

#include "model/release_info.h"
#include "ops/operation.h"

namespace cctl::ops {

// A release of the local store: what it is, and its files.
struct ReleaseSource {
  ReleaseInfo info;
  std::function<Result<Fd>(const FileEntry&)> open;
  std::vector<std::string> signers{};     // who signed it off, as allowed_signers names them
  std::vector<std::string> signatures{};  // texts of those that are over exactly this
  // Enough to plan with: what it holds and needs is not known.
  bool isDigestOnly() const { return !open; }
};

struct PushOutcome {
  bool installed = false;  // false: it was there already
  uint64_t sent = 0;       // bytes
};

// Streams the files that the host lacks. kRefused when other content stands there under this
// version, kNoSpace when its disk is full; nothing half-written is visible then.
[[nodiscard]] Result<PushOutcome> pushRelease(HostConnection& host, const ReleaseSource& release,
                                              const CancelToken* cancel);

// Whether the release can run on the host: machine, libc, libraries and interpreters, as the host
// says now. kRefused with every reason when not.
[[nodiscard]] Result<void> checkHostFits(HostConnection& host, const ReleaseInfo& info,
                                         const CancelToken* cancel);

// The same of all of these hosts at once; the error names every host that it does not fit.
[[nodiscard]] Result<void> checkHostsFit(Operation& operation, const ReleaseInfo& info,
                                         const std::vector<HostConnection*>& hosts);

// Both, on all of these hosts at once, and the signatures, so that whoever fetches the release from
// one of them has its sign-off, too; a host that does not keep those is warned of. The error names
// every host that failed.
[[nodiscard]] Result<void> pushToAll(Operation& operation, const ReleaseSource& release,
                                     const std::vector<HostConnection*>& hosts);

}  // namespace cctl::ops
