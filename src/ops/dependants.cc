#include "ops/dependants.h"

#include <csignal>

#include "model/dependency_graph.h"
#include "ops/render.h"

namespace cctl::ops {
namespace {

OnChange actionFor(const Manifest& manifest, const ServiceName& service) {
  const auto found = manifest.on_change.find(service);
  return found == manifest.on_change.end() ? OnChange::kNone : found->second;
}

class Refresher {
 public:
  Refresher(Operation& operation, const Manifest& manifest, OnChange action,
            const EndpointsByService& endpoints)
      : operation_(operation), manifest_(manifest), action_(action), endpoints_(endpoints) {}

  Result<void> refresh(const InstanceId& id, HostConnection& host) {
    auto running = host.shim->call<protocol::GenerationSpec>(
        protocol::GenerationRequest{operation_.ref(id), 0}, Deadline::in(kRequestTimeout));
    if (!running && running.error().code == Code::kNotFound) return {};
    if (!running) return fail(running.error());
    CCTL_TRY(const protocol::GenerationSpec fresh,
             renderGeneration(host, {&operation_.inventory(), &manifest_, id,
                                     Version(running->version), running->release_digest,
                                     running->generation, running->ports, &endpoints_}));
    if (fresh.config == running->config && fresh.argv == running->argv && fresh.env == running->env)
      return {};
    CCTL_CHECK(replace(id, host, fresh));
    if (action_ == OnChange::kRestart) return restart(id, host);
    return {};
  }

 private:
  Result<void> replace(const InstanceId& id, HostConnection& host,
                       const protocol::GenerationSpec& fresh) {
    protocol::ReconfigureRequest request;
    request.instance = operation_.ref(id);
    request.generation = fresh.generation;
    request.argv = fresh.argv;
    request.env = fresh.env;
    request.config = fresh.config;
    request.signal = action_ == OnChange::kReload ? SIGHUP : 0;
    request.caller = operation_.caller(0);
    auto done = host.shim->call<protocol::Empty>(request, Deadline::in(kRequestTimeout));
    if (!done) return fail(done.error());
    operation_.events.step(id.text(), action_ == OnChange::kReload
                                          ? "config follows the new endpoints, reloaded"
                                          : "config follows the new endpoints");
    return {};
  }

  Result<void> restart(const InstanceId& id, HostConnection& host) {
    const Millis limit = kRequestTimeout + manifest_.health.start_timeout + manifest_.stop.grace;
    CCTL_TRY(const auto reply,
             host.shim->call<protocol::StartReply>(
                 protocol::RestartRequest{operation_.ref(id), operation_.caller(0)},
                 Deadline::in(limit)));
    if (reply.state != protocol::InstanceState::kReady)
      return fail(Code::kFailed, "not ready after its restart: {}", reply.problem);
    operation_.events.step(id.text(), "restarted with the new endpoints");
    return {};
  }

  Operation& operation_;
  const Manifest& manifest_;
  const OnChange action_;
  const EndpointsByService& endpoints_;
};

Result<void> refreshOne(Operation& operation, const ServiceName& changed,
                        const Manifest& dependant) {
  CCTL_TRY(const Desired desired, readDesired(operation.registers, dependant.service));
  CCTL_TRY(const EndpointsByService endpoints, endpointsFor(operation.registers, dependant));
  Refresher refresher(operation, dependant, actionFor(dependant, changed), endpoints);
  for (const Placed& placed : placementOf(dependant.service, desired)) {
    auto host = operation.fleet.await(placed.host);
    Result<void> refreshed =
        host ? refresher.refresh(placed.instance, **host) : Result<void>(fail(host.error()));
    if (!refreshed)
      operation.events.warning(placed.instance.text(),
                               "still has the old endpoints: " + refreshed.error().message);
  }
  return {};
}

}  // namespace

Result<void> refreshDependants(Operation& operation, const ServiceName& service) {
  const Inventory& inventory = operation.inventory();
  for (const ServiceName& name : directDependants(inventory.services, service))
    CCTL_CHECK(refreshOne(operation, service, inventory.services.at(name)));
  return {};
}

}  // namespace cctl::ops
