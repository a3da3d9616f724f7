#include "ops/probe.h"

#include "transport/fan_out.h"

namespace cctl::ops {
namespace {

bool isRunning(protocol::InstanceState state) {
  using S = protocol::InstanceState;
  return state == S::kStarting || state == S::kReady || state == S::kUnhealthy ||
         state == S::kStopping;
}

}  // namespace

ObservedInstance observedFrom(const HostName& host, const protocol::InstanceStatus& status) {
  ObservedInstance observed;
  observed.id = {ServiceName(status.service), status.index};
  observed.host = host;
  observed.generation = status.generation;
  observed.version = Version(status.version);
  observed.running = isRunning(status.state);
  observed.ready = status.state == protocol::InstanceState::kReady;
  observed.current = status.current;
  observed.wanted = status.wanted;
  observed.ports = status.ports;
  return observed;
}

Endpoint readyEndpoint(const InstanceId& id, const HostConnection& host, const Version& version,
                       const std::map<std::string, int>& ports) {
  Endpoint endpoint{id, host.name, host.published_address, {}, version, EndpointState::kReady};
  for (const auto& [name, port] : ports) endpoint.ports[name] = static_cast<uint16_t>(port);
  return endpoint;
}

Result<HostReport> probeHostStatus(HostConnection& host, const std::string& service,
                                   const CancelToken* cancel) {
  HostReport report;
  const auto on_item = [&](const protocol::Frame& frame, ShimClient::Upload&) -> Result<void> {
    CCTL_TRY(auto status, protocol::decodeReply<protocol::InstanceStatus>(frame.payload));
    report.instances.push_back(std::move(status));
    return {};
  };
  CCTL_TRY(report.status,
           host.shim->call<protocol::HostStatus>(protocol::StatusRequest{service},
                                                 Deadline::in(kRequestTimeout), cancel, on_item));
  return report;
}

std::map<HostName, Result<HostReport>> probeAll(Operation& operation,
                                                const std::vector<HostConnection*>& hosts,
                                                const std::string& service) {
  ssh::FanOutOptions options;
  options.forks = operation.fleet.forks();
  options.cancel = operation.cancel;
  auto results = ssh::forEachHost<HostReport>(hosts.size(), options, [&](size_t i) {
    return probeHostStatus(*hosts[i], service, operation.cancel);
  });
  std::map<HostName, Result<HostReport>> reports;
  for (size_t i = 0; i < hosts.size(); ++i) reports.emplace(hosts[i]->name, std::move(results[i]));
  return reports;
}

Result<std::vector<ObservedInstance>> observe(Operation& operation,
                                              const std::vector<HostConnection*>& hosts,
                                              const Inventory& inventory, const Manifest& manifest,
                                              const Version& version,
                                              const std::string& release_digest) {
  CCTL_TRY(const EndpointsByService endpoints, endpointsFor(operation.registers, manifest));
  const auto reports = probeAll(operation, hosts, manifest.service.str());
  std::vector<ObservedInstance> all;
  for (HostConnection* host : hosts) {
    const Result<HostReport>& report = reports.at(host->name);
    if (!report) return fail(report.error());
    for (const protocol::InstanceStatus& status : report->instances) {
      ObservedInstance observed = observedFrom(host->name, status);
      if (observed.current) {
        const protocol::InstanceRef ref{status.service, status.index};
        CCTL_TRY(const auto spec, host->shim->call<protocol::GenerationSpec>(
                                      protocol::GenerationRequest{ref, status.generation},
                                      Deadline::in(kRequestTimeout)));
        CCTL_TRY(
            observed.difference,
            compareWithToday(
                *host,
                {&inventory, &manifest, observed.id, version, release_digest, 0, {}, &endpoints},
                spec));
        observed.up_to_date = observed.difference.empty();
      }
      all.push_back(std::move(observed));
    }
  }
  return all;
}

}  // namespace cctl::ops
