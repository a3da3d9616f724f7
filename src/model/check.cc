#include "model/check.h"

#include <algorithm>
#include <map>
#include <set>

#include "model/dependency_graph.h"
#include "model/node_set.h"
#include "model/placement.h"
#include "model/read_views.h"
#include "model/reader.h"
#include "model/render.h"
#include "model/secrets.h"
#include "model/utf8.h"

namespace cctl {
namespace {

// The place of a key of the manifest, or of the file when it is not there.
const Location& placeOf(const Manifest& manifest, std::initializer_list<std::string_view> keys) {
  const Node* node = &manifest.source;
  for (const std::string_view key : keys) {
    const Node* next = node->find(key);
    if (next == nullptr) return manifest.where;
    node = next;
  }
  return node->where();
}

template <typename Map>
std::vector<std::string> keysOf(const Map& map) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : map) {
    if constexpr (std::is_same_v<std::decay_t<decltype(key)>, std::string>)
      keys.push_back(key);
    else
      keys.push_back(key.str());
  }
  return keys;
}

// What of a value matters to the names in a template, and not what it is.
std::string shapeOf(const Node& node) {
  if (node.isSequence()) return node.items().empty() ? "[]" : "[" + shapeOf(node.items()[0]) + "]";
  if (!node.isMap()) return "s";
  std::string shape = "{";
  for (const Node::Member& member : node.members())
    shape += member.key + ":" + shapeOf(member.value) + ",";
  return shape + "}";
}

std::string shapeOfHost(const Inventory& inventory, const HostName& name) {
  const Host& host = inventory.hosts.at(name);
  std::string shape;
  for (const auto& [label, value] : host.labels) shape += label + ",";
  for (const std::string& group : host.groups)
    if (inventory.group_vars.count(group) != 0) shape += ";" + group;
  for (const auto& [var, value] : host.vars) shape += ";" + var + "=" + shapeOf(value);
  return shape;
}

// A problem, and the hosts on which it shows.
struct Failure {
  std::string hint;
  std::vector<std::string> hosts;
};

using Variables = std::map<std::string, std::vector<const Node*>>;

// Every value of every variable: of cluster, groups, hosts, and of one service or all.
Variables variablesOf(const Inventory& inventory, const Manifest* only) {
  Variables variables;
  const auto add = [&](const Vars& vars) {
    for (const auto& [name, value] : vars) variables[name].push_back(&value);
  };
  add(inventory.vars);
  for (const auto& [group, vars] : inventory.group_vars) add(vars);
  for (const auto& [host, value] : inventory.hosts) add(value.vars);
  for (const auto& [service, manifest] : inventory.services)
    if (only == nullptr || only == &manifest) add(manifest.vars);
  return variables;
}

void checkSecretNames(const std::map<std::string, Location>& secrets,
                      const std::vector<std::string>& names, std::string_view kind,
                      std::string otherwise, Problems& problems) {
  for (const auto& [name, where] : secrets)
    if (std::find(names.begin(), names.end(), name) == names.end())
      problems.add(where, fmt::format("secrets: there is no {} \"{}\"", kind, printable(name)),
                   spellingHint(name, names, otherwise));
}

void checkSecretLength(const std::string& name, const std::string& value, const Location& where,
                       Problems& problems) {
  if (value.empty() || value.size() >= kShortestSecret) return;
  problems.add(where,
               fmt::format("{} is named in secrets, and too short to be hidden", printable(name)),
               fmt::format("{} characters or more can be told from other text", kShortestSecret));
}

void checkSecretVariables(const std::map<std::string, Location>& secrets,
                          const Variables& variables, Problems& problems) {
  for (const auto& [name, values] : variables) {
    if (secrets.count(name) == 0) continue;
    for (const Node* value : values) {
      std::vector<std::string> texts;
      addSecretValues(*value, texts);
      for (const std::string& text : texts) checkSecretLength(name, text, value->where(), problems);
    }
  }
}

class ServiceChecker {
 public:
  ServiceChecker(const Inventory& inventory, const Manifest& manifest, Problems& problems,
                 Problems& warnings)
      : inventory_(inventory), manifest_(manifest), problems_(problems), warnings_(warnings) {}

  void check() {
    checkGroup();
    checkHosts();
    checkSpread();
    checkDependencies();
    checkConfigTemplates();
    checkPorts();
    checkSecrets();
    checkNames();
  }

 private:
  void checkGroup() {
    const std::string& group = manifest_.place.group;
    if (group.empty() || group == "all") return;
    const Location& where = placeOf(manifest_, {"place", "group"});
    const auto found = inventory_.groups.find(group);
    if (found == inventory_.groups.end())
      problems_.add(
          where, fmt::format("place.group: there is no group \"{}\"", printable(group)),
          spellingHint(group, keysOf(inventory_.groups), "add it to groups in cluster.yaml"));
    else if (found->second.empty())
      problems_.add(where, fmt::format("place.group: {} has no hosts", group), "add one to it");
  }

  void checkHosts() {
    const Node* place = manifest_.source.find("place");
    const Node* hosts = place == nullptr ? nullptr : place->find("hosts");
    if (hosts == nullptr) return;
    Problems known;  // reported when the manifest was read
    for (const auto& [name, where] : readNodeSets(*hosts, "place.hosts", known))
      if (inventory_.findHost(HostName(name)) == nullptr)
        problems_.add(
            where, fmt::format("place.hosts: there is no host \"{}\"", printable(name)),
            spellingHint(name, keysOf(inventory_.hosts), "add it to hosts in cluster.yaml"));
  }

  void checkSpread() {
    const std::string& label = manifest_.place.spread;
    if (label.empty()) return;
    std::vector<std::string> without;
    for (const HostName& name : eligibleHosts(inventory_, manifest_))
      if (inventory_.hosts.at(name).labels.count(label) == 0) without.push_back(name.str());
    if (!without.empty())
      problems_.add(placeOf(manifest_, {"place", "spread"}),
                    fmt::format("place.spread: {} without the label {}", foldNodeSet(without),
                                printable(label)),
                    "label every host of the group, or remove spread");
  }

  void checkDependencies() {
    const Node* node = manifest_.source.find("depends_on");
    if (node == nullptr) return;
    for (const Node& item : node->items()) {
      if (inventory_.findService(ServiceName(item.text())) != nullptr || !item.isScalar()) continue;
      problems_.add(
          item.where(),
          fmt::format("depends_on: there is no service \"{}\"", printable(item.text())),
          spellingHint(item.text(), keysOf(inventory_.services), "add its manifest to services/"));
    }
  }

  void checkConfigTemplates() {
    for (const ConfigFile& file : manifest_.config) {
      if (file.template_name.empty() || inventory_.templates.count(file.template_name) != 0)
        continue;
      problems_.add(
          file.where,
          fmt::format("config: there is no template \"{}\"", printable(file.template_name)),
          spellingHint(file.template_name, keysOf(inventory_.templates),
                       "add it to templates/ beside cluster.yaml"));
    }
  }

  void checkPorts() {
    for (const Port& port : manifest_.ports)
      if (!port.isAuto() && inventory_.ports.contains(*port.fixed))
        warnings_.add(placeOf(manifest_, {"ports", port.name}),
                      fmt::format("ports.{}: {} lies in the pool for auto ports, {}-{}", port.name,
                                  *port.fixed, inventory_.ports.first, inventory_.ports.last),
                      "another service may hold it: choose one outside");
  }

  void checkSecrets() {
    const Variables variables = variablesOf(inventory_, &manifest_);
    std::vector<std::string> names = keysOf(manifest_.env);
    for (const auto& [name, values] : variables) names.push_back(name);
    checkSecretVariables(manifest_.secrets, variables, problems_);
    checkSecretNames(manifest_.secrets, names, "variable or environment variable",
                     "add it to vars or env", problems_);
    for (const auto& [name, where] : manifest_.secrets)
      if (const auto env = manifest_.env.find(name); env != manifest_.env.end())
        checkSecretLength(name, env->second.text, env->second.where, problems_);
  }

  // The hosts that matter, by what names they define.
  std::map<std::string, std::vector<std::string>> shapesOf(const std::vector<HostName>& hosts) {
    std::map<std::string, std::vector<std::string>> shapes;
    for (const HostName& host : hosts)
      if (inventory_.findHost(host) != nullptr)
        shapes[shapeOfHost(inventory_, host)].push_back(host.str());
    return shapes;
  }

  // One host of each shape is looked at; what fails on some only is said with their names. With
  // no host to run on (reported elsewhere), what fails on every host is still worth saying.
  void checkNames() {
    auto shapes = shapesOf(eligibleHosts(inventory_, manifest_));
    const bool nowhere = shapes.empty();
    if (nowhere) shapes = shapesOf(inventory_.host_order);
    std::map<std::pair<Location, std::string>, Failure> failures;
    size_t all = 0;
    for (const auto& [shape, hosts] : shapes) {
      all += hosts.size();
      for (const Problem& problem : problemsOn(HostName(hosts[0]))) {
        Failure& failure = failures[{problem.where, problem.message}];
        failure.hint = problem.hint;
        failure.hosts.insert(failure.hosts.end(), hosts.begin(), hosts.end());
      }
    }
    for (const auto& [what, failure] : failures) {
      if (failure.hosts.size() == all)
        problems_.add(what.first, what.second, failure.hint);
      else if (!nowhere)
        problems_.add(what.first, fmt::format("{} on {}", what.second, foldNodeSet(failure.hosts)),
                      failure.hint);
    }
  }

  std::vector<Problem> problemsOn(const HostName& host) {
    Problems problems;
    RenderInput input = sampleInput(inventory_, manifest_);
    input.host = host;
    const TemplateContext scope = buildScope(input);
    const auto check = [&](const TemplateText& text) {
      checkTemplate(text.text, text.where, scope, problems);
    };
    for (const TemplateText& text : manifest_.run) check(text);
    for (const auto& [name, text] : manifest_.env) check(text);
    const auto checkProbe = [&](const Probe& probe) {
      if (const auto* exec = std::get_if<ExecProbe>(&probe))
        for (const TemplateText& text : exec->argv) check(text);
    };
    checkProbe(manifest_.health.ready);
    if (manifest_.health.live) checkProbe(manifest_.health.live->probe);
    for (const ConfigFile& file : manifest_.config) {
      const auto found = inventory_.templates.find(file.template_name);
      if (found != inventory_.templates.end())
        checkTemplate(found->second.text, found->second.where, scope, problems);
    }
    return problems.sorted();
  }

  const Inventory& inventory_;
  const Manifest& manifest_;
  Problems& problems_;
  Problems& warnings_;
};

void checkCycles(const Inventory& inventory, Problems& problems) {
  for (const auto& cycle : findCycles(inventory.services)) {
    std::string path;
    for (const ServiceName& name : cycle) path += (path.empty() ? "" : " → ") + name.str();
    problems.add(placeOf(inventory.services.at(cycle[0]), {"depends_on"}),
                 fmt::format("depends_on goes round: {}", path), "remove one of these");
  }
}

void checkUnusedTemplates(const Inventory& inventory, Problems& warnings) {
  std::set<std::string> used;
  for (const auto& [name, manifest] : inventory.services)
    for (const ConfigFile& file : manifest.config) used.insert(file.template_name);
  for (const auto& [name, source] : inventory.templates)
    if (used.count(name) == 0)
      warnings.add(source.where, "no service uses this template",
                   "remove it, or name it in a config");
}

}  // namespace

void checkInventory(const Inventory& inventory, Problems& problems, Problems& warnings) {
  for (const auto& [name, manifest] : inventory.services)
    ServiceChecker(inventory, manifest, problems, warnings).check();
  const Variables variables = variablesOf(inventory, nullptr);
  checkSecretNames(inventory.secrets, keysOf(variables), "variable", "add it to vars", problems);
  checkSecretVariables(inventory.secrets, variables, problems);
  checkViews(inventory, problems);
  checkCycles(inventory, problems);
  checkUnusedTemplates(inventory, warnings);
}

}  // namespace cctl
