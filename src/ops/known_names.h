// The names as hosts know them: for whoever asks without a quorum.
#pragma once

#include "model/endpoint.h"
#include "ops/operation.h"

namespace cctl::ops {

// The newest of what these hosts know of a service. Once most of them have answered the others are
// waited for as long again; those that cannot be reached are passed over. kUnreachable: none
// answers. Revision 0: none has heard of it.
[[nodiscard]] Result<ServiceEndpoints> knownEndpoints(Operation& operation,
                                                      const ServiceName& service,
                                                      const std::vector<HostName>& hosts);

}  // namespace cctl::ops
