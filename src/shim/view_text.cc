#include "shim/view_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace cctl::shim {
namespace {

using protocol::View;
using protocol::ViewKind;

constexpr char kNotice[] = "# Written by clusterctl at each change: what you write here is lost.\n";
// To an upstream without servers nginx refuses to start. Port 9 is nobody's.
constexpr char kNowhere[] = "127.0.0.1:9 down";

// host:port of the endpoints that take connections.
std::vector<std::string> readyTargets(const View& view, const std::vector<ShownService>& services) {
  std::vector<std::string> targets;
  for (const ShownService& service : services)
    for (const Endpoint& endpoint : service.endpoints)
      if (const uint16_t port = portFor(view, endpoint);
          port != 0 && endpoint.state == EndpointState::kReady)
        targets.push_back(hostPort(endpoint.address, port));
  return targets;
}

// https://prometheus.io/docs/prometheus/latest/configuration/configuration/#file_sd_config
std::string prometheusText(const View& view, const std::string& cluster,
                           const std::vector<ShownService>& services) {
  Json groups = Json::array();
  for (const ShownService& service : services) {
    for (const Endpoint& endpoint : service.endpoints) {
      const uint16_t port = portFor(view, endpoint);
      if (port == 0) continue;
      Json labels{{"cluster", cluster},
                  {"service", service.service},
                  {"instance", endpoint.instance.text()},
                  {"host", endpoint.host.str()},
                  {"__meta_clusterctl_version", endpoint.version.str()},
                  {"__meta_clusterctl_state", endpointStateName(endpoint.state)}};
      for (const auto& [name, value] : view.labels) labels[name] = value;
      groups.push_back(
          {{"targets", Json::array({hostPort(endpoint.address, port)})}, {"labels", labels}});
    }
  }
  return dumpJsonPretty(groups) + "\n";
}

std::string nginxText(const View& view, const std::vector<ShownService>& services) {
  std::vector<std::string> targets = readyTargets(view, services);
  if (targets.empty()) targets.emplace_back(kNowhere);
  std::string text = kNotice + fmt::format("upstream {} {{\n", view.name);
  for (const std::string& target : targets) text += fmt::format("    server {};\n", target);
  return text + "}\n";
}

std::string plainText(const View& view, const std::vector<ShownService>& services) {
  std::vector<std::string> targets = readyTargets(view, services);
  std::sort(targets.begin(), targets.end());
  std::string text;
  for (const std::string& target : targets) text += target + "\n";
  return text;
}

}  // namespace

uint16_t portFor(const View& view, const Endpoint& endpoint) {
  if (view.port.empty())
    return endpoint.ports.size() == 1 ? endpoint.ports.begin()->second : uint16_t{0};
  const auto found = endpoint.ports.find(view.port);
  return found == endpoint.ports.end() ? uint16_t{0} : found->second;
}

std::string hostPort(const std::string& address, uint16_t port) {
  const bool v6 = address.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", v6 ? "[" : "", address, v6 ? "]" : "", port);
}

std::string viewText(const View& view, const std::string& cluster,
                     const std::vector<ShownService>& services) {
  switch (view.kind) {
    case ViewKind::kPrometheus:
      return prometheusText(view, cluster, services);
    case ViewKind::kNginx:
      return nginxText(view, services);
    case ViewKind::kPlain:
      return plainText(view, services);
    case ViewKind::kHaproxy:
      break;
  }
  return {};
}

}  // namespace cctl::shim
