#include <arpa/inet.h>

#include <algorithm>
#include <set>

#include "model/host_paths.h"
#include "model/node_set.h"
#include "model/read_views.h"
#include "model/reader.h"
#include "model/schema.h"

namespace cctl {
namespace {

constexpr size_t kMaxHosts = kMaxNodeSet;
constexpr size_t kMaxAlerts = 64;
constexpr size_t kMaxAlertArguments = 64;
constexpr int64_t kMaxSignOffs = 16;

bool isWordCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '-';
}

// Nothing that ssh, a shell or a unit file could take for something else.
bool isPlain(std::string_view text, std::string_view also) {
  return !text.empty() && text.size() <= 1024 && text[0] != '-' &&
         std::all_of(text.begin(), text.end(), [&](char c) {
           return isWordCharacter(c) || also.find(c) != std::string_view::npos;
         });
}

Result<std::string> parseClusterName(std::string_view text) {
  if (!parseServiceName(text))
    return fail(Code::kBadInput,
                "\"{}\" is not a cluster's name: use a-z, 0-9, '_' and '-', at most 63",
                printable(text));
  return std::string(text);
}

// Absolute or below "~/", without "." and ".." parts; it stands in unit files and crontabs.
Result<std::string> parseRoot(std::string_view text) {
  const std::string_view path = text.substr(0, 2) == "~/" ? text.substr(1) : text;
  const bool parts = path.find("//") == std::string_view::npos &&
                     (std::string(path) + "/").find("/./") == std::string::npos &&
                     (std::string(path) + "/").find("/../") == std::string::npos;
  if (!isPlain(text, "/.~+") || path[0] != '/' || path.size() < 2 || path.back() == '/' || !parts ||
      path.find('~') != std::string_view::npos)
    return fail(Code::kBadInput,
                "\"{}\" is not a directory for every host; write like /opt/clusterctl or "
                "~/.clusterctl",
                printable(text));
  if (text.size() > paths::kMaxRoot)
    return fail(Code::kBadInput, "longer than {} bytes, too long for the sockets in it",
                paths::kMaxRoot);
  return std::string(text);
}

Result<std::string> parseAddress(std::string_view text) {
  if (!isIpAddress(text) && !isPlain(text, "."))
    return fail(Code::kBadInput, "\"{}\" is neither an IP address nor a host's name",
                printable(text));
  return std::string(text);
}

Result<std::string> parseIp(std::string_view text) {
  if (!isIpAddress(text))
    return fail(Code::kBadInput,
                "\"{}\" is not an IP address; others connect to it, so write "
                "one like 192.0.2.14",
                printable(text));
  return std::string(text);
}

Result<std::string> parseLogin(std::string_view text) {
  if (!isPlain(text, ".@+"))
    return fail(Code::kBadInput, "\"{}\" is not a login's name", printable(text));
  return std::string(text);
}

Result<std::string> parseJump(std::string_view text) {
  if (!isPlain(text, ".@:,[]%+"))
    return fail(Code::kBadInput, "\"{}\" is not a jump host; write like user@gate:22",
                printable(text));
  return std::string(text);
}

Result<PortRange> parsePortRange(std::string_view text) {
  const size_t dash = text.find('-');
  const auto first = parseInteger(text.substr(0, dash));
  const auto last =
      dash == std::string_view::npos ? std::nullopt : parseInteger(text.substr(dash + 1));
  if (!first || !last || *first < 1 || *last > 65535 || *first > *last)
    return fail(Code::kBadInput, "\"{}\" is not a range of ports; write like 21000-29999",
                printable(text));
  return PortRange{static_cast<uint16_t>(*first), static_cast<uint16_t>(*last)};
}

class ClusterReader {
 public:
  ClusterReader(const Node& node, const std::string& directory, Inventory& inventory,
                Problems& problems)
      : map_(node, "cluster", problems),
        directory_(directory),
        inventory_(inventory),
        problems_(problems) {}

  void read() {
    readNames();
    if (const Node* ssh = map_.find("ssh")) inventory_.ssh = readSsh(*ssh, "cluster:ssh");
    if (const Node* ports = map_.find("ports"))
      inventory_.ports =
          readParsed(*ports, "ports", parsePortRange, problems_).value_or(PortRange());
    if (const Node* vars = map_.find("vars")) inventory_.vars = readVars(*vars, "vars", problems_);
    if (const Node* secrets = map_.find("secrets"))
      inventory_.secrets = readSecrets(*secrets, problems_);
    readHosts();
    readGroups();
    readRegistry();
    readSignOff();
    readAlerts();
    if (const Node* views = map_.find("views")) readViews(*views, inventory_, problems_);
    map_.finish();
  }

 private:
  void readNames() {
    if (const Node* name = map_.require("cluster", "`cluster: demo`"))
      inventory_.cluster = readParsed(*name, "cluster", parseClusterName, problems_).value_or("");
    if (const Node* root = map_.find("root"))
      inventory_.root = readParsed(*root, "root", parseRoot, problems_).value_or(inventory_.root);
    inventory_.releases = joined("../releases");
    if (const Node* releases = map_.find("releases"))
      inventory_.releases = readPath(*releases, "releases").value_or(inventory_.releases);
  }

  std::string joined(const std::string& path) const {
    if (path[0] == '/' || path == "~" || path.compare(0, 2, "~/") == 0) return path;
    return directory_.empty() ? path : directory_ + "/" + path;
  }

  // A path on this machine, relative to the file that names it.
  std::optional<std::string> readPath(const Node& node, std::string_view what) {
    const auto path = readText(node, what, problems_);
    if (!path) return std::nullopt;
    if (!path->empty() && path->find('\n') == std::string::npos) return joined(*path);
    problems_.add(node.where(), fmt::format("{}: not a path", what), "write one");
    return std::nullopt;
  }

  SshSettings readSsh(const Node& node, const std::string& path) {
    SshSettings ssh;
    MapReader map(node, path, problems_);
    const auto parsed = [&](std::string_view key, auto parse) {
      const Node* value = map.find(key);
      return value == nullptr ? std::nullopt
                              : readParsed(*value, map.nameOf(key), parse, problems_);
    };
    const auto file = [&](std::string_view key) {
      const Node* value = map.find(key);
      return value == nullptr ? std::nullopt : readPath(*value, map.nameOf(key));
    };
    ssh.user = parsed("user", parseLogin);
    if (const Node* port = map.find("port"))
      if (const auto number = readInteger(*port, map.nameOf("port"), 1, 65535, problems_))
        ssh.port = static_cast<uint16_t>(*number);
    ssh.identity_file = file("identity_file");
    ssh.known_hosts = file("known_hosts");
    ssh.config_file = file("config_file");
    ssh.proxy_jump = parsed("proxy_jump", parseJump);
    if (const Node* timeout = map.find("connect_timeout"))
      ssh.connect_timeout = readDuration(*timeout, map.nameOf("connect_timeout"), Millis(100),
                                         std::chrono::hours(1), problems_);
    if (const Node* become = map.find("become"))
      ssh.become =
          readChoice<Become>(*become, map.nameOf("become"),
                             {{"none", Become::kNone}, {"sudo", Become::kSudo}}, problems_);
    map.finish();
    return ssh;
  }

  void readHosts() {
    const Node* node = map_.require("hosts", "`hosts: {host[1-3]: {}}`");
    if (node == nullptr) return;
    MapReader hosts(*node, "cluster:hosts", problems_);
    for (const Node::Member& member : node->members()) readHostSet(member);
    if (hosts.ok() && node->members().empty())
      problems_.add(node->where(), "hosts: there are none", "add one, like `host1: {}`");
  }

  void readHostSet(const Node::Member& member) {
    const auto names = expandNodeSet(member.key);
    if (!names) return problems_.add(member.where, "hosts: " + names.error().message);
    if (inventory_.hosts.size() + names->size() > kMaxHosts)
      return problems_.add(member.where, fmt::format("hosts: more than {}", kMaxHosts),
                           "split the cluster");
    const Host common = readHost(member, names->size());
    for (const std::string& name : *names) addHost(name, common, member.where);
  }

  void addHost(const std::string& name, Host host, const Location& where) {
    const auto checked = parseHostName(name);
    if (!checked) return problems_.add(where, "hosts: " + checked.error().message);
    if (name == "all")
      return problems_.add(where, "hosts: \"all\" means every host", "rename this one");
    host.name = *checked;
    host.where = where;
    if (host.address.empty()) host.address = name;
    if (!inventory_.hosts.emplace(*checked, std::move(host)).second)
      return problems_.add(where, fmt::format("hosts: {} is given twice", name), "remove one");
    inventory_.host_order.push_back(*checked);
  }

  Host readHost(const Node::Member& member, size_t hosts) {
    Host host;
    host.ssh = inventory_.ssh;
    if (member.value.isNull()) return host;
    const std::string what = fmt::format("hosts.{}", printable(member.key));
    MapReader map(member.value, "cluster:" + what, problems_);
    const auto single = [&](std::string_view key, auto parse) -> std::optional<std::string> {
      const Node* value = map.find(key);
      if (value == nullptr) return std::nullopt;
      if (hosts > 1)
        problems_.add(value->where(), fmt::format("{}.{}: one for {} hosts", what, key, hosts),
                      "give each of them its own entry");
      return readParsed(*value, fmt::format("{}.{}", what, key), parse, problems_);
    };
    host.address = single("address", parseAddress).value_or("");
    host.advertise = single("advertise", parseIp);
    if (const Node* ssh = map.find("ssh"))
      host.ssh = inventory_.ssh.mergedWith(readSsh(*ssh, "cluster:" + what + ".ssh"));
    if (const Node* labels = map.find("labels"))
      host.labels = readLabels(*labels, what + ".labels");
    if (const Node* vars = map.find("vars")) host.vars = readVars(*vars, what + ".vars", problems_);
    map.finish();
    return host;
  }

  std::map<std::string, std::string> readLabels(const Node& node, const std::string& what) {
    std::map<std::string, std::string> labels;
    MapReader map(node, "cluster:" + what, problems_);
    for (const Node::Member& member : node.members()) {
      if (!isPartName(member.key))
        problems_.add(member.where,
                      fmt::format("{}: \"{}\" is not a label's name", what, printable(member.key)),
                      "use letters, digits, '_' and '-'");
      else if (const auto text = readText(member.value, what + "." + member.key, problems_))
        labels[member.key] = *text;
    }
    return labels;
  }

  // name: nodes, or name: {hosts: nodes, vars: {…}}
  void readGroups() {
    const Node* node = map_.find("groups");
    if (node == nullptr) return;
    MapReader groups(*node, "cluster:groups", problems_);
    for (const Node::Member& member : node->members()) {
      if (!checkGroupName(member)) continue;
      const Node* members = &member.value;
      if (member.value.isMap()) {
        MapReader map(member.value, "cluster:groups." + member.key, problems_);
        members = map.require("hosts", "`hosts: host[1-3]`");
        if (const Node* vars = map.find("vars"))
          inventory_.group_vars[member.key] = readVars(*vars, map.nameOf("vars"), problems_);
        map.finish();
      }
      if (members != nullptr) addGroup(member.key, *members);
    }
  }

  bool checkGroupName(const Node::Member& member) {
    if (const auto name = parseHostName(member.key); !name || member.key == "all") {
      problems_.add(member.where,
                    fmt::format("groups: \"{}\" is not a group's name", printable(member.key)),
                    "use letters, digits, '.', '_' and '-', and not \"all\"");
      return false;
    }
    if (inventory_.hosts.count(HostName(member.key)) == 0) return true;
    problems_.add(member.where, fmt::format("groups: {} is also a host", member.key), "rename one");
    return false;
  }

  void addGroup(const std::string& group, const Node& node) {
    std::vector<HostName>& members = inventory_.groups[group];
    for (const auto& [name, where] : readNodeSets(node, "groups." + group, problems_)) {
      const auto host = inventory_.hosts.find(HostName(name));
      if (host == inventory_.hosts.end()) {
        reportUnknownHost(where, "groups." + group, name);
        continue;
      }
      if (host->second.groups.insert(group).second) members.push_back(host->first);
    }
  }

  void reportUnknownHost(const Location& where, const std::string& what, const std::string& name) {
    std::vector<std::string> known;
    for (const HostName& host : inventory_.host_order) known.push_back(host.str());
    problems_.add(where, fmt::format("{}: there is no host \"{}\"", what, printable(name)),
                  spellingHint(name, known, "add it to hosts, or remove it here"));
  }

  void readRegistry() {
    const Node* node = map_.find("registry");
    std::vector<HostName>& members = inventory_.registry_hosts;
    if (node != nullptr) {
      MapReader registry(*node, "cluster:registry", problems_);
      if (const Node* hosts = registry.require("hosts", "`hosts: [host1, host2, host3]`"))
        readRegistryHosts(*hosts);
      registry.finish();
      return;
    }
    // An even number would need as many for a majority as the next odd one.
    const size_t count = inventory_.host_order.size() >= 3 ? 3 : 1;
    for (size_t i = 0; i < std::min(count, inventory_.host_order.size()); ++i)
      members.push_back(inventory_.host_order[i]);
  }

  void readRegistryHosts(const Node& node) {
    std::set<std::string> seen;
    for (const auto& [name, where] : readNodeSets(node, "registry.hosts", problems_)) {
      if (!seen.insert(name).second)
        problems_.add(where, fmt::format("registry.hosts: {} is named twice", name), "remove one");
      else if (inventory_.hosts.count(HostName(name)) == 0)
        reportUnknownHost(where, "registry.hosts", name);
      inventory_.registry_hosts.push_back(HostName(name));
    }
    const size_t count = seen.size();
    if (count != 1 && count != 3 && count != 5 && count != 7)
      problems_.add(node.where(), fmt::format("registry.hosts: {} hosts", count),
                    "name 1, 3, 5 or 7: a majority of them decides");
  }

  void readAlerts() {
    const Node* node = map_.find("alerts");
    if (node == nullptr) return;
    const auto items =
        readList(*node, "alerts", "[{on: [crash], host_exec: [/usr/local/bin/page]}]", problems_);
    if (!items) return;
    if (items->size() > kMaxAlerts)
      return problems_.add(node->where(), fmt::format("alerts: more than {}", kMaxAlerts),
                           "let one program tell the cases apart: it is given the event");
    for (const Node* item : *items) readAlert(*item);
  }

  void readAlert(const Node& node) {
    MapReader map(node, "cluster:alerts", problems_);
    Alert alert;
    if (const Node* on = map.require("on", "`on: [crash, crash-loop]`")) readAlertOn(*on, alert);
    // A webhook was refused by name already; without one the program is what is missing.
    const Node* exec = node.find("webhook") != nullptr
                           ? map.find("host_exec")
                           : map.require("host_exec", "`host_exec: [/usr/local/bin/page]`");
    if (exec != nullptr) readHostExec(*exec, alert);
    map.finish();
    if (!alert.on.empty() && !alert.host_exec.empty())
      inventory_.alerts.push_back(std::move(alert));
  }

  void readAlertOn(const Node& node, Alert& alert) {
    const auto items = readList(node, "alerts.on", "[crash, crash-loop]", problems_);
    if (!items) return;
    if (items->empty())
      problems_.add(node.where(), "alerts.on: names nothing to tell of",
                    "write one of crash, crash-loop, unhealthy");
    for (const Node* item : *items) {
      if (refuseNotYet("cluster:alerts.on", *item, problems_)) continue;
      const auto on = readChoice<AlertOn>(*item, "alerts.on",
                                          {{"crash", AlertOn::kCrash},
                                           {"crash-loop", AlertOn::kCrashLoop},
                                           {"unhealthy", AlertOn::kUnhealthy}},
                                          problems_);
      if (on && std::find(alert.on.begin(), alert.on.end(), *on) == alert.on.end())
        alert.on.push_back(*on);
    }
  }

  void readHostExec(const Node& node, Alert& alert) {
    const auto items =
        readList(node, "alerts.host_exec", "[/usr/local/bin/page, --team, solver]", problems_);
    if (!items) return;
    for (const Node* item : *items)
      if (const auto word = readText(*item, "alerts.host_exec", problems_))
        alert.host_exec.push_back(*word);
    const bool absolute = !items->empty() && items->front()->text().substr(0, 1) == "/";
    if (!absolute || items->size() > kMaxAlertArguments)
      problems_.add(node.where(),
                    absolute
                        ? fmt::format("alerts.host_exec: more than {} words", kMaxAlertArguments)
                        : "alerts.host_exec: the program is not an absolute path",
                    "write it in full, as it is on the hosts, like [/usr/local/bin/page]");
  }

  void readSignOff() {
    const Node* node = map_.find("sign_off");
    if (node == nullptr) return;
    SignOff& policy = inventory_.sign_off;
    MapReader sign_off(*node, "cluster:sign_off", problems_);
    if (const Node* required = sign_off.find("required"))
      policy.required = readTruth(*required, "sign_off.required", problems_).value_or(true);
    const Node* file = sign_off.find("allowed_signers");
    if (file != nullptr)
      policy.allowed_signers = readPath(*file, "sign_off.allowed_signers").value_or("");
    if (const Node* by = sign_off.find("by")) readSignOffBy(*by);
    if (const Node* count = sign_off.find("count")) readSignOffCount(*count);
    sign_off.finish();
    if (file == nullptr && sign_off.ok() && (policy.required || !policy.by.empty()))
      problems_.add(node->where(), "sign_off: nothing says whose signatures are good",
                    "name an OpenSSH file of keys, like `allowed_signers: allowed_signers`");
  }

  void readSignOffBy(const Node& node) {
    const auto items = readList(node, "sign_off.by", "[\"*@qa.example.com\"]", problems_);
    if (!items) return;
    if (items->empty())
      problems_.add(node.where(), "sign_off.by: names nobody",
                    "remove it to take anyone's of allowed_signers");
    for (const Node* item : *items) {
      const auto pattern = readText(*item, "sign_off.by", problems_);
      if (!pattern) continue;
      if (pattern->empty() || pattern->find_first_of("!,") != std::string::npos)
        problems_.add(
            item->where(),
            fmt::format("sign_off.by: \"{}\" is no pattern of one principal", printable(*pattern)),
            "write names or patterns like \"*@qa.example.com\", each as an item; who "
            "must not sign does not belong in allowed_signers");
      inventory_.sign_off.by.push_back(*pattern);
    }
  }

  void readSignOffCount(const Node& node) {
    const auto count = readInteger(node, "sign_off.count", 1, kMaxSignOffs, problems_);
    if (!count) return;
    inventory_.sign_off.count = static_cast<int>(*count);
    const std::vector<std::string>& by = inventory_.sign_off.by;
    const bool names_only = std::none_of(by.begin(), by.end(), [](const std::string& pattern) {
      return pattern.find_first_of("*?") != std::string::npos;
    });
    if (!by.empty() && names_only && static_cast<size_t>(*count) > by.size())
      problems_.add(node.where(),
                    fmt::format("sign_off.count: {} of {} people cannot sign", *count, by.size()),
                    "lower it, or name more in sign_off.by");
  }

  MapReader map_;
  const std::string& directory_;
  Inventory& inventory_;
  Problems& problems_;
};

}  // namespace

bool isPartName(std::string_view text) {
  return !text.empty() && text.size() <= 128 && text[0] != '-' &&
         std::all_of(text.begin(), text.end(), isWordCharacter);
}

Vars readVars(const Node& node, std::string_view what, Problems& problems) {
  Vars vars;
  MapReader map(node, "file:" + std::string(what), problems);
  for (const Node::Member& member : node.members()) {
    if (isPartName(member.key))
      vars[member.key] = member.value;
    else
      problems.add(member.where,
                   fmt::format("{}: \"{}\" is not a variable's name", what, printable(member.key)),
                   "use letters, digits, '_' and '-'");
  }
  return vars;
}

std::map<std::string, Location> readSecrets(const Node& node, Problems& problems) {
  std::map<std::string, Location> names;
  const auto items = readList(node, "secrets", "[db_password, API_TOKEN]", problems);
  if (!items) return names;
  for (const Node* item : *items)
    if (const auto name = readText(*item, "secrets", problems))
      if (!names.emplace(*name, item->where()).second)
        problems.add(item->where(), fmt::format("secrets: {} is named twice", printable(*name)),
                     "remove one of them");
  return names;
}

std::vector<std::pair<std::string, Location>> readNodeSets(const Node& node, std::string_view what,
                                                           Problems& problems) {
  std::vector<std::pair<std::string, Location>> names;
  std::vector<const Node*> items{&node};
  if (!node.isScalar() || node.isNull())
    items = readList(node, what, "[host1, \"host[2-3]\"]", problems)
                .value_or(std::vector<const Node*>());
  for (const Node* item : items) {
    const auto expanded = readParsed(*item, what, expandNodeSet, problems);
    if (!expanded) continue;
    if (names.size() + expanded->size() > kMaxHosts) {
      problems.add(item->where(), fmt::format("{}: more than {} names", what, kMaxHosts));
      break;
    }
    for (const std::string& name : *expanded) names.emplace_back(name, item->where());
  }
  return names;
}

void readCluster(const Node& node, const std::string& directory, Inventory& inventory,
                 Problems& problems) {
  ClusterReader(node, directory, inventory, problems).read();
}

}  // namespace cctl
