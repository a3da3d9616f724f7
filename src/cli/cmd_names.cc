// watch
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "cli/exit_codes.h"
#include "cli/names_text.h"
#include "cli/report.h"
#include "ops/watch_name.h"

namespace cctl::cli {
namespace {

// Shows each state of a name as it comes.
class NamePrinter {
 public:
  NamePrinter(Context& context, const ServiceName& service)
      : context_(context), service_(service) {}

  Result<void> show(const Json& object) {
    if (context_.json()) {
      context_.printJsonLine(object);
    } else {
      CCTL_TRY(ServiceEndpoints now, parseServiceEndpoints(object));
      context_.print(nameChangeText(SystemClock().wall(), service_, object.value("known", true),
                                    before_, now, context_.painter()));
      before_ = std::move(now);
    }
    std::fflush(stdout);
    return {};
  }

 private:
  Context& context_;
  const ServiceName& service_;
  ServiceEndpoints before_;
};

// Those of --limit, or all; the registry's first, as they are told first.
Result<std::vector<HostName>> hostsToAsk(Context& context) {
  CCTL_TRY(std::vector<HostName> hosts, context.limitedHosts());
  CCTL_TRY(const Inventory* inventory, context.inventory());
  const std::vector<HostName>& registry = inventory->registry_hosts;
  std::stable_partition(hosts.begin(), hosts.end(), [&](const HostName& host) {
    return std::find(registry.begin(), registry.end(), host) != registry.end();
  });
  return hosts;
}

Result<int> runWatch(Context& context, const std::string& name) {
  CCTL_TRY(const ServiceName service, asUsage(parseServiceName(name)));
  CCTL_TRY(const std::vector<HostName> hosts, hostsToAsk(context));
  CCTL_TRY(ops::Fleet * fleet, context.fleet());
  fleet->begin(hosts, ops::Need::kShim);
  NamePrinter printer(context, service);
  const auto ended = ops::watchName(
      *fleet, hosts, service,
      [&](const HostName&, const Json& object) { return printer.show(object); }, &context.cancel());
  if (context.cancel().cancelled()) return kExitOk;  // how a person ends it
  return fail(ended.error());
}

Run defineWatch(CLI::App& app) {
  auto name = std::make_shared<std::string>();
  app.add_option("NAME", *name, "Service")->required();
  return [name](Context& context) { return runWatch(context, *name); };
}

}  // namespace

std::vector<Command> nameCommands() {
  return {{"watch",
           "The addresses of a service, at first and at every change, until Ctrl-C",
           "Watch",
           defineWatch,
           {}}};
}

}  // namespace cctl::cli
