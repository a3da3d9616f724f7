// Specs and releases on hosts: put there with a roll-out, fetched again for a roll-back, from
// wherever they are, and believed by their digests alone.
#pragma once

#include <string>
#include <vector>

#include "model/spec.h"
#include "ops/operation.h"
#include "release/release_store.h"

namespace cctl::ops {

// To all of these hosts at once; the error names each that did not take it.
[[nodiscard]] Result<void> pushSpec(Operation& operation, const ServiceName& service,
                                    const std::string& text,
                                    const std::vector<HostConnection*>& hosts);

// All hosts of the inventory, those first where the service is placed: where its specs and releases
// most likely are.
std::vector<HostName> hostsToAsk(const Inventory& inventory, const Desired& desired);

// From the first of these hosts that has it. kNotFound when none that can be reached does.
[[nodiscard]] Result<Spec> fetchSpec(Operation& operation, const ServiceName& service,
                                     const std::string& digest, const std::vector<HostName>& hosts);

// What the service was, in today's inventory: its manifest and templates are the spec's.
Inventory withSpec(const Inventory& inventory, Spec spec);

// Into the store, from the first of these hosts that has it; each file and the whole are checked
// against `digest`. kNotFound when none that can be reached does.
[[nodiscard]] Result<void> fetchRelease(Operation& operation, const release::ReleaseStore& store,
                                        const ServiceName& service, const Version& version,
                                        const std::string& digest,
                                        const std::vector<HostName>& hosts);

}  // namespace cctl::ops
