#include "model/manifest.h"

#include <algorithm>

namespace cctl {

int Batch::of(int total) const {
  return std::max(1, percent ? static_cast<int>(int64_t{total} * value / 100) : value);
}

const Port* Manifest::findPort(std::string_view name) const {
  const auto found =
      std::find_if(ports.begin(), ports.end(), [&](const Port& port) { return port.name == name; });
  return found == ports.end() ? nullptr : &*found;
}

bool Manifest::allPortsShareable() const {
  return std::all_of(ports.begin(), ports.end(),
                     [](const Port& port) { return port.isShareable(); });
}

std::string_view restartPolicyName(RestartPolicy policy) {
  switch (policy) {
    case RestartPolicy::kAlways:
      return "always";
    case RestartPolicy::kOnFailure:
      return "on-failure";
    case RestartPolicy::kNever:
      return "never";
  }
  return "always";
}

std::string_view upgradeOrderName(UpgradeOrder order) {
  return order == UpgradeOrder::kStartFirst ? "start-first" : "stop-first";
}

std::string_view onChangeName(OnChange action) {
  switch (action) {
    case OnChange::kNone:
      return "none";
    case OnChange::kReload:
      return "reload";
    case OnChange::kRestart:
      return "restart";
  }
  return "none";
}

}  // namespace cctl
