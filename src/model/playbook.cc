#include "model/playbook.h"

#include <algorithm>

#include "model/reader.h"
#include "model/schema.h"

namespace cctl {
namespace {

constexpr std::string_view kHostVariable = "host";
constexpr int kMaxBlockDepth = 4;
constexpr Millis kLongestWait = std::chrono::hours(24);

// ---- variables in scalars --------------------------------------------------------------------

class Substitution {
 public:
  Substitution(const PlayValues& values, Problems& problems)
      : values_(values), problems_(problems) {}

  Node apply(const Node& node) const {
    if (node.isMap()) {
      Node::Map members;
      for (const Node::Member& member : node.members())
        members.push_back({member.key, member.where, apply(member.value)});
      return Node(node.where(), std::move(members));
    }
    if (node.isSequence()) {
      Node::Sequence items;
      for (const Node& item : node.items()) items.push_back(apply(item));
      return Node(node.where(), std::move(items));
    }
    if (node.text().find("{{") == std::string::npos) return node;
    return Node(node.where(), NodeScalar{replaced(node), true});
  }

 private:
  std::string replaced(const Node& node) const {
    std::string text;
    std::string_view rest = node.text();
    while (true) {
      const size_t open = rest.find("{{");
      text += rest.substr(0, open);
      if (open == std::string_view::npos) return text;
      rest.remove_prefix(open + 2);
      const size_t close = rest.find("}}");
      if (close == std::string_view::npos) {
        problems_.add(node.where(), "\"{{\" is not closed", "write {{name}}");
        return text;
      }
      text += valueOf(rest.substr(0, close), node.where());
      rest.remove_prefix(close + 2);
    }
  }

  std::string valueOf(std::string_view name, const Location& where) const {
    const size_t begin = std::min(name.find_first_not_of(' '), name.size());
    const size_t end = name.find_last_not_of(' ');
    const std::string key(name.substr(begin, end == std::string_view::npos ? 0 : end + 1 - begin));
    const auto found = values_.find(key);
    if (found != values_.end()) return found->second;
    std::vector<std::string> known;
    for (const auto& [one, value] : values_) known.push_back(one);
    problems_.add(where, fmt::format("there is no variable \"{}\"", printable(key)),
                  spellingHint(key, known, "name it under vars"));
    return {};
  }

  const PlayValues& values_;
  Problems& problems_;
};

// ---- operations that are commands ------------------------------------------------------------

enum class Kind { kText, kService, kVersion, kTarget, kTargets, kHost, kHosts, kFlag, kCommand };

struct Key {
  std::string_view name;
  Kind kind;
  bool required = false;
  bool option = false;  // "--name VALUE"; else its place in the list is its place in the command
};

struct Operation {
  std::string_view name;
  std::vector<Key> keys;
  bool asks = false;
  bool needs_target = false;  // targets, or a host
};

const Key kSkip{"skip_unreachable", Kind::kFlag, false, true};

Operation lifecycle(std::string_view name, bool asks) {
  return {
      name, {{"targets", Kind::kTargets}, {"host", Kind::kHost, false, true}, kSkip}, asks, true};
}

std::vector<Operation> makeOperations() {
  const Key service{"service", Kind::kService};
  const Key must_service{"service", Kind::kService, true};
  std::vector<Operation> all = {
      {"deploy",
       {must_service,
        {"version", Kind::kVersion, true},
        kSkip,
        {"force", Kind::kFlag, false, true},
        {"no_rollback", Kind::kFlag, false, true}}},
      {"rollback", {must_service, {"version", Kind::kVersion}, kSkip}},
      {"apply", {service, kSkip}},
      lifecycle("start", false),
      lifecycle("stop", true),
      lifecycle("restart", false),
      lifecycle("reload", false),
      lifecycle("signal", false),
      {"migrate",
       {{"target", Kind::kTarget, true},
        {"from", Kind::kHost, false, true},
        {"to", Kind::kHost, false, true},
        kSkip}},
      {"drain",
       {{"host", Kind::kHost, true},
        {"stop", Kind::kFlag, false, true},
        {"leave", Kind::kFlag, false, true},
        kSkip},
       true},
      {"undrain", {{"host", Kind::kHost, true}, {"back", Kind::kFlag, false, true}}},
      {"verify", {service}},
      {"sync", {}},
      {"bootstrap", {{"hosts", Kind::kHosts}}},
      {"exec", {{"hosts", Kind::kHosts, true}, {"command", Kind::kCommand, true}}},
  };
  for (Operation& operation : all)
    if (operation.name == "signal")
      operation.keys.insert(operation.keys.begin(), {"signal", Kind::kText, true});
  return all;
}

const std::vector<Operation>& operations() {
  static const std::vector<Operation> all = makeOperations();
  return all;
}

// ---- steps -----------------------------------------------------------------------------------

class Reader {
 public:
  Reader(const Inventory& inventory, Problems& problems)
      : inventory_(inventory), problems_(problems) {}

  std::vector<PlayStep> readSteps(const Node& node, std::string_view what, const PlayValues& values,
                                  int depth) {
    std::vector<PlayStep> steps;
    const auto items =
        readList(node, what, "[{deploy: {service: web, version: \"1.0\"}}]", problems_);
    if (!items) return steps;
    if (items->empty())
      problems_.add(node.where(), fmt::format("{}: there are none", what), "write one");
    for (const Node* item : *items) readStep(*item, values, depth, steps);
    return steps;
  }

 private:
  void readStep(const Node& raw, const PlayValues& values, int depth,
                std::vector<PlayStep>& steps) {
    if (raw.find("each_host") != nullptr) return readBlock(raw, values, depth, steps);
    const Node node = Substitution(values, problems_).apply(raw);
    MapReader map(node, "play:steps", problems_);
    if (!map.ok()) return;
    PlayStep step;
    step.where = node.where();
    if (const Node* name = map.find("name"))
      step.name = readText(*name, "steps.name", problems_).value_or("");
    const bool found = readOperation(map, node, step);
    if (const Node* failure = map.find("on_failure"))
      readFailure(*failure, raw.find("on_failure"), values, depth, step);
    map.find("each_host"), map.find("steps");  // known, for the nearest spelling
    map.finish();
    if (node.find("steps") != nullptr)
      problems_.add(node.where(), "steps: a block of steps without each_host",
                    "write each_host: HOSTS beside it");
    if (steps.size() >= kMaxPlaySteps)
      return problems_.add(node.where(), fmt::format("more than {} steps", kMaxPlaySteps),
                           "split the playbook");
    if (step.name.empty())
      step.name = step.condition ? fmt::format("{} {}", step.operation, step.condition->text)
                                 : fmt::format("{}", fmt::join(step.arguments, " "));
    if (found) steps.push_back(std::move(step));
  }

  // The same steps for each host, one host after the other.
  void readBlock(const Node& raw, const PlayValues& values, int depth,
                 std::vector<PlayStep>& steps) {
    MapReader map(raw, "play:steps", problems_);
    const Node* name = map.find("name");
    const Node* body = map.require("steps", "`steps: [{restart: {host: \"{{host}}\"}}]`");
    const Node hosts = Substitution(values, problems_).apply(*map.find("each_host"));
    map.finish();
    if (depth >= kMaxBlockDepth)
      return problems_.add(raw.where(), "blocks of steps are nested too deep",
                           "split the playbook");
    if (body == nullptr) return;
    for (const HostName& host : readHosts(hosts, "steps.each_host")) {
      PlayValues more = values;
      more[std::string(kHostVariable)] = host.str();
      const size_t before = steps.size();
      std::vector<PlayStep> inner = readSteps(*body, "steps", more, depth + 1);
      std::move(inner.begin(), inner.end(), std::back_inserter(steps));
      for (size_t i = before; i < steps.size() && name != nullptr; ++i)
        steps[i].name = fmt::format("{}, {}: {}", name->text(), host, steps[i].name);
    }
  }

  void readFailure(const Node& node, const Node* raw, const PlayValues& values, int depth,
                   PlayStep& step) {
    if (node.isSequence()) {
      if (depth >= kMaxBlockDepth)
        return problems_.add(node.where(), "on_failure is nested too deep", "split the playbook");
      step.rescue = readSteps(*raw, "on_failure", values, depth + 1);
      return;
    }
    step.goes_on =
        readChoice<bool>(node, "on_failure", {{"abort", false}, {"continue", true}}, problems_)
            .value_or(false);
  }

  bool readOperation(MapReader& map, const Node& node, PlayStep& step) {
    std::vector<std::string> found;
    const Node* wait = map.find("wait");
    const Node* check = map.find("check");
    for (const Operation& operation : operations()) {
      const Node* value = map.find(operation.name);
      if (value == nullptr) continue;
      found.emplace_back(operation.name);
      if (found.size() == 1) readCommand(operation, *value, step);
    }
    for (const auto& [name, value] : {std::pair("wait", wait), std::pair("check", check)}) {
      if (value == nullptr) continue;
      found.emplace_back(name);
      step.operation = name;
      step.condition = readCondition(*value, name);
    }
    if (found.size() == 1) return true;
    // A key that is misspelt is told as such, and nothing more.
    const bool named_only =
        std::all_of(node.members().begin(), node.members().end(),
                    [](const Node::Member& m) { return m.key == "name" || m.key == "on_failure"; });
    if (found.size() > 1)
      problems_.add(
          node.where(),
          fmt::format("steps: one step does one thing, not {}", fmt::join(found, " and ")),
          "make them two steps");
    else if (named_only)
      problems_.add(node.where(), "steps: this one names no operation",
                    fmt::format("write one of {}, wait, check", operationNames()));
    return false;
  }

  static std::string operationNames() {
    std::string text;
    for (const Operation& operation : operations())
      text += (text.empty() ? "" : ", ") + std::string(operation.name);
    return text;
  }

  void readCommand(const Operation& operation, const Node& node, PlayStep& step) {
    step.operation = operation.name;
    step.arguments = {step.operation};
    step.asks = operation.asks;
    MapReader map(node, fmt::format("play:{}", operation.name), problems_);
    std::vector<std::string> options, tail;
    for (const Key& key : operation.keys) {
      const Node* value = key.required ? map.require(key.name, exampleOf(key)) : map.find(key.name);
      if (value == nullptr) continue;
      std::vector<std::string> words = readWords(key, *value, map.nameOf(key.name), step);
      if (words.empty()) continue;
      std::vector<std::string>& into = key.kind == Kind::kCommand ? tail
                                       : key.option               ? options
                                                                  : step.arguments;
      if (key.option) {
        into.push_back("--" + optionName(key.name));
        if (key.kind == Kind::kFlag) words.clear();
      }
      into.insert(into.end(), words.begin(), words.end());
    }
    if (operation.needs_target && map.ok() && node.find("targets") == nullptr &&
        node.find("host") == nullptr)
      problems_.add(node.where(), fmt::format("{}: names nothing", operation.name),
                    "write targets, host, or both");
    map.finish();
    step.arguments.insert(step.arguments.end(), options.begin(), options.end());
    if (tail.empty()) return;
    step.arguments.emplace_back("--");
    step.arguments.insert(step.arguments.end(), tail.begin(), tail.end());
  }

  static std::string optionName(std::string_view key) {
    std::string name(key);
    std::replace(name.begin(), name.end(), '_', '-');
    return name;
  }

  static std::string exampleOf(const Key& key) {
    switch (key.kind) {
      case Kind::kVersion:
        return "`version: \"{{version}}\"`";
      case Kind::kHost:
      case Kind::kHosts:
        return fmt::format("`{}: host1`", key.name);
      case Kind::kCommand:
        return "`command: [systemctl, is-system-running]`";
      case Kind::kText:
        return fmt::format("`{}: HUP`", key.name);
      default:
        return fmt::format("`{}: web`", key.name);
    }
  }

  // The words of one value, checked; empty after a mistake, and for a flag that is false.
  std::vector<std::string> readWords(const Key& key, const Node& node, const std::string& what,
                                     PlayStep& step) {
    switch (key.kind) {
      case Kind::kFlag:
        return readTruth(node, what, problems_).value_or(false) ? std::vector<std::string>{"true"}
                                                                : std::vector<std::string>{};
      case Kind::kTargets:
        return textsOf(readTargets(node, what));
      case Kind::kCommand:
        return readCommandWords(node, what);
      case Kind::kHosts: {
        std::string text;
        for (const HostName& host : readHosts(node, what))
          text += (text.empty() ? "" : ",") + host.str();
        return text.empty() ? std::vector<std::string>{} : std::vector<std::string>{text};
      }
      default:
        return readWord(key, node, what, step);
    }
  }

  std::vector<std::string> readWord(const Key& key, const Node& node, const std::string& what,
                                    PlayStep& step) {
    const auto text = readText(node, what, problems_);
    if (!text) return {};
    if (key.kind == Kind::kService) {
      if (!checked(inventory_.service(*text), node, what)) return {};
      step.release_service = ServiceName(*text);
    }
    if (key.kind == Kind::kVersion) {
      if (!checked(parseVersion(*text), node, what)) return {};
      step.release_version = Version(*text);
    }
    if (key.kind == Kind::kTarget) {
      const auto target = parseTarget(*text);
      if (!checked(target, node, what) ||
          !checked(inventory_.service(target->service.str()), node, what))
        return {};
    }
    if (key.kind == Kind::kHost && !checked(inventory_.host(*text), node, what)) return {};
    if (text->empty() || (*text)[0] == '-') {
      problems_.add(node.where(), fmt::format("{}: \"{}\" is no value", what, printable(*text)),
                    "write one");
      return {};
    }
    return {*text};
  }

  template <typename T>
  bool checked(const Result<T>& result, const Node& node, const std::string& what) {
    if (!result) problems_.add(node.where(), fmt::format("{}: {}", what, result.error().message));
    return result.has_value();
  }

  static std::vector<std::string> textsOf(const std::vector<Target>& targets) {
    std::vector<std::string> texts;
    for (const Target& target : targets) texts.push_back(target.text());
    return texts;
  }

  // One value or a list of them.
  std::vector<const Node*> itemsOf(const Node& node, std::string_view what) {
    if (node.isScalar() && !node.isNull()) return {&node};
    return readList(node, what, "[web, db/0]", problems_).value_or(std::vector<const Node*>());
  }

  std::vector<Target> readTargets(const Node& node, const std::string& what) {
    std::vector<Target> targets;
    for (const Node* item : itemsOf(node, what)) {
      const auto target = readParsed(*item, what, parseTarget, problems_);
      if (target && checked(inventory_.service(target->service.str()), *item, what))
        targets.push_back(*target);
    }
    return targets;
  }

  std::vector<HostName> readHosts(const Node& node, const std::string& what) {
    std::string expression;
    for (const Node* item : itemsOf(node, what))
      if (const auto text = readText(*item, what, problems_))
        expression += (expression.empty() ? "" : ",") + *text;
    if (expression.empty()) return {};
    auto hosts = selectHosts(inventory_, expression);
    if (!checked(hosts, node, what)) return {};
    return std::move(*hosts);
  }

  // A text is a command line for the shell there; a list is passed on as it is.
  std::vector<std::string> readCommandWords(const Node& node, const std::string& what) {
    std::vector<std::string> words;
    for (const Node* item : itemsOf(node, what))
      if (const auto text = readText(*item, what, problems_)) words.push_back(*text);
    if (node.isSequence() && words.empty())
      problems_.add(node.where(), fmt::format("{}: there is no command", what), "write one");
    return words;
  }

  // ---- conditions ----------------------------------------------------------------------------

  PlayCondition readCondition(const Node& node, const std::string& operation) {
    PlayCondition condition;
    MapReader map(node, "play:" + operation, problems_);
    int kinds = 0;
    const auto kind = [&](std::string_view key) {
      const Node* value = map.find(key);
      kinds += value == nullptr ? 0 : 1;
      return value;
    };
    if (const Node* value = kind("instances")) readInstances(*value, map, condition);
    if (const Node* value = kind("tcp")) readNetwork(*value, false, operation, condition);
    if (const Node* value = kind("http")) {
      readNetwork(*value, true, operation, condition);
      if (const Node* status = map.find("status"))
        condition.status = static_cast<int>(
            readInteger(*status, map.nameOf("status"), 100, 599, problems_).value_or(200));
      condition.text += fmt::format(" answers {}", condition.status);
    }
    const Node* file = kind("file");
    const Node* command = kind("command");
    if (file != nullptr || command != nullptr) readOnHosts(file, command, map, condition);
    if (operation == "wait") readPatience(map, condition);
    map.finish();
    if (map.ok() && kinds != 1)
      problems_.add(
          node.where(),
          fmt::format("{}: {}", operation, kinds == 0 ? "for nothing" : "for more than one thing"),
          "write one of instances, tcp, http, file, command");
    return condition;
  }

  void readPatience(MapReader& map, PlayCondition& condition) {
    if (const Node* timeout = map.find("timeout"))
      condition.timeout = readDuration(*timeout, "wait.timeout", Millis(0), kLongestWait, problems_)
                              .value_or(condition.timeout);
    if (const Node* interval = map.find("interval"))
      condition.interval =
          readDuration(*interval, "wait.interval", Millis(50), kLongestWait, problems_)
              .value_or(condition.interval);
  }

  void readInstances(const Node& node, MapReader& map, PlayCondition& condition) {
    const bool all = node.isScalar() && node.text() == "all";
    if (!all) condition.targets = readTargets(node, map.nameOf("instances"));
    if (const Node* state = map.find("state"))
      condition.state = readChoice<std::string>(*state, map.nameOf("state"),
                                                {{"ready", "ready"},
                                                 {"starting", "starting"},
                                                 {"unhealthy", "unhealthy"},
                                                 {"stopping", "stopping"},
                                                 {"stopped", "stopped"},
                                                 {"backoff", "backoff"},
                                                 {"failed", "failed"},
                                                 {"none", "none"}},
                                                problems_)
                            .value_or("ready");
    if (const Node* version = map.find("version"))
      condition.version = readText(*version, map.nameOf("version"), problems_).value_or("");
    if (const Node* host = map.find("host")) condition.hosts = readHosts(*host, map.nameOf("host"));
    std::string what =
        all ? "everything" : fmt::format("{}", fmt::join(textsOf(condition.targets), ", "));
    if (!condition.version.empty()) what += " " + condition.version;
    if (!condition.hosts.empty()) what += " on " + hostsText(condition.hosts);
    condition.text = condition.state == "none" ? fmt::format("nothing of {} runs", what)
                                               : fmt::format("{} is {}", what, condition.state);
  }

  static std::string hostsText(const std::vector<HostName>& hosts) {
    std::string text;
    for (const HostName& host : hosts) text += (text.empty() ? "" : ",") + host.str();
    return text;
  }

  // "host:port", "http://host:port/path", or {service: S, port: NAME, path: P}.
  void readNetwork(const Node& node, bool http, const std::string& operation,
                   PlayCondition& condition) {
    condition.kind = http ? PlayCondition::Kind::kHttp : PlayCondition::Kind::kTcp;
    const std::string what = operation + (http ? ".http" : ".tcp");
    if (!node.isMap()) return readAddress(node, http, what, condition);
    MapReader map(node, "play:" + what, problems_);
    if (const Node* service = map.require("service", "`service: web`"))
      if (const auto name = readText(*service, what + ".service", problems_))
        if (checked(inventory_.service(*name), *service, what + ".service"))
          condition.service = ServiceName(*name);
    if (const Node* port = map.require("port", "`port: main`")) {
      condition.address = readText(*port, what + ".port", problems_).value_or("");
      if (condition.service) checkPort(*port, what, condition);
    }
    condition.path = "/";
    if (const Node* path = http ? map.find("path") : nullptr) readPath(*path, what, condition);
    map.finish();
    condition.text =
        fmt::format("port {} of every {}{}", condition.address,
                    condition.service ? condition.service->str() : "", http ? "" : " accepts");
  }

  void checkPort(const Node& node, const std::string& what, const PlayCondition& condition) {
    std::vector<std::string> known;
    for (const Port& port : inventory_.findService(*condition.service)->ports)
      known.push_back(port.name);
    if (std::find(known.begin(), known.end(), condition.address) != known.end()) return;
    problems_.add(node.where(),
                  fmt::format("{}.port: {} has no port \"{}\"", what, *condition.service,
                              printable(condition.address)),
                  spellingHint(condition.address, known, "name one of its manifest's ports"));
  }

  void readPath(const Node& node, const std::string& what, PlayCondition& condition) {
    const auto path = readText(node, what + ".path", problems_);
    if (!path) return;
    const bool plain =
        std::all_of(path->begin(), path->end(), [](char c) { return c > ' ' && c < 0x7f; });
    if (path->empty() || (*path)[0] != '/' || !plain)
      problems_.add(node.where(), what + ".path: not a path", "write like /healthz");
    condition.path = *path;
  }

  void readAddress(const Node& node, bool http, const std::string& what, PlayCondition& condition) {
    constexpr std::string_view kScheme = "http://";
    const auto text = readText(node, what, problems_);
    if (!text) return;
    std::string_view rest = *text;
    const bool scheme = rest.starts_with(kScheme);
    if (scheme) rest.remove_prefix(kScheme.size());
    const size_t slash = std::min(rest.find('/'), rest.size());
    condition.path = slash == rest.size() ? "/" : std::string(rest.substr(slash));
    rest = rest.substr(0, slash);
    const size_t colon = rest.rfind(':');
    const auto port =
        colon == std::string_view::npos ? std::nullopt : parseInteger(rest.substr(colon + 1));
    std::string_view host = rest.substr(0, colon);
    if (host.size() > 2 && host.front() == '[' && host.back() == ']')
      host = host.substr(1, host.size() - 2);
    condition.address = host;
    condition.port =
        static_cast<int>(port.value_or(http && colon == std::string_view::npos ? 80 : 0));
    const bool plain =
        std::all_of(text->begin(), text->end(), [](char c) { return c > ' ' && c < 0x7f; });
    if (scheme != http || host.empty() || condition.port < 1 || condition.port > 65535 || !plain ||
        (!http && slash != text->size()))
      problems_.add(
          node.where(), fmt::format("{}: \"{}\" is not an address", what, printable(*text)),
          http ? "write like http://10.0.0.1:8080/healthz, or {service: web, port: main, path: /}"
               : "write like 10.0.0.1:8080, or {service: web, port: main}");
    condition.text = http ? *text : *text + " accepts";
  }

  void readOnHosts(const Node* file, const Node* command, MapReader& map,
                   PlayCondition& condition) {
    condition.kind = PlayCondition::Kind::kCommand;
    std::vector<std::string> words;
    if (file != nullptr) {
      const auto path = readText(*file, map.nameOf("file"), problems_);
      words = {"test", "-e", path.value_or("")};
      if (path && (path->empty() || (*path)[0] != '/'))
        problems_.add(file->where(), map.nameOf("file") + ": not an absolute path",
                      "write it in full");
      condition.text = fmt::format("{} is there", path.value_or(""));
    } else {
      words = readCommandWords(*command, map.nameOf("command"));
      condition.text = fmt::format("`{}` succeeds", fmt::join(words, " "));
    }
    condition.command = words.size() == 1 ? words[0] : quoted(words);
    if (const Node* hosts = map.require("on", "`on: host1`"))
      condition.hosts = readHosts(*hosts, map.nameOf("on"));
    condition.text += " on " + hostsText(condition.hosts);
  }

  // For sh: each word in single quotes.
  static std::string quoted(const std::vector<std::string>& words) {
    std::string line;
    for (const std::string& word : words) {
      line += line.empty() ? "'" : " '";
      for (const char c : word) line += c == '\'' ? std::string("'\\''") : std::string(1, c);
      line += "'";
    }
    return line;
  }

  const Inventory& inventory_;
  Problems& problems_;
};

}  // namespace

std::vector<PlayVariable> readPlayVariables(const Node& node, Problems& problems) {
  std::vector<PlayVariable> variables;
  const Node* vars = node.find("vars");
  if (vars == nullptr) return variables;
  MapReader all(*vars, "play:vars", problems);
  for (const Node::Member& member : vars->members()) {
    PlayVariable variable;
    variable.name = member.key;
    if (!isPartName(member.key) || member.key == kHostVariable)
      problems.add(member.where,
                   fmt::format("vars: \"{}\" is not a variable's name", printable(member.key)),
                   "use letters, digits, '_' and '-', and not \"host\": each_host sets it");
    if (!member.value.isMap()) {
      variable.value = readText(member.value, "vars." + member.key, problems);
      variables.push_back(std::move(variable));
      continue;
    }
    MapReader map(member.value, "play:vars." + member.key, problems);
    bool required = false;
    if (const Node* value = map.find("required"))
      required = readTruth(*value, map.nameOf("required"), problems).value_or(false);
    if (const Node* value = map.find("default"))
      variable.value = readText(*value, map.nameOf("default"), problems);
    if (const Node* value = map.find("help"))
      variable.help = readText(*value, map.nameOf("help"), problems).value_or("");
    map.finish();
    if (required == variable.value.has_value())
      problems.add(member.where,
                   fmt::format("vars.{}: {}", printable(member.key),
                               required ? "required, and has a default" : "has no value"),
                   "write `required: true` or a default");
    variables.push_back(std::move(variable));
  }
  return variables;
}

Result<PlayValues> playValues(const std::vector<PlayVariable>& variables, const PlayValues& given) {
  PlayValues values;
  std::vector<std::string> names;
  for (const PlayVariable& variable : variables) {
    names.push_back(variable.name);
    const auto found = given.find(variable.name);
    if (found != given.end())
      values[variable.name] = found->second;
    else if (variable.value)
      values[variable.name] = *variable.value;
    else
      return fail(Code::kUsage, "the playbook needs {}{}: give -e {}=…", variable.name,
                  variable.help.empty() ? "" : " (" + printable(variable.help) + ")",
                  variable.name);
  }
  for (const auto& [name, value] : given)
    if (values.count(name) == 0)
      return fail(
          Code::kUsage, "-e {}: the playbook has no such variable; {}", printable(name),
          spellingHint(
              name, names,
              fmt::format("it has {}",
                          names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", ")))));
  return values;
}

Playbook readPlaybook(const Node& node, const PlayValues& values, const Inventory& inventory,
                      Problems& problems) {
  Playbook playbook;
  MapReader map(node, "play", problems);
  if (const Node* name = map.require("play", "`play: release with canary`"))
    playbook.name = readText(*name, "play", problems).value_or("");
  map.find("vars");
  if (const Node* steps = map.require("steps", "`steps: [{deploy: {…}}]`"))
    playbook.steps = Reader(inventory, problems).readSteps(*steps, "steps", values, 0);
  map.finish();
  return playbook;
}

}  // namespace cctl
