// The names of services as other software reads them (PROTOCOL.md, "Views"). Pure.
#pragma once

#include <string>
#include <vector>

#include "model/endpoint.h"
#include "protocol/messages.h"

namespace cctl::shim {

// A service as this host shows it.
struct ShownService {
  std::string service;
  std::vector<Endpoint> endpoints;
};

// The whole file of a view that has one (all but HAProxy's).
std::string viewText(const protocol::View& view, const std::string& cluster,
                     const std::vector<ShownService>& services);

// Where the view's port of an endpoint is; 0 when the endpoint has none of that name, or several
// and the view names none.
uint16_t portFor(const protocol::View& view, const Endpoint& endpoint);

// "10.0.0.1:80", "[2001:db8::1]:80"
std::string hostPort(const std::string& address, uint16_t port);

}  // namespace cctl::shim
