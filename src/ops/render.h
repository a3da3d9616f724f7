// A generation as a shim needs it, rendered from the inventory against today's endpoints.
#pragma once

#include "model/plan.h"
#include "model/render.h"
#include "ops/operation.h"

namespace cctl::ops {

using EndpointsByService = std::map<ServiceName, std::vector<Endpoint>>;

// The endpoints of all that the service depends on, from the registers.
[[nodiscard]] Result<EndpointsByService> endpointsFor(registry::Registers& registers,
                                                      const Manifest& manifest);

struct GenerationRequestInput {
  const Inventory* inventory = nullptr;
  const Manifest* manifest = nullptr;
  InstanceId id;
  Version version;
  std::string release_digest;
  int generation = 0;
  std::map<std::string, int> ports;
  const EndpointsByService* endpoints = nullptr;
};

[[nodiscard]] Result<protocol::GenerationSpec> renderGeneration(
    const HostConnection& host, const GenerationRequestInput& input);

// What would be rendered now with the number and ports of what runs.
[[nodiscard]] Result<protocol::GenerationSpec> renderToday(const HostConnection& host,
                                                           GenerationRequestInput input,
                                                           const protocol::GenerationSpec& running);

// Before anything of it is there: ports that its host chooses have no number.
[[nodiscard]] Result<protocol::GenerationSpec> renderFirst(const HostConnection& host,
                                                           GenerationRequestInput input);

// How what runs differs from what would be rendered now.
[[nodiscard]] Result<Difference> compareWithToday(const HostConnection& host,
                                                  GenerationRequestInput input,
                                                  const protocol::GenerationSpec& running);

}  // namespace cctl::ops
