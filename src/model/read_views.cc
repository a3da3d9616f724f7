#include "model/read_views.h"

#include <algorithm>
#include <set>

#include "model/node_set.h"
#include "model/reader.h"
#include "model/schema.h"

namespace cctl {
namespace {

constexpr size_t kMaxViews = 64;
constexpr size_t kMaxServers = 1000;
constexpr size_t kMaxReloadWords = 64;

struct KindOfView {
  std::string_view key;
  ViewKind kind;
  std::string_view example;
};
constexpr KindOfView kKinds[] = {
    {"prometheus", ViewKind::kPrometheus, "prometheus: targets.json"},
    {"nginx", ViewKind::kNginx, "nginx: web.conf"},
    {"haproxy", ViewKind::kHaproxy, "haproxy: /run/haproxy/admin.sock"},
    {"plain", ViewKind::kPlain, "plain: web.txt"},
};

bool isOneOf(char c, std::string_view also) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         also.find(c) != std::string_view::npos;
}

bool isMadeOf(std::string_view text, std::string_view also) {
  return !text.empty() && text.size() <= 200 &&
         std::all_of(text.begin(), text.end(), [&](char c) { return isOneOf(c, also); });
}

// Absolute, or below the directory of views; nothing that climbs out of it or is hidden.
Result<std::string> parseViewFile(std::string_view text) {
  const std::string path(text);
  const bool parts = ("/" + path + "/").find("/.") == std::string::npos &&
                     path.find("//") == std::string::npos && !path.ends_with('/');
  if (isMadeOf(path, "/._-+@") && parts) return path;
  return fail(Code::kBadInput,
              "\"{}\" is not a file; write like web.conf, which lies in registry/views, or an "
              "absolute path of the hosts",
              printable(text));
}

Result<std::string> parseSocketPath(std::string_view text) {
  if (isMadeOf(text, "/._-+@") && text[0] == '/' && text.size() <= 107) return std::string(text);
  return fail(Code::kBadInput,
              "\"{}\" is not the path of HAProxy's runtime socket; write like "
              "/run/haproxy/admin.sock",
              printable(text));
}

// As nginx and HAProxy take it without quotes.
Result<std::string> parseBlockName(std::string_view text) {
  if (isMadeOf(text, "._-")) return std::string(text);
  return fail(Code::kBadInput, "\"{}\" is not a name; use letters, digits, '.', '_' and '-'",
              printable(text));
}

Result<std::string> parsePortName(std::string_view text) {
  if (isPartName(text)) return std::string(text);
  return fail(Code::kBadInput, "\"{}\" is not the name of a port", printable(text));
}

// Prometheus' own rule, without what it keeps for itself (but "__meta_", which it drops).
bool isLabelName(std::string_view text) {
  return isMadeOf(text, "_") && !(text[0] >= '0' && text[0] <= '9') && !text.starts_with("__");
}

class ViewReader {
 public:
  ViewReader(const Node& node, Inventory& inventory, Problems& problems)
      : node_(node),
        map_(node, "cluster:views", problems),
        inventory_(inventory),
        problems_(problems) {}

  void read() {
    view_.where = node_.where();
    const bool sound = readKind();
    readServices();
    if (const Node* port = map_.find("port"))
      view_.port = readParsed(*port, "views.port", parsePortName, problems_).value_or("");
    readHosts();
    if (sound) readOfKind();
    map_.finish();
    if (sound && !view_.path.empty() && !view_.hosts.empty())
      inventory_.views.push_back(std::move(view_));
  }

 private:
  // Exactly one of the kinds' keys.
  bool readKind() {
    const KindOfView* found = nullptr;
    std::vector<std::string> keys;
    for (const KindOfView& kind : kKinds) {
      keys.emplace_back(kind.key);
      const Node* value = map_.find(kind.key);
      if (value == nullptr) continue;
      if (found != nullptr) {
        problems_.add(value->where(), fmt::format("views: {} beside {}", kind.key, found->key),
                      "write an entry for each");
        return false;
      }
      found = &kind;
      readPath(*value, kind);
    }
    if (found == nullptr && map_.ok())
      problems_.add(
          node_.where(),
          fmt::format("views: an entry without its kind, one of {}", fmt::join(keys, ", ")),
          fmt::format("write like {{{}, service: web}}", kKinds[1].example));
    return found != nullptr;
  }

  void readPath(const Node& value, const KindOfView& kind) {
    view_.kind = kind.kind;
    const std::string what = fmt::format("views.{}", kind.key);
    view_.path =
        (kind.kind == ViewKind::kHaproxy ? readParsed(value, what, parseSocketPath, problems_)
                                         : readParsed(value, what, parseViewFile, problems_))
            .value_or("");
  }

  bool ofOneService() const {
    return view_.kind == ViewKind::kNginx || view_.kind == ViewKind::kHaproxy;
  }

  void readServices() {
    const Node* node = map_.find("service");
    if (node == nullptr) {
      if (ofOneService())
        problems_.add(node_.where(), "views.service is missing", "add it, like `service: web`");
      return;
    }
    std::vector<const Node*> items{node};
    if (!node->isScalar() && !ofOneService())
      items = readList(*node, "views.service", "[web, api]", problems_)
                  .value_or(std::vector<const Node*>());
    for (const Node* item : items)
      if (const auto name = readParsed(*item, "views.service", parseServiceName, problems_))
        view_.services.push_back(*name);
  }

  // Hosts, node sets and groups; every host when the key is absent.
  void readHosts() {
    const Node* node = map_.find("hosts");
    if (node == nullptr) {
      view_.hosts = inventory_.host_order;
      return;
    }
    std::set<HostName> wanted;
    for (const auto& [name, where] : readNodeSets(*node, "views.hosts", problems_)) {
      const auto group = inventory_.groups.find(name);
      if (name == "all")
        wanted.insert(inventory_.host_order.begin(), inventory_.host_order.end());
      else if (group != inventory_.groups.end())
        wanted.insert(group->second.begin(), group->second.end());
      else if (inventory_.hosts.count(HostName(name)) != 0)
        wanted.insert(HostName(name));
      else
        reportUnknown(where, name);
    }
    for (const HostName& host : inventory_.host_order)
      if (wanted.count(host) != 0) view_.hosts.push_back(host);
  }

  void reportUnknown(const Location& where, const std::string& name) {
    std::vector<std::string> known;
    for (const HostName& host : inventory_.host_order) known.push_back(host.str());
    for (const auto& [group, members] : inventory_.groups) known.push_back(group);
    problems_.add(where,
                  fmt::format("views.hosts: there is no host or group \"{}\"", printable(name)),
                  spellingHint(name, known, "add it to hosts, or remove it here"));
  }

  void readOfKind() {
    const std::string service = view_.services.empty() ? "" : view_.services.front().str();
    if (view_.kind == ViewKind::kNginx) view_.name = readName("upstream", service);
    if (view_.kind == ViewKind::kHaproxy) {
      view_.name = readName("backend", service);
      readServers();
      return;  // set at once: there is nothing to reload
    }
    if (view_.kind == ViewKind::kPrometheus) readLabels();
    if (const Node* reload = map_.find("reload")) readReload(*reload);
  }

  std::string readName(std::string_view key, const std::string& otherwise) {
    const Node* node = map_.find(key);
    if (node == nullptr) return otherwise;
    return readParsed(*node, map_.nameOf(key), parseBlockName, problems_).value_or(otherwise);
  }

  void readServers() {
    const Node* node =
        map_.require("servers", "`servers: \"web[1-16]\"`, as the server-template has");
    if (node == nullptr) return;
    const auto names = readParsed(*node, "views.servers", expandNodeSet, problems_);
    if (!names) return;
    for (const std::string& name : *names)
      if (!parseBlockName(name))
        problems_.add(node->where(),
                      fmt::format("views.servers: \"{}\" is not a server's name", printable(name)));
    if (names->size() > kMaxServers)
      problems_.add(node->where(), fmt::format("views.servers: more than {}", kMaxServers));
    view_.servers = *names;
  }

  void readLabels() {
    const Node* node = map_.find("labels");
    if (node == nullptr) return;
    MapReader labels(*node, "cluster:views.labels", problems_);
    for (const Node::Member& member : node->members()) {
      if (!isLabelName(member.key))
        problems_.add(member.where,
                      fmt::format("views.labels: \"{}\" is not a label's name for Prometheus",
                                  printable(member.key)),
                      "use letters, digits and '_', and not two '_' in front");
      else if (const auto text = readText(member.value, "views.labels." + member.key, problems_))
        view_.labels[member.key] = *text;
    }
  }

  void readReload(const Node& node) {
    const auto items = readList(node, "views.reload", "[/usr/sbin/nginx, -s, reload]", problems_);
    if (!items) return;
    for (const Node* item : *items)
      if (const auto word = readText(*item, "views.reload", problems_))
        view_.reload.push_back(*word);
    const bool absolute = !items->empty() && items->front()->text().substr(0, 1) == "/";
    if (!absolute || items->size() > kMaxReloadWords)
      problems_.add(node.where(),
                    absolute ? fmt::format("views.reload: more than {} words", kMaxReloadWords)
                             : "views.reload: the program is not an absolute path",
                    "write it in full, as it is on the hosts, like [/usr/sbin/nginx, -s, reload]");
  }

  const Node& node_;
  MapReader map_;
  Inventory& inventory_;
  Problems& problems_;
  View view_;
};

// Two views would overwrite each other where one path is given twice on a host.
void checkPaths(const Inventory& inventory, Problems& problems) {
  std::set<std::pair<std::string, HostName>> taken;
  for (const View& view : inventory.views) {
    const bool shared = view.kind == ViewKind::kHaproxy;  // one socket, many backends
    const std::string what = shared ? view.path + " " + view.name : view.path;
    std::vector<std::string> twice;
    for (const HostName& host : view.hosts)
      if (!taken.emplace(what, host).second) twice.push_back(host.str());
    if (!twice.empty())
      problems.add(view.where,
                   fmt::format("views: {} is written twice on {}", what, foldNodeSet(twice)),
                   shared ? "name another backend" : "name another file");
  }
}

void checkPort(const View& view, const Manifest& manifest, Problems& problems) {
  std::vector<std::string> ports;
  for (const Port& port : manifest.ports) ports.push_back(port.name);
  const std::string service = manifest.service.str();
  if (view.port.empty() && ports.size() == 1) return;
  if (view.port.empty())
    return problems.add(
        view.where,
        fmt::format("views.port is missing: {} has {}", service,
                    ports.empty() ? "no ports" : fmt::format("{}", fmt::join(ports, ", "))),
        ports.empty() ? "leave the service out" : "name one of them");
  if (std::find(ports.begin(), ports.end(), view.port) == ports.end())
    problems.add(view.where, fmt::format("views.port: {} has no port \"{}\"", service, view.port),
                 spellingHint(view.port, ports, "add it to the ports of the service"));
}

}  // namespace

void readViews(const Node& node, Inventory& inventory, Problems& problems) {
  const auto items = readList(node, "views", "[{nginx: web.conf, service: web}]", problems);
  if (!items) return;
  if (items->size() > kMaxViews)
    return problems.add(node.where(), fmt::format("views: more than {}", kMaxViews));
  for (const Node* item : *items) ViewReader(*item, inventory, problems).read();
  checkPaths(inventory, problems);
}

void checkViews(const Inventory& inventory, Problems& problems) {
  std::vector<std::string> known;
  for (const auto& [name, manifest] : inventory.services) known.push_back(name.str());
  for (const View& view : inventory.views) {
    for (const ServiceName& service : view.services) {
      if (const Manifest* manifest = inventory.findService(service))
        checkPort(view, *manifest, problems);
      else
        problems.add(view.where,
                     fmt::format("views.service: there is no service \"{}\"", service.str()),
                     spellingHint(service.str(), known, "add its manifest to services/"));
    }
  }
}

}  // namespace cctl
