#include <algorithm>
#include <charconv>
#include <set>

#include "model/reader.h"
#include "model/schema.h"
#include "model/signals.h"

namespace cctl {
namespace {

using std::chrono::hours;

constexpr Millis kDay = hours(24);
constexpr size_t kMaxPorts = 64;

bool isUpper(char c) { return c >= 'A' && c <= 'Z'; }
bool isLower(char c) { return c >= 'a' && c <= 'z'; }
bool isDigit(char c) { return c >= '0' && c <= '9'; }

// ---- small texts ----

bool isEnvironmentName(std::string_view text) {
  return !text.empty() && text.size() <= 255 && !isDigit(text[0]) &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return isUpper(c) || isLower(c) || isDigit(c) || c == '_'; });
}

// Set by the shim for every process.
bool isReservedEnvironment(std::string_view name) {
  return name.substr(0, 11) == "CLUSTERCTL_" || name.substr(0, 7) == "LISTEN_" ||
         name == "NOTIFY_SOCKET" || name == "WATCHDOG_USEC" || name == "WATCHDOG_PID";
}

bool isUserName(std::string_view text) {
  const auto taken = [](char c) {
    return isUpper(c) || isLower(c) || isDigit(c) || c == '_' || c == '-' || c == '.';
  };
  return !text.empty() && text.size() <= 32 && text[0] != '-' && text[0] != '.' &&
         std::all_of(text.begin(), text.end(), taken);
}

// Relative, without "." and ".." parts, without a trailing slash.
bool isPathBelow(std::string_view path) {
  if (path.empty() || path.front() == '/' || path.back() == '/' || path.size() > 1024) return false;
  while (!path.empty()) {
    const std::string_view part = path.substr(0, path.find('/'));
    if (part.empty() || part == "." || part == ".." || part.size() > 255) return false;
    path.remove_prefix(std::min(part.size() + 1, path.size()));
  }
  return true;
}

Result<mode_t> parseMode(std::string_view text) {
  const bool octal =
      (text.size() == 3 || text.size() == 4) &&
      std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c < '8'; });
  if (!octal || (text.size() == 4 && text[0] != '0'))
    return fail(Code::kBadInput, "\"{}\" is not a file mode; write like \"0640\"", printable(text));
  mode_t mode = 0;
  for (const char c : text) mode = mode * 8 + static_cast<mode_t>(c - '0');
  return mode;
}

struct Backoff {
  Millis first, most;
};

// "100ms..30s", or one duration for always the same.
Result<Backoff> parseBackoff(std::string_view text) {
  const size_t dots = text.find("..");
  CCTL_TRY(const Millis first, parseDuration(text.substr(0, dots)));
  Millis most = first;
  if (dots != std::string_view::npos) {
    CCTL_TRY(most, parseDuration(text.substr(dots + 2)));
  }
  if (first < Millis(1) || most < first || most > kDay)
    return fail(Code::kBadInput,
                "\"{}\" does not rise from 1ms or more to 1d or less; write like "
                "100ms..30s",
                text);
  return Backoff{first, most};
}

struct RestartLimit {
  int count;
  Millis window;
};

// "10 in 1m"
Result<RestartLimit> parseRestartLimit(std::string_view text) {
  const size_t in = text.find(" in ");
  const auto count = in == std::string_view::npos ? std::nullopt : parseInteger(text.substr(0, in));
  if (!count || *count < 1 || *count > 100'000)
    return fail(Code::kBadInput, "\"{}\" is not a limit; write like \"10 in 1m\"", printable(text));
  CCTL_TRY(const Millis window, parseDuration(text.substr(in + 4)));
  if (window < Millis(1) || window > kDay)
    return fail(Code::kBadInput, "{} is not between 1ms and 1d", formatDuration(window));
  return RestartLimit{static_cast<int>(*count), window};
}

Result<Batch> parseBatch(std::string_view text) {
  const bool percent = !text.empty() && text.back() == '%';
  if (percent) text.remove_suffix(1);
  const auto value = parseInteger(text);
  if (!value || *value < 1 || *value > (percent ? 100 : 10'000))
    return fail(Code::kBadInput,
                "\"{}\" is neither a number of instances nor a percentage; write like 2 or 25%",
                printable(text));
  return Batch{static_cast<int>(*value), percent};
}

Result<int> parseSignal(std::string_view text) {
  if (const auto number = signalFromName(text)) return *number;
  const std::string nearest = nearestSpelling(text, signalNames());
  return fail(Code::kBadInput, "\"{}\" is not a signal; {}", printable(text),
              nearest.empty() ? "write like TERM or INT" : "did you mean " + nearest + "?");
}

// "admin:/healthz"
Result<HttpProbe> parseHttpProbe(std::string_view text) {
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos || colon == 0 || text.substr(colon + 1, 1) != "/" ||
      text.find_first_of(" \t\r\n") != std::string_view::npos)
    return fail(Code::kBadInput,
                "\"{}\" is not a port's name and a path; write like \"admin:/healthz\"",
                printable(text));
  return HttpProbe{std::string(text.substr(0, colon)), std::string(text.substr(colon + 1))};
}

// "2", "0.5", "1.25" → thousandths. The kernel shares processors out in steps of a hundredth.
Result<int> parseProcessors(std::string_view text) {
  const size_t dot = std::min(text.find('.'), text.size());
  std::string fraction(text.substr(std::min(dot + 1, text.size())));
  const bool digits = fraction.size() <= 3 && (dot == text.size() || !fraction.empty()) &&
                      std::all_of(fraction.begin(), fraction.end(), isDigit);
  const auto whole = parseInteger(text.substr(0, dot));
  if (!digits || !whole || *whole > 4096)
    return fail(Code::kBadInput, "\"{}\" is not a number of processors; write like 2 or 0.5",
                printable(text));
  fraction.resize(3, '0');
  const int thousandths = static_cast<int>(*whole) * 1000 + std::stoi(fraction);
  if (thousandths < 10 || thousandths > 4'096'000)
    return fail(Code::kBadInput, "{} is not between 0.01 and 4096 processors", text);
  return thousandths;
}

Result<int> parseUmask(std::string_view text) {
  int value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 8);
  if (error == std::errc() && end == text.data() + text.size() && value >= 0 && value <= 0777)
    return value;
  return fail(Code::kBadInput, "\"{}\" is not an octal number from 000 to 777", printable(text));
}

Result<std::string> parseUser(std::string_view text) {
  if (!isUserName(text)) return fail(Code::kBadInput, "\"{}\" is not a user name", printable(text));
  return std::string(text);
}

// ---- the parts of a manifest, in the order of the interface ----

class ManifestReader {
 public:
  ManifestReader(const Node& node, Problems& problems)
      : map_(node, "service", problems), problems_(problems) {}

  Manifest read(ServiceName name, const Node& node) {
    manifest_.service = std::move(name);
    manifest_.where = node.where();
    manifest_.source = node;
    readPlace();
    readRun();
    readPorts();
    readConfig();
    readDependsOn();
    readEnvironment();
    if (const Node* user = map_.find("user"))
      manifest_.user = readParsed(*user, "user", parseUser, problems_).value_or("");
    if (const Node* umask = map_.find("umask"))
      manifest_.umask = readParsed(*umask, "umask", parseUmask, problems_);
    readLimits();
    readHealth();
    readRestart();
    readStop();
    if (const Node* boot = map_.find("boot"))
      readChoice<int>(*boot, "boot", {{"start", 0}}, problems_);
    readUpgrade();
    readOnChange();
    readLogs();
    if (const Node* vars = map_.find("vars")) manifest_.vars = readVars(*vars, "vars", problems_);
    if (const Node* secrets = map_.find("secrets"))
      manifest_.secrets = readSecrets(*secrets, problems_);
    map_.finish();
    return std::move(manifest_);
  }

  const Node* requireService() { return map_.require("service", "`service: my-service`"); }

 private:
  // A map under `key`; nothing when absent.
  std::optional<MapReader> section(MapReader& parent, std::string_view key) {
    const Node* node = parent.find(key);
    if (node == nullptr) return std::nullopt;
    return std::optional<MapReader>(std::in_place, *node, parent.pathOf(key), problems_);
  }

  std::optional<TemplateText> readTemplateText(const Node& node, std::string_view what) {
    if (!node.isScalar()) {
      (void)readText(node, what, problems_);  // for its message
      return std::nullopt;
    }
    return TemplateText{node.text(), node.where()};
  }

  std::vector<TemplateText> readCommand(const Node& node, std::string_view what) {
    std::vector<TemplateText> argv;
    const auto items = readList(node, what, "[bin/server, --port, \"{{port.main}}\"]", problems_);
    if (!items) return argv;
    for (const Node* item : *items)
      if (auto text = readTemplateText(*item, what)) argv.push_back(std::move(*text));
    if (items->empty() || (!argv.empty() && argv[0].text.empty()))
      problems_.add(node.where(), fmt::format("{}: names no program", what),
                    "put one first in the list");
    return argv;
  }

  void readPlace() {
    const Node* node = map_.require("place", "`place: {hosts: [host1]}`");
    if (node == nullptr) return;
    MapReader place(*node, "service:place", problems_);
    manifest_.place.where = node->where();
    if (const Node* group = place.find("group"))
      manifest_.place.group = readText(*group, "place.group", problems_).value_or("");
    if (const Node* hosts = place.find("hosts")) readPlaceHosts(*hosts);
    if (const Node* count = place.find("count"))
      if (const auto n = readInteger(*count, "place.count", 1, 10'000, problems_))
        manifest_.place.count = static_cast<int>(*n);
    if (const Node* per_host = place.find("per_host"))
      if (const auto n = readInteger(*per_host, "place.per_host", 1, 1'000, problems_))
        manifest_.place.per_host = static_cast<int>(*n);
    if (const Node* spread = place.find("spread"))
      manifest_.place.spread = readText(*spread, "place.spread", problems_).value_or("");
    place.finish();
    checkPlace(*node);
  }

  void readPlaceHosts(const Node& node) {
    std::set<HostName> seen;
    for (auto& [name, where] : readNodeSets(node, "place.hosts", problems_)) {
      const HostName host(name);
      if (!seen.insert(host).second)
        problems_.add(where, fmt::format("place.hosts: {} is named twice", name),
                      "remove one; for several instances on a host write per_host");
      else
        manifest_.place.hosts.push_back(host);
    }
  }

  void checkPlace(const Node& node) {
    if (!node.isMap()) return;
    const bool group = node.find("group") != nullptr, hosts = node.find("hosts") != nullptr;
    const bool count = node.find("count") != nullptr, per_host = node.find("per_host") != nullptr;
    if (group == hosts)
      problems_.add(node.where(), group ? "place has both group and hosts" : "place has no hosts",
                    "write one of {group: NAME, count: 3} and {hosts: [host1]}");
    if (count && per_host)
      problems_.add(node.where(), "place has both count and per_host", "keep one of them");
    if (hosts && count)
      problems_.add(node.where(),
                    "place.count goes with a group; a list of hosts gets per_host each",
                    "remove count, or name a group");
    if (hosts && node.find("spread") != nullptr)
      problems_.add(node.where(), "place.spread goes with a group", "remove it");
    if (group && !count && !per_host) manifest_.place.count = 1;
  }

  void readRun() {
    if (const Node* run = map_.require("run", "`run: [bin/server]`"))
      manifest_.run = readCommand(*run, "run");
    if (manifest_.run.empty()) return;
    const TemplateText& program = manifest_.run[0];
    if (!program.text.empty() && program.text[0] != '/' && program.text.substr(0, 2) != "{{" &&
        !isPathBelow(program.text))
      problems_.add(program.where, "run: the program's path leaves the release",
                    "write it like bin/server, or in full from /");
  }

  void readPorts() {
    const Node* node = map_.find("ports");
    if (node == nullptr) return;
    MapReader ports(*node, "service:ports", problems_);
    std::set<std::string> variables;
    if (node->members().size() > kMaxPorts)
      return problems_.add(node->where(), fmt::format("ports: more than {}", kMaxPorts),
                           "name fewer");
    for (const Node::Member& member : node->members()) {
      checkPortName(member, variables);
      readPort(member.key, member.value);
    }
  }

  void checkPortName(const Node::Member& member, std::set<std::string>& variables) {
    std::string variable = member.key;
    std::replace(variable.begin(), variable.end(), '-', '_');
    std::transform(variable.begin(), variable.end(), variable.begin(),
                   [](char c) { return isLower(c) ? static_cast<char>(c - 'a' + 'A') : c; });
    if (!isPartName(member.key) || member.key.size() > 32)
      problems_.add(member.where,
                    fmt::format("ports: \"{}\" is not a port's name", printable(member.key)),
                    "use letters, digits, '_' and '-', at most 32");
    else if (!variables.insert(variable).second)
      problems_.add(
          member.where,
          fmt::format("ports: {} and another would both be PORT_{}", member.key, variable),
          "rename one");
  }

  void readPort(const std::string& name, const Node& node) {
    const std::string what = "ports." + name;
    if (node.isMap()) return readPortMap(name, node);
    readPortNumber({name, std::nullopt, false}, node, what);
  }

  // {socket: true, port: auto|N}
  void readPortMap(const std::string& name, const Node& node) {
    const std::string what = "ports." + name;
    MapReader map(node, "service:" + what, problems_);
    Port port{name, std::nullopt, false};
    const Node* socket = map.find("socket");
    if (socket != nullptr)
      port.socket = readTruth(*socket, what + ".socket", problems_).value_or(false);
    const Node* number = map.find("port");
    map.finish();
    if (node.members().empty())
      problems_.add(node.where(), what + ": says neither socket nor port",
                    "write auto, a number, or {socket: true}");
    if (number != nullptr) return readPortNumber(std::move(port), *number, what + ".port");
    manifest_.ports.push_back(std::move(port));
  }

  void readPortNumber(Port port, const Node& node, const std::string& what) {
    const auto text = readText(node, what, problems_);
    if (!text) return;
    const auto number = parseInteger(*text);
    for (const Port& other : manifest_.ports)
      if (number && other.fixed == *number)
        problems_.add(node.where(),
                      fmt::format("{}: {} is port {} already", what, other.name, *number),
                      "give them different numbers");
    const bool valid = number && *number >= 1 && *number <= 65535;
    if (!valid && *text != "auto")
      return problems_.add(node.where(),
                           fmt::format("{}: \"{}\" is not a port", what, printable(*text)),
                           "write auto, or a number from 1 to 65535");
    if (valid) port.fixed = static_cast<uint16_t>(*number);
    manifest_.ports.push_back(std::move(port));
  }

  void readConfig() {
    const Node* node = map_.find("config");
    if (node == nullptr) return;
    const auto items =
        readList(*node, "config", "[{template: a.conf.mustache, path: a.conf}]", problems_);
    if (!items) return;
    std::set<std::string> paths;
    for (const Node* item : *items) {
      ConfigFile file = readConfigFile(*item);
      if (!file.path.empty() && !paths.insert(file.path).second)
        problems_.add(file.where, fmt::format("config: {} is written twice", file.path),
                      "remove one");
      manifest_.config.push_back(std::move(file));
    }
  }

  ConfigFile readConfigFile(const Node& node) {
    ConfigFile file;
    file.where = node.where();
    MapReader map(node, "service:config", problems_);
    if (const Node* name = map.require("template", "`template: a.conf.mustache`")) {
      file.template_name = readText(*name, "config.template", problems_).value_or("");
      file.where = name->where();
    }
    if (const Node* path = map.require("path", "`path: a.conf`")) {
      file.path = readText(*path, "config.path", problems_).value_or("");
      if (!file.path.empty() && !isPathBelow(file.path))
        problems_.add(
            path->where(),
            fmt::format("config.path: \"{}\" leaves the conf directory", printable(file.path)),
            "write a relative path without \"..\"");
    }
    if (const Node* mode = map.find("mode"))
      file.mode = readParsed(*mode, "config.mode", parseMode, problems_).value_or(0644);
    map.finish();
    return file;
  }

  void readDependsOn() {
    const Node* node = map_.find("depends_on");
    if (node == nullptr) return;
    const auto items = readList(*node, "depends_on", "[puzzle-store]", problems_);
    if (!items) return;
    for (const Node* item : *items) {
      const auto name = readParsed(*item, "depends_on", parseServiceName, problems_);
      if (name && !dependencies_.insert(*name).second)
        problems_.add(item->where(), fmt::format("depends_on: {} is named twice", *name),
                      "remove one");
      else if (name)
        manifest_.depends_on.push_back(*name);
    }
  }

  void readEnvironment() {
    const Node* node = map_.find("env");
    if (node == nullptr) return;
    MapReader env(*node, "service:env", problems_);
    for (const Node::Member& member : node->members()) {
      if (!isEnvironmentName(member.key))
        problems_.add(member.where,
                      fmt::format("env: \"{}\" is not a variable's name", printable(member.key)),
                      "use letters, digits and '_', not beginning with a digit");
      else if (isReservedEnvironment(member.key))
        problems_.add(member.where, fmt::format("env: {} is set by clusterctl", member.key),
                      "use another name");
      else if (auto text = readTemplateText(member.value, "env." + member.key))
        manifest_.env[member.key] = std::move(*text);
    }
  }

  void readLimits() {
    auto limits = section(map_, "limits");
    if (!limits) return;
    if (const Node* nofile = limits->find("nofile"))
      if (const auto n = readInteger(*nofile, "limits.nofile", 16, 1 << 30, problems_))
        manifest_.limits.nofile = static_cast<uint64_t>(*n);
    if (const Node* nproc = limits->find("nproc"))
      if (const auto n = readInteger(*nproc, "limits.nproc", 1, 1 << 30, problems_))
        manifest_.limits.nproc = static_cast<uint64_t>(*n);
    manifest_.limits.core = readSizeLimit(*limits, "core", 0);
    manifest_.limits.memlock = readSizeLimit(*limits, "memlock", 0);
    manifest_.limits.stack = readSizeLimit(*limits, "stack", 64 << 10);
    if (const Node* memory = limits->find("memory"))
      manifest_.limits.memory =
          readSize(*memory, "limits.memory", uint64_t{1} << 20, uint64_t{1} << 44, problems_);
    if (const Node* cpu = limits->find("cpu"))
      manifest_.limits.cpu = readParsed(*cpu, "limits.cpu", parseProcessors, problems_);
    limits->finish();
  }

  // "unlimited", or a size of at least `least` bytes.
  std::optional<uint64_t> readSizeLimit(MapReader& limits, const std::string& name,
                                        uint64_t least) {
    const Node* node = limits.find(name);
    if (!node) return std::nullopt;
    if (node->text() == "unlimited") return Limits::kUnlimited;
    return readSize(*node, "limits." + name, least, uint64_t{1} << 50, problems_);
  }

  void readHealth() {
    auto health = section(map_, "health");
    if (!health) return;
    if (const Node* ready = health->find("ready")) readReady(*ready);
    if (const Node* live = health->find("live")) readLive(*live);
    if (const Node* timeout = health->find("start_timeout"))
      manifest_.health.start_timeout =
          readDuration(*timeout, "health.start_timeout", Millis(100), kDay, problems_)
              .value_or(manifest_.health.start_timeout);
    health->finish();
  }

  void readReady(const Node& node) {
    MapReader ready(node, "service:health.ready", problems_);
    if (auto probe = readProbe(ready, node, "health.ready"))
      manifest_.health.ready = std::move(*probe);
    ready.finish();
  }

  void readLive(const Node& node) {
    MapReader map(node, "service:health.live", problems_);
    Liveness live;
    const auto probe = readProbe(map, node, "health.live");
    if (probe) live.probe = *probe;
    if (const Node* interval = map.find("interval"))
      live.interval = readDuration(*interval, "health.live.interval", Millis(50), kDay, problems_)
                          .value_or(live.interval);
    if (const Node* timeout = map.find("timeout")) {
      live.timeout = readDuration(*timeout, "health.live.timeout", Millis(10), hours(1), problems_)
                         .value_or(live.timeout);
      if (std::holds_alternative<NotifyProbe>(live.probe))
        problems_.add(timeout->where(),
                      "health.live.timeout goes with tcp, http and exec; nobody is asked here",
                      "remove it: WATCHDOG=1 is due within interval × failures");
    }
    if (const Node* failures = map.find("failures"))
      live.failures = static_cast<int>(
          readInteger(*failures, "health.live.failures", 1, 1'000, problems_).value_or(3));
    map.finish();
    if (probe) manifest_.health.live = std::move(live);
  }

  // The one probe among the keys of `map`.
  std::optional<Probe> readProbe(MapReader& map, const Node& node, const std::string& what) {
    std::optional<Probe> probe;
    size_t named = 0;
    const auto find = [&](std::string_view key) {
      const Node* found = map.find(key);
      named += found != nullptr ? 1 : 0;
      return found;
    };
    if (const Node* tcp = find("tcp"))
      if (const auto port = readText(*tcp, what + ".tcp", problems_)) {
        probe = TcpProbe{*port};
        checkProbePort(*tcp, *port, what);
      }
    if (const Node* http = find("http"))
      if (const auto parsed = readParsed(*http, what + ".http", parseHttpProbe, problems_)) {
        probe = *parsed;
        checkProbePort(*http, parsed->port, what);
      }
    if (const Node* exec = find("exec")) probe = ExecProbe{readCommand(*exec, what + ".exec")};
    if (const Node* notify = find("notify")) {
      if (readTruth(*notify, what + ".notify", problems_) == false)
        problems_.add(notify->where(), what + ".notify: false is no probe",
                      "write true, or remove it");
      probe = NotifyProbe{};
    }
    if (map.ok() && named != 1)
      problems_.add(node.where(), what + " wants one probe",
                    "write one of {tcp: main}, {http: \"admin:/healthz\"}, {exec: [bin/check]} and "
                    "{notify: true}");
    return probe;
  }

  void checkProbePort(const Node& node, const std::string& port, const std::string& what) {
    const Node* ports = manifest_.source.find("ports");
    std::vector<std::string> names;
    if (ports != nullptr)
      for (const Node::Member& member : ports->members()) names.push_back(member.key);
    if (std::find(names.begin(), names.end(), port) != names.end()) return;
    problems_.add(node.where(),
                  fmt::format("{}: the service has no port \"{}\"", what, printable(port)),
                  spellingHint(port, names,
                               names.empty() ? "add it to ports"
                                             : fmt::format("it has {}", fmt::join(names, ", "))));
  }

  void readRestart() {
    auto restart = section(map_, "restart");
    if (!restart) return;
    Restart& value = manifest_.restart;
    if (const Node* policy = restart->find("policy"))
      value.policy = readChoice<RestartPolicy>(*policy, "restart.policy",
                                               {{"always", RestartPolicy::kAlways},
                                                {"on-failure", RestartPolicy::kOnFailure},
                                                {"never", RestartPolicy::kNever}},
                                               problems_)
                         .value_or(value.policy);
    if (const Node* backoff = restart->find("backoff"))
      if (const auto range = readParsed(*backoff, "restart.backoff", parseBackoff, problems_)) {
        value.backoff_first = range->first;
        value.backoff_most = range->most;
      }
    if (const Node* limit = restart->find("limit"))
      if (const auto parsed = readParsed(*limit, "restart.limit", parseRestartLimit, problems_)) {
        value.limit_count = parsed->count;
        value.limit_window = parsed->window;
      }
    restart->finish();
  }

  void readStop() {
    auto stop = section(map_, "stop");
    if (!stop) return;
    if (const Node* signal = stop->find("signal"))
      manifest_.stop.signal =
          readParsed(*signal, "stop.signal", parseSignal, problems_).value_or(15);
    if (const Node* grace = stop->find("grace"))
      manifest_.stop.grace = readDuration(*grace, "stop.grace", Millis(0), kDay, problems_)
                                 .value_or(manifest_.stop.grace);
    stop->finish();
  }

  // After the ports, which decide the default order.
  void readUpgrade() {
    Upgrade& value = manifest_.upgrade;
    if (manifest_.allPortsShareable()) value.order = UpgradeOrder::kStartFirst;
    auto upgrade = section(map_, "upgrade");
    if (!upgrade) return;
    readCanary(*upgrade, value);
    if (const Node* batch = upgrade->find("batch"))
      value.batch =
          readParsed(*batch, "upgrade.batch", parseBatch, problems_).value_or(value.batch);
    if (const Node* order = upgrade->find("order")) {
      value.order = readChoice<UpgradeOrder>(*order, "upgrade.order",
                                             {{"start-first", UpgradeOrder::kStartFirst},
                                              {"stop-first", UpgradeOrder::kStopFirst}},
                                             problems_)
                        .value_or(value.order);
      if (value.order == UpgradeOrder::kStartFirst && !manifest_.allPortsShareable())
        problems_.add(
            order->where(),
            "upgrade.order: start-first, but a port is a fixed number that two cannot hold at once",
            "make the port auto or {socket: true}, or write stop-first");
    }
    if (const Node* drain = upgrade->find("drain"))
      value.drain =
          readDuration(*drain, "upgrade.drain", Millis(0), kDay, problems_).value_or(value.drain);
    if (const Node* observe = upgrade->find("observe"))
      value.observe = readDuration(*observe, "upgrade.observe", Millis(0), kDay, problems_)
                          .value_or(value.observe);
    value.max_failures = readBudget(*upgrade, "max_failures");
    value.max_unreachable = readBudget(*upgrade, "max_unreachable");
    upgrade->finish();
  }

  // 0 is none at all.
  void readCanary(MapReader& upgrade, Upgrade& value) {
    const Node* canary = upgrade.find("canary");
    if (canary == nullptr || (canary->isScalar() && canary->text() == "0")) return;
    value.canary = readParsed(*canary, "upgrade.canary", parseBatch, problems_);
  }

  int readBudget(MapReader& upgrade, const char* key) {
    const Node* node = upgrade.find(key);
    if (node == nullptr) return 0;
    return static_cast<int>(
        readInteger(*node, std::string("upgrade.") + key, 0, 10'000, problems_).value_or(0));
  }

  void readOnChange() {
    const Node* node = map_.find("on_change");
    if (node == nullptr) return;
    MapReader map(*node, "service:on_change", problems_);
    for (const Node::Member& member : node->members()) {
      const ServiceName name(member.key);
      if (dependencies_.count(name) == 0)
        problems_.add(member.where,
                      fmt::format("on_change: \"{}\" is not in depends_on", printable(member.key)),
                      "add it there, or remove it here");
      const auto action = readChoice<OnChange>(member.value, "on_change." + member.key,
                                               {{"reload", OnChange::kReload},
                                                {"restart", OnChange::kRestart},
                                                {"none", OnChange::kNone}},
                                               problems_);
      if (action) manifest_.on_change[name] = *action;
    }
  }

  void readLogs() {
    auto logs = section(map_, "logs");
    if (!logs) return;
    if (const Node* size = logs->find("max_size"))
      manifest_.logs.max_size = readSize(*size, "logs.max_size", 4096, uint64_t{1} << 40, problems_)
                                    .value_or(manifest_.logs.max_size);
    if (const Node* keep = logs->find("keep"))
      manifest_.logs.keep = static_cast<int>(
          readInteger(*keep, "logs.keep", 0, 1'000, problems_).value_or(manifest_.logs.keep));
    logs->finish();
  }

  MapReader map_;
  Problems& problems_;
  Manifest manifest_;
  std::set<ServiceName> dependencies_;
};

}  // namespace

std::optional<Manifest> readManifest(const Node& node, Problems& problems) {
  ManifestReader reader(node, problems);
  const Node* name = reader.requireService();
  std::optional<ServiceName> service;
  if (name != nullptr) service = readParsed(*name, "service", parseServiceName, problems);
  Manifest manifest = reader.read(service.value_or(ServiceName()), node);
  if (!service) return std::nullopt;
  return manifest;
}

}  // namespace cctl
