#include "model/playbook.h"

#include <doctest/doctest.h>

#include "unit/model/inventory_fixture.h"

using namespace cctl;
using fixture::mustLoad;

namespace {

Inventory sample() {
  return mustLoad("cluster: c\nhosts: {'h[1-3]': }\ngroups: {front: 'h[1-2]'}\n",
                  "service: web\nplace: {hosts: [h1]}\nrun: [bin/web]\nports: {main: auto}\n");
}

struct Loaded {
  Playbook playbook;
  std::string problems;
};

Loaded load(const std::string& text, const PlayValues& given = {}) {
  const Inventory inventory = sample();
  Problems problems;
  Node node;
  Loaded loaded;
  if (parseYaml(text, "p", node, problems)) {
    const auto variables = readPlayVariables(node, problems);
    const auto values = playValues(variables, given);
    if (values)
      loaded.playbook = readPlaybook(node, *values, inventory, problems);
    else
      loaded.problems = values.error().message;
  }
  if (!problems.empty()) loaded.problems += toError(problems.sorted()).message;
  return loaded;
}

std::vector<PlayStep> stepsOf(const std::string& steps, const PlayValues& given = {}) {
  const Loaded loaded = load("play: x\nvars: {v: '1.10', s: web}\nsteps:\n" + steps, given);
  REQUIRE_MESSAGE(loaded.problems.empty(), loaded.problems);
  return loaded.playbook.steps;
}

std::string problemsOf(const std::string& step) {
  return load("play: x\nvars: {v: '1', s: web}\nsteps:\n- " + step + "\n").problems;
}

using Words = std::vector<std::string>;

}  // namespace

TEST_CASE("steps become commands") {
  CHECK(stepsOf("- deploy: {service: '{{ s }}', version: '{{v}}', skip_unreachable: true}\n")[0]
            .arguments == Words{"deploy", "web", "1.10", "--skip-unreachable"});
  CHECK(stepsOf("- deploy: {version: '{{v}}', service: web, force: false}\n", {{"v", "2"}})[0]
            .arguments == Words{"deploy", "web", "2"});
  CHECK(stepsOf("- restart: {targets: [web, web/0], host: h2}\n")[0].arguments ==
        Words{"restart", "web", "web/0", "--host", "h2"});
  CHECK(stepsOf("- stop: {targets: web}\n")[0].asks);
  CHECK(stepsOf("- signal: {signal: HUP, targets: web}\n")[0].arguments ==
        Words{"signal", "HUP", "web"});
  CHECK(stepsOf("- migrate: {target: web/0, from: h1, to: h2}\n")[0].arguments ==
        Words{"migrate", "web/0", "--from", "h1", "--to", "h2"});
  CHECK(stepsOf("- exec: {hosts: 'front,h3', command: [ls, -l, a b]}\n")[0].arguments ==
        Words{"exec", "h1,h2,h3", "--", "ls", "-l", "a b"});
  CHECK(stepsOf("- exec: {hosts: h1, command: 'a | b'}\n")[0].arguments ==
        Words{"exec", "h1", "--", "a | b"});
  const PlayStep step = stepsOf("- deploy: {service: web, version: '1'}\n")[0];
  CHECK(step.release_service == ServiceName("web"));
  CHECK(step.release_version == Version("1"));
  CHECK(step.name == "deploy web 1");
  CHECK(step.where.line == 4);
}

TEST_CASE("blocks are unrolled host by host") {
  const auto steps = stepsOf(
      "- each_host: front\n  name: roll\n  steps:\n"
      "  - restart: {host: '{{host}}'}\n"
      "  - name: wait for {{host}}\n    wait: {instances: all, host: '{{host}}'}\n"
      "- verify: {}\n");
  REQUIRE(steps.size() == 5);
  CHECK(steps[0].arguments == Words{"restart", "--host", "h1"});
  CHECK(steps[1].name == "roll, h1: wait for h1");
  CHECK(steps[2].arguments == Words{"restart", "--host", "h2"});
  CHECK(steps[3].condition->hosts == std::vector{HostName("h2")});
  CHECK(steps[4].arguments == Words{"verify"});
}

TEST_CASE("what is done on failure") {
  const auto steps = stepsOf(
      "- verify: {}\n  on_failure: continue\n"
      "- verify: {}\n  on_failure: abort\n"
      "- verify: {}\n  on_failure: [{start: {targets: '{{s}}'}}, {sync: {}}]\n");
  CHECK(steps[0].goes_on);
  CHECK_FALSE(steps[1].goes_on);
  REQUIRE(steps[2].rescue.size() == 2);
  CHECK(steps[2].rescue[0].arguments == Words{"start", "web"});
}

TEST_CASE("conditions") {
  const auto condition = [](const std::string& text) {
    return *stepsOf("- " + text + "\n")[0].condition;
  };
  CHECK(condition("wait: {instances: web}").text == "web is ready");
  CHECK(condition("wait: {instances: web}").timeout == Millis(60'000));
  CHECK(condition("wait: {instances: all, state: none, host: front, timeout: 5s, interval: 100ms}")
            .text == "nothing of everything on h1,h2 runs");
  CHECK(condition("check: {http: 'http://[::1]:81/a?b', status: 204}").address == "::1");
  CHECK(condition("check: {http: 'http://h/x'}").port == 80);
  CHECK(condition("check: {tcp: 'h:1'}").port == 1);
  const PlayCondition endpoint = condition("check: {http: {service: web, port: main, path: /x}}");
  CHECK(endpoint.service == ServiceName("web"));
  CHECK(endpoint.path == "/x");
  CHECK(condition("check: {file: \"/a'b\", on: h1}").command == "'test' '-e' '/a'\\''b'");
  CHECK(condition("check: {command: 'x | y', on: [h1, h2]}").command == "x | y");
}

TEST_CASE("mistakes in playbooks, each at its place") {
  const std::pair<const char*, const char*> cases[] = {
      {"{}", "p:4:3: steps: this one names no operation; write one of deploy"},
      {"x", "steps: a single value where a map"},
      {"name: x", "names no operation"},
      {"depoly: {}", "unknown key \"steps.depoly\"; did you mean \"deploy\"?"},
      {"{verify: {}, sync: {}}", "one step does one thing, not verify and sync"},
      {"deploy: {service: web}", "p:4:11: deploy.version is missing; add it, like"},
      {"deploy: {service: wep, version: 1}", "did you mean"},
      {"deploy: {service: web, version: '{{w}}'}", "p:4:35: there is no variable \"w\""},
      {"deploy: {service: web, version: '{{v'}", "\"{{\" is not closed"},
      {"deploy: {service: web, version: a/b}", "deploy.version: "},
      {"deploy: {service: web, version: 1, froce: true}", "did you mean \"force\"?"},
      {"deploy: {service: web, version: 1, force: maybe}", "deploy.force: \"maybe\" is not one of"},
      {"restart: {}", "restart: names nothing; write targets, host"},
      {"restart: {targets: wob}", "restart.targets: "},
      {"restart: {host: h9}", "restart.host: "},
      {"migrate: {target: wob/0}", "migrate.target: "},
      {"migrate: {target: web/x}", "migrate.target: "},
      {"drain: {host: [h1]}", "drain.host: a list where a single value"},
      {"exec: {hosts: h1, command: []}", "exec.command: there is no command"},
      {"exec: {hosts: nobody, command: x}", "exec.hosts: "},
      {"signal: {signal: -9, targets: web}", "\"-9\" is no value"},
      {"wait: {}", "wait: for nothing; write one of instances"},
      {"wait: {instances: web, tcp: 'h:1'}", "for more than one thing"},
      {"wait: {instances: web, state: redy}", "did you mean \"ready\"?"},
      {"wait: {instances: web, timeout: 5}", "wait.timeout: \"5\" is not a duration"},
      {"check: {instances: web, timeout: 5s}", "unknown key \"check.timeout\""},
      {"wait: {tcp: h}", "wait.tcp: \"h\" is not an address"},
      {"wait: {tcp: 'h:70000'}", "is not an address"},
      {"wait: {http: 'https://h/'}", "is not an address"},
      {"wait: {http: 'h:80'}", "is not an address"},
      {"wait: {tcp: {service: web, port: mian}}",
       "web has no port \"mian\"; did you mean \"main\"?"},
      {"wait: {tcp: {service: web}}", "tcp.port is missing"},
      {"wait: {http: {service: web, port: main, path: x}}", "path: not a path"},
      {"wait: {file: a, on: h1}", "wait.file: not an absolute path"},
      {"wait: {file: /a}", "wait.on is missing"},
      {"{verify: {}, on_failure: maybe}", "on_failure: \"maybe\" is not one of abort, continue"},
      {"{verify: {}, on_failure: [{vreify: {}}]}", "did you mean \"verify\"?"},
      {"{verify: {}, on_failure: []}", "on_failure: there are none"},
      {"{verify: {}, steps: []}", "a block of steps without each_host"},
      {"{each_host: front}", "steps.steps is missing"},
      {"{each_host: nobody, steps: [{sync: {}}]}", "steps.each_host: "},
      {"{each_host: h1, steps: [{restart: {hots: '{{host}}'}}]}", "did you mean \"host\"?"},
  };
  for (const auto& one : cases) {
    const auto& step = one.first;
    const auto& with = one.second;
    const std::string problems = problemsOf(step);
    CHECK_MESSAGE(problems.find(with) != std::string::npos, step, " → ", problems);
  }
  const std::string both =
      load("play: x\nsteps: [{verfy: {}}, {deploy: {service: web}}]\n").problems;
  CHECK(both.find("verfy") != std::string::npos);
  CHECK(both.find("deploy.version is missing") != std::string::npos);
  CHECK(load("steps: [{sync: {}}]\n").problems.find("play is missing") != std::string::npos);
  CHECK(load("play: x\nsteps: []\n").problems.find("steps: there are none") != std::string::npos);
  CHECK(load("play: x\nstep: []\n").problems.find("did you mean \"steps\"?") != std::string::npos);
}

TEST_CASE("variables") {
  const std::string book =
      "play: x\nvars:\n  v: {required: true, help: the version}\n  w: {default: a}\nsteps: [{sync: "
      "{}}]\n";
  CHECK(load(book).problems.find("the playbook needs v (the version): give -e v=") == 0);
  CHECK(load(book, {{"v", "1"}}).problems.empty());
  CHECK(load(book, {{"v", "1"}, {"vv", "2"}}).problems.find("did you mean \"v\"?") !=
        std::string::npos);
  CHECK(
      load("play: x\nvars: {host: a}\nsteps: [{sync: {}}]\n").problems.find("each_host sets it") !=
      std::string::npos);
  CHECK(
      load("play: x\nvars: {v: {}}\nsteps: [{sync: {}}]\n").problems.find("vars.v: has no value") !=
      std::string::npos);
  CHECK(load("play: x\nvars: {v: {requierd: true}}\nsteps: [{sync: {}}]\n")
            .problems.find("did you mean") != std::string::npos);
}
