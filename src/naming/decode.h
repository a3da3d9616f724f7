// The texts that a shim sends and writes, as values (PROTOCOL.md, "The naming socket").
#pragma once

#include <string>
#include <string_view>

#include "clusterctl/naming.h"

namespace clusterctl::internal {

// One object of the socket or of registry/services/S.json. False, with *error, for anything else.
bool decodeService(std::string_view text, Service* service, std::string* error);

// The service `name` of a registry.json; known is false when it is not among them.
bool decodeFromRegistry(std::string_view text, const std::string& name, Service* service,
                        std::string* error);

bool isServiceName(const std::string& name);

}  // namespace clusterctl::internal
