#include "model/render.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/digest.h"
#include "base/json.h"
#include "model/host_paths.h"
#include "model/placement.h"
#include "model/secrets.h"

namespace cctl {
namespace {

using Object = TemplateValue::Object;
using List = TemplateValue::List;

TemplateValue valueOf(const Node& node) {
  if (node.isSequence()) {
    List list;
    for (const Node& item : node.items()) list.push_back(valueOf(item));
    return list;
  }
  if (node.isMap()) {
    Object object;
    for (const Node::Member& member : node.members()) object[member.key] = valueOf(member.value);
    return object;
  }
  if (node.isNull()) return TemplateValue::Flag{"", false};
  if (!node.quoted() && (node.text() == "true" || node.text() == "false"))
    return TemplateValue::Flag{node.text(), node.text() == "true"};
  return node.text();
}

void addVars(const Vars& vars, Object& scope) {
  for (const auto& [name, node] : vars) scope[name] = valueOf(node);
}

// From the least to the most special.
std::vector<const Vars*> layersOfVars(const RenderInput& input, const Host* host) {
  std::vector<const Vars*> layers{&input.inventory->vars};
  for (const std::string& group : host != nullptr ? host->groups : std::set<std::string>()) {
    const auto found = input.inventory->group_vars.find(group);
    if (found != input.inventory->group_vars.end()) layers.push_back(&found->second);
  }
  if (host != nullptr) layers.push_back(&host->vars);
  layers.push_back(&input.manifest->vars);
  return layers;
}

Object mergedVars(const RenderInput& input, const Host* host) {
  Object vars;
  for (const Vars* layer : layersOfVars(input, host)) addVars(*layer, vars);
  return vars;
}

// Of every layer: one that is overridden is not to be seen either.
std::vector<std::string> secretsOf(const RenderInput& input,
                                   const std::map<std::string, std::string>& env) {
  std::vector<std::string> values;
  const Host* host = input.inventory->findHost(input.host);
  for (const Vars* layer : layersOfVars(input, host))
    for (const auto& [name, node] : *layer)
      if (input.inventory->secrets.count(name) != 0 || input.manifest->secrets.count(name) != 0)
        addSecretValues(node, values);
  for (const auto& [name, location] : input.manifest->secrets)
    if (const auto found = env.find(name); found != env.end() && !found->second.empty())
      values.push_back(found->second);
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  return values;
}

// One that the host chooses at the start has none before.
std::string portText(uint16_t number) { return number == 0 ? "(auto)" : std::to_string(number); }

Object portsObject(const std::map<std::string, uint16_t>& ports) {
  Object object;
  for (const auto& [name, number] : ports) object[name] = portText(number);
  return object;
}

Object hostObject(const RenderInput& input, const Host* host) {
  Object labels;
  if (host != nullptr)
    for (const auto& [name, value] : host->labels) labels[name] = value;
  std::string address = input.host_address;
  if (address.empty() && host != nullptr)
    address = host->publishedAddress().value_or(host->address);
  return {{"name", input.host.str()}, {"address", address}, {"labels", std::move(labels)}};
}

List endpointList(const std::vector<Endpoint>& endpoints) {
  List list;
  for (const Endpoint& endpoint : endpoints) {
    list.push_back(Object{{"instance", endpoint.instance.text()},
                          {"index", std::to_string(endpoint.instance.index)},
                          {"host", endpoint.host.str()},
                          {"address", endpoint.address},
                          {"port", portsObject(endpoint.ports)},
                          {"version", endpoint.version.str()},
                          {"last", list.size() + 1 == endpoints.size()}});
  }
  return list;
}

Object servicesObject(const RenderInput& input) {
  Object services;
  for (const ServiceName& name : input.manifest->depends_on) {
    const auto found = input.endpoints.find(name);
    services[name.str()] =
        endpointList(found == input.endpoints.end() ? std::vector<Endpoint>() : found->second);
  }
  return services;
}

void addPaths(const RenderInput& input, Object& scope) {
  const std::string& service = input.manifest->service.str();
  scope["release_dir"] = paths::releaseDir(input.root, service, input.version.str());
  scope["instance_dir"] = paths::instanceDir(input.root, service, input.index);
  scope["conf_dir"] = paths::confDir(input.root, service, input.index, input.generation);
  scope["log_dir"] = paths::logDir(input.root, service, input.index);
  scope["data_dir"] = paths::dataDir(input.root, service, input.index);
}

std::string portVariable(std::string name) {
  for (char& c : name) {
    if (c == '-') c = '_';
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return "PORT_" + name;
}

// What every process gets without asking (interface.md §4).
std::map<std::string, std::string> ownEnvironment(const RenderInput& input) {
  std::map<std::string, std::string> env;
  const InstanceId instance{input.manifest->service, input.index};
  env["CLUSTERCTL_SERVICE"] = instance.service.str();
  env["CLUSTERCTL_INSTANCE"] = instance.text();
  env["CLUSTERCTL_VERSION"] = input.version.str();
  env["CLUSTERCTL_HOST"] = input.host.str();
  env["CLUSTERCTL_NAMING"] = paths::namingSocket(input.root);
  for (const auto& [name, number] : input.ports) env[portVariable(name)] = portText(number);
  if (input.ports.size() == 1) env["PORT"] = portText(input.ports.begin()->second);
  return env;
}

bool leavesRelease(const std::string& program) {
  return program.empty() ||
         (program[0] != '/' && ("/" + program + "/").find("/../") != std::string::npos);
}

class Renderer {
 public:
  explicit Renderer(const RenderInput& input) : input_(input), scope_(buildScope(input)) {}

  Result<Rendered> render() {
    const Manifest& manifest = *input_.manifest;
    Rendered rendered;
    rendered.argv = command(manifest.run);
    rendered.env = ownEnvironment(input_);
    for (const auto& [name, text] : manifest.env) rendered.env[name] = one(text);
    rendered.secrets = secretsOf(input_, rendered.env);
    rendered.ready_exec = probeCommand(manifest.health.ready);
    if (manifest.health.live) rendered.live_exec = probeCommand(manifest.health.live->probe);
    for (const ConfigFile& file : manifest.config) addFile(file, rendered.files);
    std::sort(rendered.files.begin(), rendered.files.end(),
              [](const RenderedFile& a, const RenderedFile& b) { return a.path < b.path; });
    if (!problems_.empty()) return fail(toError(problems_.sorted()));
    return rendered;
  }

 private:
  std::string one(const TemplateText& text) {
    return renderTemplate(text.text, text.where, scope_, problems_);
  }

  std::vector<std::string> command(const std::vector<TemplateText>& parts) {
    std::vector<std::string> argv;
    for (const TemplateText& part : parts) argv.push_back(one(part));
    if (!argv.empty() && problems_.empty() && leavesRelease(argv[0]))
      problems_.add(parts[0].where, fmt::format("\"{}\" is not a program of the release", argv[0]),
                    "write it like bin/server, or in full from /");
    return argv;
  }

  std::vector<std::string> probeCommand(const Probe& probe) {
    const auto* exec = std::get_if<ExecProbe>(&probe);
    return exec != nullptr ? command(exec->argv) : std::vector<std::string>();
  }

  void addFile(const ConfigFile& file, std::vector<RenderedFile>& files) {
    const auto& templates =
        input_.templates != nullptr ? *input_.templates : input_.inventory->templates;
    const auto found = templates.find(file.template_name);
    if (found == templates.end())
      return problems_.add(file.where,
                           fmt::format("there is no template \"{}\"", file.template_name),
                           "add it to templates/");
    const Template& source = found->second;
    files.push_back(
        {file.path, file.mode, renderTemplate(source.text, source.where, scope_, problems_)});
  }

  const RenderInput& input_;
  TemplateContext scope_;
  Problems problems_;
};

Result<void> checkInput(const RenderInput& input) {
  for (const Port& port : input.manifest->ports)
    if (input.ports.count(port.name) == 0)
      return fail(Code::kBadInput, "{}/{}: port {} has no number yet", input.manifest->service,
                  input.index, port.name);
  if (input.root.empty() || input.root[0] != '/')
    return fail(Code::kBadInput, "root \"{}\" is not absolute", input.root);
  return {};
}

std::map<std::string, uint16_t> samplePorts(const Manifest& manifest, const PortRange& range) {
  std::map<std::string, uint16_t> ports;
  for (const Port& port : manifest.ports)
    ports[port.name] =
        port.fixed.value_or(static_cast<uint16_t>(range.first + ports.size() % range.size()));
  return ports;
}

std::string sampleAddress(const Host* host) {
  return host == nullptr ? "192.0.2.1" : host->publishedAddress().value_or("192.0.2.1");
}

Endpoint sampleEndpoint(const Inventory& inventory, const Manifest& manifest) {
  const auto hosts = eligibleHosts(inventory, manifest);
  Endpoint endpoint;
  endpoint.instance = {manifest.service, 0};
  if (!hosts.empty()) endpoint.host = hosts[0];
  endpoint.address = sampleAddress(inventory.findHost(endpoint.host));
  endpoint.ports = samplePorts(manifest, inventory.ports);
  endpoint.version = Version("1.0.0");
  return endpoint;
}

}  // namespace

TemplateContext buildScope(const RenderInput& input) {
  const Host* host = input.inventory->findHost(input.host);
  const InstanceId instance{input.manifest->service, input.index};
  Object scope{
      {"cluster", input.inventory->cluster},
      {"root", input.root},
      {"host", hostObject(input, host)},
      {"service", instance.service.str()},
      {"version", input.version.str()},
      {"instance", Object{{"name", instance.text()}, {"index", std::to_string(instance.index)}}},
      {"port", portsObject(input.ports)},
      {"vars", mergedVars(input, host)},
      {"services", servicesObject(input)}};
  addPaths(input, scope);
  return scope;
}

Result<Rendered> renderInstance(const RenderInput& input) {
  CCTL_CHECK(checkInput(input));
  return Renderer(input).render();
}

std::string renderedDigest(const Rendered& rendered) {
  Json files = Json::array();
  for (const RenderedFile& file : rendered.files)
    files.push_back(Json::array({file.path, file.mode, sha256Hex(file.content)}));
  return sha256Hex(dumpJson(Json{{"argv", rendered.argv},
                                 {"env", rendered.env},
                                 {"files", std::move(files)},
                                 {"ready_exec", rendered.ready_exec},
                                 {"live_exec", rendered.live_exec}}));
}

RenderInput sampleInput(const Inventory& inventory, const Manifest& manifest) {
  RenderInput input;
  input.inventory = &inventory;
  input.manifest = &manifest;
  const auto hosts = eligibleHosts(inventory, manifest);
  if (!hosts.empty()) input.host = hosts[0];
  input.host_address = sampleAddress(inventory.findHost(input.host));
  input.root = inventory.root[0] == '~' ? "/home/user" + inventory.root.substr(1) : inventory.root;
  input.version = Version("1.0.0");
  input.ports = samplePorts(manifest, inventory.ports);
  for (const ServiceName& name : manifest.depends_on)
    if (const Manifest* other = inventory.findService(name))
      input.endpoints[name] = {sampleEndpoint(inventory, *other)};
  return input;
}

}  // namespace cctl
