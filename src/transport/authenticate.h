// Proving who we are: agent, key files, certificates. Never a password.
#pragma once

#include <string>

#include "base/cancel.h"
#include "base/result.h"
#include "transport/agent.h"
#include "transport/keys.h"
#include "transport/session.h"
#include "transport/ssh_config.h"

namespace cctl::ssh {

// Order: key files that inventory or ssh_config name and that need no passphrase (offered at once,
// signed: one round trip), the agent's keys (those of the named files first; only those with
// IdentitiesOnly), the usual key files, and last what has to be asked for. The error
// (kUnreachable) lists what was tried, what the server accepts, and the way out. Time that a person
// takes is added to `*deadline`.
[[nodiscard]] Result<void> authenticate(Session& session, const ResolvedHost& host, KeyStore& keys,
                                        AgentDirectory& agents, Deadline* deadline,
                                        const CancelToken* cancel);

}  // namespace cctl::ssh
