// Values → text and JSON that several commands share.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "base/text.h"
#include "cli/context.h"
#include "model/names.h"
#include "ops/operation.h"
#include "ops/rollout.h"

namespace cctl::cli {

// Of a word of the command line, where a malformed name is the caller's slip (kUsage) and not the
// inventory's (kBadInput).
template <typename T>
Result<T> asUsage(Result<T> parsed) {
  if (!parsed && parsed.error().code == Code::kBadInput) parsed.error().code = Code::kUsage;
  return parsed;
}

// "exit status 3", "signal KILL", with ", core dumped"; "an exit that nobody saw".
std::string exitText(const protocol::ExitReport& exit);

// What is known of a failed instance: problem, health answer, exit, last output lines.
std::string failureText(const ops::InstanceFailure& failure);
Json failureJson(const ops::InstanceFailure& failure);
// 2 when an instance failed, 4 when all that is wrong is that hosts cannot be reached, else 0.
int failuresExitCode(const std::vector<ops::InstanceFailure>& failures,
                     const std::vector<HostName>& skipped);

// "host[1-3]"
std::string foldHosts(const std::vector<HostName>& hosts);
std::string foldHosts(const ops::HostErrors& errors);

// Hosts that were not told the names, or could not write them into their files: warnings on
// standard error, nothing when all is well.
void warnMissed(Context& context, const ops::HostErrors& missed);
// 4 when one of them could not be reached, 2 when all were, else 0.
int missedExitCode(const ops::HostErrors& missed);

std::string portsText(const std::map<std::string, int>& ports);

}  // namespace cctl::cli
