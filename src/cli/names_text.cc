#include "cli/names_text.h"

#include <algorithm>

#include "base/text.h"

namespace cctl::cli {
namespace {

std::string endpointText(const Endpoint& endpoint) {
  std::string ports;
  for (const auto& [name, port] : endpoint.ports)
    ports += fmt::format("{}{}={}", ports.empty() ? "" : " ", name, port);
  return fmt::format("{} {} {} {} {} {}", endpoint.instance.text(), endpoint.host.str(),
                     endpoint.address, ports, endpoint.version.str(),
                     endpointStateName(endpoint.state));
}

const Endpoint* findInstance(const ServiceEndpoints& service, const InstanceId& instance) {
  for (const Endpoint& endpoint : service.endpoints)
    if (endpoint.instance == instance) return &endpoint;
  return nullptr;
}

std::string lineText(char mark, const Endpoint& endpoint) {
  return fmt::format("  {} {}\n", mark, endpointText(endpoint));
}

}  // namespace

std::string nameChangeText(WallTime at, const ServiceName& service, bool known,
                           const ServiceEndpoints& before, const ServiceEndpoints& now,
                           const Painter& painter) {
  const auto ready = std::count_if(
      now.endpoints.begin(), now.endpoints.end(),
      [](const Endpoint& endpoint) { return endpoint.state == EndpointState::kReady; });
  if (!known) return fmt::format("{} {}: not known on this host yet\n", formatTime(at), service);
  std::string text = fmt::format("{} {}: revision {}, {}, {} ready\n", formatTime(at), service,
                                 now.revision, counted(now.endpoints.size(), "endpoint"), ready);
  for (const Endpoint& endpoint : before.endpoints)
    if (findInstance(now, endpoint.instance) == nullptr)
      text += painter.paint(Style::kWarn, lineText('-', endpoint));
  for (const Endpoint& endpoint : now.endpoints) {
    const Endpoint* old = findInstance(before, endpoint.instance);
    const bool bad = endpoint.state != EndpointState::kReady;
    if (old == nullptr || !(*old == endpoint))
      text += painter.paint(bad ? Style::kWarn : Style::kPlain,
                            lineText(old == nullptr ? '+' : '~', endpoint));
  }
  return text;
}

}  // namespace cctl::cli
