// init, validate, hosts, render
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "cli/command.h"
#include "cli/exit_codes.h"
#include "cli/plan_text.h"
#include "cli/report.h"
#include "model/disk_files.h"
#include "model/init_files.h"
#include "model/load.h"
#include "model/render.h"
#include "ops/difference.h"
#include "ops/render.h"
#include "release/allowed_signers.h"
#include "transport/ssh_config.h"

namespace cctl::cli {
namespace {

// ---- init ------------------------------------------------------------------------------------

Result<void> writeInitFile(const std::string& dir, const InitFile& file) {
  const std::string path = dir + "/" + file.path;
  CCTL_CHECK(makeDirs(path.substr(0, path.rfind('/'))));
  return replaceFile(path, file.content, file.executable ? 0755 : 0644);
}

Result<int> runInit(Context& context, const std::string& dir, const std::string& host) {
  const std::vector<InitFile> files = initFiles(host);
  for (const InitFile& file : files)
    if (exists(dir + "/" + file.path))
      return fail(Code::kUsage,
                  "{}/{} exists already; init never overwrites: name another directory", dir,
                  file.path);
  const bool dry_run = context.globals().dry_run;
  std::string text;
  Json written = Json::array();
  for (const InitFile& file : files) {
    if (!dry_run) CCTL_CHECK(writeInitFile(dir, file));
    text += fmt::format("{} {}/{}\n", dry_run ? "would write" : "wrote", dir, file.path);
    written.push_back(dir + "/" + file.path);
  }
  if (context.json() || dry_run) {
    context.printEither({{"format", 1}, {"dry_run", dry_run}, {"written", written}}, text);
    return 0;
  }
  const std::string inside = dir == "." ? "" : fmt::format("  cd {}\n", dir);
  text += fmt::format(
      "\nWrite your hosts into inventory/cluster.yaml (now: {}), then:\n{}"
      "  clusterctl ping\n"
      "  clusterctl release add hello 1.0.0 releases-src/hello\n"
      "  clusterctl deploy hello 1.0.0\n",
      host, inside);
  context.print(text);
  return 0;
}

Run defineInit(CLI::App& app) {
  auto dir = std::make_shared<std::string>(".");
  auto host = std::make_shared<std::string>("localhost");
  app.add_option("DIR", *dir, "Directory to write to (default: here)");
  app.add_option("--host", *host, "Address of a first host (default: localhost)");
  return [dir, host](Context& context) { return runInit(context, *dir, *host); };
}

// ---- validate --------------------------------------------------------------------------------

Json problemsJson(const std::vector<Problem>& problems) {
  Json list = Json::array();
  for (const Problem& problem : problems)
    list.push_back({{"file", problem.where.file},
                    {"line", problem.where.line},
                    {"column", problem.where.column},
                    {"message", problem.message},
                    {"hint", problem.hint}});
  return list;
}

// Of the file that `sign_off.allowed_signers` names: it may lie anywhere, so that loading the
// inventory does not read it.
std::vector<Problem> signerProblems(const Inventory& inventory) {
  std::string file = inventory.sign_off.allowed_signers;
  if (file.empty()) return {};
  file = ssh::expandTilde(file, ssh::homeDirectory());
  Problems problems;
  const auto text = DiskFiles().read(file);
  if (text) {
    (void)release::parseAllowedSigners(*text, file, problems);
  } else {
    std::string message = text.error().message;
    if (message.starts_with(file + ": ")) message.erase(0, file.size() + 2);
    problems.add({file, 0, 0}, message, "sign_off.allowed_signers names it");
  }
  return problems.sorted();
}

Result<int> runValidate(Context& context) {
  const std::string& dir = context.globals().inventory;
  if (context.json()) {
    LoadedInventory loaded = loadInventory(DiskFiles(), dir);
    if (loaded.ok()) loaded.problems = signerProblems(*loaded.inventory);
    const bool valid = loaded.problems.empty();
    context.printJson({{"format", 1},
                       {"valid", valid},
                       {"problems", problemsJson(loaded.problems)},
                       {"warnings", problemsJson(loaded.warnings)}});
    return valid ? kExitOk : kExitBadInput;
  }
  CCTL_TRY(const Inventory* inventory, context.inventory());
  if (const auto problems = signerProblems(*inventory); !problems.empty())
    return fail(toError(problems));
  context.print(fmt::format("{}: cluster {}: {}, {}, {}: valid\n", dir, inventory->cluster,
                            counted(inventory->hosts.size(), "host"),
                            counted(inventory->services.size(), "service"),
                            counted(inventory->templates.size(), "template")));
  return 0;
}

Run defineValidate(CLI::App&) { return runValidate; }

// ---- hosts -----------------------------------------------------------------------------------

std::string joined(const std::set<std::string>& items) {
  std::string text;
  for (const std::string& item : items) text += (text.empty() ? "" : ",") + item;
  return text.empty() ? "-" : text;
}

Json hostJson(const Host& host) {
  return {{"host", host.name.str()},
          {"address", host.address},
          {"groups", host.groups},
          {"labels", host.labels},
          {"user", host.ssh.user.value_or("")},
          {"port", host.ssh.port.value_or(22)}};
}

Result<int> runHosts(Context& context) {
  CCTL_TRY(const Inventory* inventory, context.inventory());
  CCTL_TRY(const std::vector<HostName> names, context.limitedHosts());
  Json list = Json::array();
  Table table({"HOST", "ADDRESS", "USER", "GROUPS", "LABELS"});
  for (const HostName& name : names) {
    const Host& host = inventory->hosts.at(name);
    list.push_back(hostJson(host));
    std::set<std::string> labels;
    for (const auto& [key, value] : host.labels) labels.insert(key + "=" + value);
    table.add({name.str(), host.address, host.ssh.user.value_or("-"), joined(host.groups),
               joined(labels)});
  }
  if (context.json())
    context.printJson({{"format", 1}, {"hosts", list}});
  else
    context.print(table.text(context.painter()));
  return 0;
}

Run defineHosts(CLI::App&) { return runHosts; }

// ---- render ----------------------------------------------------------------------------------

struct RenderOptions {
  std::string target;
  std::string version;
  bool sample = false;
  bool show_secrets = false;
};

std::string specText(const protocol::GenerationSpec& spec) {
  std::string text = fmt::format("# {}/{} {}\n# run:", spec.service, spec.index, spec.version);
  for (const std::string& word : spec.argv) text += " " + word;
  for (const auto& [key, value] : spec.env) text += fmt::format("\n# env: {}={}", key, value);
  text += "\n";
  for (const protocol::ConfigFile& file : spec.config)
    text += fmt::format("# ---- {} (mode {})\n{}", file.path, file.mode, file.content);
  return text;
}

// What runs of an instance, and what would be generated now with its ports.
struct RenderedInstance {
  InstanceId id;
  protocol::GenerationSpec running, fresh;
};

Result<protocol::GenerationSpec> renderSample(const Inventory& inventory, const Manifest& manifest,
                                              int index, const RenderOptions& options) {
  const RenderInput sample = sampleInput(inventory, manifest);
  ops::HostConnection host;
  ops::GenerationRequestInput input{
      &inventory, &manifest, {manifest.service, index}, sample.version, "",
      1,          {},        &sample.endpoints};
  if (!options.version.empty()) input.version = Version(options.version);
  for (const auto& [name, port] : sample.ports) input.ports[name] = port;
  host.name = sample.host;
  host.root = sample.root;
  host.published_address = sample.host_address;
  return ops::renderGeneration(host, input);
}

Result<RenderedInstance> renderPlaced(ops::Operation& operation, const Manifest& manifest,
                                      const Placed& placed, const RenderOptions& options) {
  CCTL_TRY(const ops::EndpointsByService endpoints,
           ops::endpointsFor(operation.registers, manifest));
  CCTL_TRY(ops::HostConnection * host, operation.fleet.await(placed.host));
  RenderedInstance rendered;
  rendered.id = placed.instance;
  CCTL_TRY(rendered.running, host->shim->call<protocol::GenerationSpec>(
                                 protocol::GenerationRequest{operation.ref(rendered.id), 0},
                                 Deadline::in(ops::kRequestTimeout), operation.cancel));
  const protocol::GenerationSpec& running = rendered.running;
  const Version version(options.version.empty() ? running.version : options.version);
  CCTL_TRY(rendered.fresh, ops::renderToday(*host,
                                            {&operation.inventory(),
                                             &manifest,
                                             rendered.id,
                                             version,
                                             running.release_digest,
                                             0,
                                             {},
                                             &endpoints},
                                            running));
  return rendered;
}

// Of the instances that the target means; only the first one without --diff.
Result<std::vector<RenderedInstance>> renderTarget(Context& context, const Manifest& manifest,
                                                   const Target& target,
                                                   const RenderOptions& options) {
  CCTL_TRY(ops::Operation * operation, context.operation());
  operation->fleet.begin(operation->inventory().registry_hosts, ops::Need::kShim);
  CCTL_TRY(const ops::Desired desired, ops::readDesired(operation->registers, manifest.service));
  Placement placement;
  for (const Placed& placed : ops::placementOf(manifest.service, desired))
    if (target.covers(placed.instance)) placement.push_back(placed);
  if (!context.globals().diff && placement.size() > 1) placement.resize(1);
  if (placement.empty())
    return fail(Code::kNotFound,
                "{} is not deployed; --sample shows it with made-up ports and addresses",
                target.text());
  std::vector<HostName> hosts;
  for (const Placed& placed : placement) hosts.push_back(placed.host);
  operation->fleet.begin(hosts, ops::Need::kShim);
  std::vector<RenderedInstance> all;
  for (const Placed& placed : placement) {
    CCTL_TRY(all.emplace_back(), renderPlaced(*operation, manifest, placed, options));
  }
  return all;
}

void printSpec(Context& context, const protocol::GenerationSpec& spec, bool show_secrets) {
  protocol::GenerationSpec shown = show_secrets ? spec : ops::withoutSecrets(spec);
  if (!context.json()) return context.print(specText(shown));
  shown.secrets.clear();
  context.printJson({{"format", 1}, {"generation", protocol::encode(shown)}});
}

void printDifferences(Context& context, const std::vector<RenderedInstance>& all) {
  std::vector<FileDiff> diffs;
  Json list = Json::array();
  for (const RenderedInstance& one : all) {
    const Difference difference = ops::differenceOf(one.running, one.fresh);
    const auto files = diffsOf(one.id.text(), difference.files);
    diffs.insert(diffs.end(), files.begin(), files.end());
    list.push_back(
        {{"instance", one.id.text()}, {"why", difference.reasons}, {"files", diffsJson(files)}});
  }
  if (context.json()) return context.printJson({{"format", 1}, {"instances", list}});
  context.print(diffs.empty() ? "no generated file differs from what is on the host\n"
                              : diffText(diffs, context.painter()));
}

Result<int> runRender(Context& context, const RenderOptions& options) {
  CCTL_TRY(const Inventory* inventory, context.inventory());
  CCTL_TRY(const Target target, asUsage(parseTarget(options.target)));
  CCTL_TRY(const Manifest* manifest, inventory->service(target.service.str()));
  if (!options.version.empty()) CCTL_CHECK(asUsage(parseVersion(options.version)));
  const bool diff = context.globals().diff;
  if (diff && (options.sample || options.show_secrets))
    return fail(Code::kUsage,
                "--diff compares with what is on the host, and hides secrets: it "
                "goes neither with --sample nor with --show-secrets");
  if (options.sample) {
    CCTL_TRY(const auto spec,
             renderSample(*inventory, *manifest, target.index.value_or(0), options));
    printSpec(context, spec, options.show_secrets);
    return 0;
  }
  CCTL_TRY(const auto rendered, renderTarget(context, *manifest, target, options));
  if (diff)
    printDifferences(context, rendered);
  else
    printSpec(context, rendered.front().fresh, options.show_secrets);
  return 0;
}

Run defineRender(CLI::App& app) {
  auto options = std::make_shared<RenderOptions>();
  app.add_option("TARGET", options->target, "SERVICE or SERVICE/INDEX")->required();
  app.add_option("--version", options->version, "As this version (default: the one that runs)");
  app.add_flag("--sample", options->sample, "Contact nothing: with made-up ports and addresses");
  app.add_flag("--show-secrets", options->show_secrets, "Do not hide what `secrets` names");
  return [options](Context& context) { return runRender(context, *options); };
}

}  // namespace

std::vector<Command> inventoryCommands() {
  return {
      {"init", "Write a working inventory with commented examples", "Inventory", defineInit, {}},
      {"validate",
       "Check every file of the inventory; contact nothing",
       "Inventory",
       defineValidate,
       {}},
      {"hosts", "List the hosts", "Inventory", defineHosts, {}},
      {"render", "Show the generated config of an instance", "Inventory", defineRender, {}},
  };
}

}  // namespace cctl::cli
