#include "clusterctl/naming_c.h"

#include <new>
#include <string>
#include <vector>

#include "clusterctl/naming.h"

namespace {

// A service in the shape of C; points into `service`, which must outlive it.
class Shape {
 public:
  explicit Shape(const clusterctl::Service& service) {
    std::size_t ports = 0;
    for (const auto& endpoint : service.endpoints) ports += endpoint.ports.size();
    ports_.reserve(ports);  // so that what is pointed to stays where it is
    for (const auto& endpoint : service.endpoints) add(endpoint);
    shape_ = {service.name.c_str(),
              service.known ? 1 : 0,
              service.revision,
              endpoints_.data(),
              endpoints_.size(),
              service.confirmed ? 1 : 0,
              service.source == clusterctl::Source::kFile ? CLUSTERCTL_FROM_FILE
                                                          : CLUSTERCTL_FROM_SOCKET};
  }
  const clusterctl_service* get() const { return &shape_; }

 private:
  void add(const clusterctl::Endpoint& endpoint) {
    const clusterctl_port* first = ports_.data() + ports_.size();
    for (const auto& [name, port] : endpoint.ports) ports_.push_back({name.c_str(), port});
    endpoints_.push_back({endpoint.instance.c_str(), endpoint.host.c_str(),
                          endpoint.address.c_str(), endpoint.version.c_str(),
                          static_cast<int>(endpoint.state), first, endpoint.ports.size()});
  }

  std::vector<clusterctl_port> ports_;
  std::vector<clusterctl_endpoint> endpoints_;
  clusterctl_service shape_{};
};

static_assert(static_cast<int>(clusterctl::EndpointState::kReady) == CLUSTERCTL_READY);
static_assert(static_cast<int>(clusterctl::EndpointState::kUnhealthy) == CLUSTERCTL_UNHEALTHY);
static_assert(static_cast<int>(clusterctl::EndpointState::kDraining) == CLUSTERCTL_DRAINING);
static_assert(static_cast<int>(clusterctl::EndpointState::kOther) == CLUSTERCTL_OTHER);

clusterctl::NamingOptions optionsFor(const char* socket) {
  clusterctl::NamingOptions options;
  if (socket != nullptr) options.socket = socket;
  return options;
}

}  // namespace

struct clusterctl_naming {
  explicit clusterctl_naming(const char* socket) : naming(optionsFor(socket)) {}
  clusterctl::Naming naming;
  clusterctl::Service found;
  std::unique_ptr<Shape> shape;  // of `found`
};

// The only exception is std::bad_alloc; it must not pass through C.

clusterctl_naming* clusterctl_naming_open(const char* socket) {
  try {
    auto naming = std::make_unique<clusterctl_naming>(socket);
    return naming->naming.fd() < 0 ? nullptr : naming.release();
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

void clusterctl_naming_close(clusterctl_naming* naming) { delete naming; }

int clusterctl_naming_watch(clusterctl_naming* naming, const char* name,
                            clusterctl_on_change on_change, void* context) {
  try {
    clusterctl::Naming::OnChange callback;
    if (on_change != nullptr)
      callback = [on_change, context](const clusterctl::Service& service) {
        on_change(Shape(service).get(), context);
      };
    return naming->naming.watch(name, std::move(callback)) ? 0 : -1;
  } catch (const std::bad_alloc&) {
    return -1;
  }
}

void clusterctl_naming_unwatch(clusterctl_naming* naming, const char* name) {
  try {
    naming->naming.unwatch(name);
  } catch (const std::bad_alloc&) {
    // It goes on being watched.
  }
}

const clusterctl_service* clusterctl_naming_find(clusterctl_naming* naming, const char* name) {
  try {
    const clusterctl::Service* found = naming->naming.find(name);
    if (found == nullptr) return nullptr;
    naming->shape.reset();
    naming->found = *found;
    naming->shape = std::make_unique<Shape>(naming->found);
    return naming->shape->get();
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

int clusterctl_naming_fd(const clusterctl_naming* naming) { return naming->naming.fd(); }

int clusterctl_naming_process(clusterctl_naming* naming) {
  try {
    naming->naming.process();
    return 0;
  } catch (const std::bad_alloc&) {
    return -1;
  }
}

int clusterctl_naming_wait(clusterctl_naming* naming, int timeout_ms) {
  try {
    return naming->naming.wait(std::chrono::milliseconds(timeout_ms)) ? 1 : 0;
  } catch (const std::bad_alloc&) {
    return -1;
  }
}

int clusterctl_naming_is_connected(const clusterctl_naming* naming) {
  return naming->naming.isConnected() ? 1 : 0;
}

const char* clusterctl_naming_error(const clusterctl_naming* naming) {
  return naming->naming.error().c_str();
}

uint16_t clusterctl_endpoint_port(const clusterctl_endpoint* endpoint, const char* name) {
  if (name == nullptr)
    return endpoint->port_count == 1 ? endpoint->ports[0].port : std::uint16_t{0};
  for (std::size_t i = 0; i < endpoint->port_count; ++i)
    if (std::string(endpoint->ports[i].name) == name) return endpoint->ports[i].port;
  return 0;
}
