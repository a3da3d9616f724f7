// What changes between two generations, for plans and `--diff`. Pure.
#pragma once

#include "model/plan.h"
#include "protocol/messages.h"

namespace cctl::ops {

// For people: its arguments, environment, files and probes with every secret as "(secret)".
protocol::GenerationSpec withoutSecrets(protocol::GenerationSpec spec);

// Command, environment and files, as `diff -u` writes them; secrets are hidden. Empty: no
// difference.
std::string diffOf(const protocol::GenerationSpec& running, const protocol::GenerationSpec& fresh);

// Everything that a service could notice; empty when nothing. The generation's number, the
// digest of its spec and what of it is secret are not part of it: a manifest that changes only
// where instances are placed renews none of them. Secrets are hidden in its files.
Difference differenceOf(const protocol::GenerationSpec& running,
                        const protocol::GenerationSpec& fresh);

// All files of a generation, where there was none before. Secrets are hidden.
std::vector<FileDifference> newFilesOf(const protocol::GenerationSpec& fresh);

}  // namespace cctl::ops
