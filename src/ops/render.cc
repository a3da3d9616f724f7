#include "ops/render.h"

#include "model/spec.h"
#include "ops/difference.h"

namespace cctl::ops {
namespace {

protocol::RestartWhen encodePolicy(RestartPolicy policy) {
  switch (policy) {
    case RestartPolicy::kAlways:
      return protocol::RestartWhen::kAlways;
    case RestartPolicy::kOnFailure:
      return protocol::RestartWhen::kOnFailure;
    case RestartPolicy::kNever:
      break;
  }
  return protocol::RestartWhen::kNever;
}

protocol::Probe encodeProbe(const Probe& probe, const std::vector<std::string>& exec) {
  if (const auto* tcp = std::get_if<TcpProbe>(&probe))
    return {protocol::ProbeKind::kTcp, tcp->port, "", {}};
  if (const auto* http = std::get_if<HttpProbe>(&probe))
    return {protocol::ProbeKind::kHttp, http->port, http->path, {}};
  if (std::holds_alternative<ExecProbe>(probe)) return {protocol::ProbeKind::kExec, "", "", exec};
  if (std::holds_alternative<NotifyProbe>(probe)) return {protocol::ProbeKind::kNotify, "", "", {}};
  return {};
}

void encodeManifest(const Manifest& manifest, protocol::GenerationSpec& spec) {
  spec.user = manifest.user;
  for (const Port& port : manifest.ports)
    if (port.socket) spec.sockets.push_back(port.name);
  spec.start_timeout = manifest.health.start_timeout;
  const Restart& restart = manifest.restart;
  spec.restart = {encodePolicy(restart.policy), restart.backoff_first, restart.backoff_most,
                  restart.limit_count, restart.limit_window};
  spec.stop_signal = manifest.stop.signal;
  spec.stop_grace = manifest.stop.grace;
  spec.limit_nofile = manifest.limits.nofile;
  spec.limit_nproc = manifest.limits.nproc;
  spec.limit_core = manifest.limits.core;
  spec.limit_memlock = manifest.limits.memlock;
  spec.limit_stack = manifest.limits.stack;
  spec.umask = manifest.umask;
  spec.limit_memory = manifest.limits.memory;
  spec.limit_cpu = manifest.limits.cpu;
  spec.log_max_size = manifest.logs.max_size;
  spec.log_keep = manifest.logs.keep;
}

std::map<std::string, uint16_t> portNumbers(const std::map<std::string, int>& ports) {
  std::map<std::string, uint16_t> numbers;
  for (const auto& [name, number] : ports) numbers[name] = static_cast<uint16_t>(number);
  return numbers;
}

}  // namespace

Result<EndpointsByService> endpointsFor(registry::Registers& registers, const Manifest& manifest) {
  EndpointsByService all;
  for (const ServiceName& service : manifest.depends_on) {
    CCTL_TRY(ServiceEndpoints endpoints, readEndpoints(registers, service));
    all[service] = std::move(endpoints.endpoints);
  }
  return all;
}

Result<protocol::GenerationSpec> renderGeneration(const HostConnection& host,
                                                  const GenerationRequestInput& input) {
  RenderInput render;
  render.inventory = input.inventory;
  render.manifest = input.manifest;
  render.host = host.name;
  render.host_address = host.published_address;
  render.root = host.root;
  render.index = input.id.index;
  render.version = input.version;
  render.generation = static_cast<uint64_t>(input.generation);
  render.ports = portNumbers(input.ports);
  render.endpoints = *input.endpoints;
  CCTL_TRY(Rendered rendered, renderInstance(render));
  protocol::GenerationSpec spec;
  spec.service = input.id.service.str();
  spec.index = input.id.index;
  spec.generation = input.generation;
  spec.version = input.version.str();
  spec.release_digest = input.release_digest;
  spec.spec_digest = specDigest(*input.inventory, *input.manifest, input.version);
  spec.argv = std::move(rendered.argv);
  spec.env = std::move(rendered.env);
  spec.secrets = std::move(rendered.secrets);
  spec.ports = input.ports;
  for (RenderedFile& file : rendered.files)
    spec.config.push_back({file.path, fmt::format("{:04o}", file.mode), std::move(file.content)});
  spec.ready = encodeProbe(input.manifest->health.ready, rendered.ready_exec);
  if (const auto& live = input.manifest->health.live)
    spec.live = protocol::Liveness{encodeProbe(live->probe, rendered.live_exec), live->interval,
                                   live->timeout, live->failures};
  encodeManifest(*input.manifest, spec);
  return spec;
}

Result<protocol::GenerationSpec> renderToday(const HostConnection& host,
                                             GenerationRequestInput input,
                                             const protocol::GenerationSpec& running) {
  input.generation = running.generation;
  input.ports.clear();
  for (const Port& port : input.manifest->ports) {
    // A port that is new has no number before the start: 0 stands for it.
    const auto found = running.ports.find(port.name);
    input.ports[port.name] = port.fixed.value_or(
        static_cast<uint16_t>(found == running.ports.end() ? 0 : found->second));
  }
  return renderGeneration(host, input);
}

Result<protocol::GenerationSpec> renderFirst(const HostConnection& host,
                                             GenerationRequestInput input) {
  protocol::GenerationSpec nothing;
  nothing.generation = 1;
  return renderToday(host, std::move(input), nothing);
}

Result<Difference> compareWithToday(const HostConnection& host, GenerationRequestInput input,
                                    const protocol::GenerationSpec& running) {
  CCTL_TRY(const protocol::GenerationSpec fresh, renderToday(host, std::move(input), running));
  return differenceOf(running, fresh);
}

}  // namespace cctl::ops
