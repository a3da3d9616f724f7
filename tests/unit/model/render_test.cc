#include "model/render.h"

#include <doctest/doctest.h>

#include "model/spec.h"
#include "unit/model/inventory_fixture.h"

using namespace cctl;
using namespace cctl::fixture;

namespace {

const char kClusterFile[] = R"(cluster: demo
hosts:
  host1: {address: 10.0.0.11, labels: {rack: a}, vars: {zone: west, from: host}}
  host2: {address: 10.0.0.12, labels: {rack: b}, vars: {zone: east}}
groups: {solvers: {hosts: "host[1-2]", vars: {from: group, level: group}}}
vars: {from: cluster, level: cluster, base: "1", tls: false, list: [{n: x}, {n: y}]}
)";

const char kWeb[] = R"(service: web
place: {group: solvers, count: 2}
run: [bin/web, --port, "{{port.main}}", --conf, "{{conf_dir}}/web.conf"]
ports: {main: auto, admin-ui: auto}
depends_on: [solver]
config:
  - {template: web.conf, path: sub/web.conf, mode: "0600"}
env: {ZONE: "{{vars.zone}}", PORT_MAIN: "mine"}
health: {ready: {exec: [bin/check, "{{port.main}}"]}}
vars: {level: service}
)";

const char kTemplate[] =
    R"(# {{service}} {{version}} {{instance.name}} {{instance.index}} {{cluster}}
at {{host.name}} {{host.address}} {{host.labels.rack}}
vars {{vars.from}} {{vars.level}} {{vars.base}} {{^vars.tls}}plain{{/vars.tls}} {{vars.tls}}
{{#vars.list}}
item {{n}}
{{/vars.list}}
{{#services.solver}}
server {{address}}:{{port.main}} # {{instance}} {{index}} {{host}} {{version}}
{{/services.solver}}
all {{#services.solver}}{{address}}:{{port.main}}{{^last}},{{/last}}{{/services.solver}}
{{root}} {{release_dir}} {{instance_dir}} {{log_dir}} {{data_dir}}
)";

Inventory inventory() {
  return mustLoad(
      MemoryFiles({{"inv/cluster.yaml", kClusterFile},
                   {"inv/services/web.yaml", kWeb},
                   {"inv/services/solver.yaml",
                    "service: solver\nplace: {group: solvers, count: 2}\nrun: [bin/solver]\n"
                    "ports: {main: auto}\n"},
                   {"inv/templates/web.conf", kTemplate}}));
}

RenderInput inputFor(const Inventory& inventory) {
  RenderInput input;
  input.inventory = &inventory;
  input.manifest = inventory.findService(ServiceName("web"));
  input.host = HostName("host1");
  input.root = "/r";
  input.index = 1;
  input.version = Version("1.1.0");
  input.generation = 7;
  input.ports = {{"main", 21000}, {"admin-ui", 21001}};
  for (int i = 0; i < 2; ++i)
    input.endpoints[ServiceName("solver")].push_back(
        Endpoint{{ServiceName("solver"), i},
                 HostName("host2"),
                 "10.0.0.12",
                 {{"main", static_cast<uint16_t>(5000 + i)}},
                 Version("2"),
                 EndpointState::kReady});
  return input;
}

}  // namespace

TEST_CASE("an instance renders to what it runs, its environment and its files") {
  const Inventory all = inventory();
  const auto rendered = renderInstance(inputFor(all));
  REQUIRE(rendered);
  CHECK(rendered->argv ==
        std::vector<std::string>{"bin/web", "--port", "21000", "--conf",
                                 "/r/services/web/instances/1/generations/7/conf/web.conf"});
  CHECK(rendered->ready_exec == std::vector<std::string>{"bin/check", "21000"});
  CHECK(rendered->env ==
        std::map<std::string, std::string>{{"CLUSTERCTL_HOST", "host1"},
                                           {"CLUSTERCTL_INSTANCE", "web/1"},
                                           {"CLUSTERCTL_NAMING", "/r/run/naming.sock"},
                                           {"CLUSTERCTL_SERVICE", "web"},
                                           {"CLUSTERCTL_VERSION", "1.1.0"},
                                           {"PORT_ADMIN_UI", "21001"},
                                           {"PORT_MAIN", "mine"},
                                           {"ZONE", "west"}});
  REQUIRE(rendered->files.size() == 1);
  CHECK(rendered->files[0].path == "sub/web.conf");
  CHECK(rendered->files[0].mode == 0600);
  CHECK(rendered->files[0].content ==
        "# web 1.1.0 web/1 1 demo\n"
        "at host1 10.0.0.11 a\n"
        "vars host service 1 plain false\n"
        "item x\n"
        "item y\n"
        "server 10.0.0.12:5000 # solver/0 0 host2 2\n"
        "server 10.0.0.12:5001 # solver/1 1 host2 2\n"
        "all 10.0.0.12:5000,10.0.0.12:5001\n"
        "/r /r/services/web/1.1.0 /r/services/web/instances/1 /r/services/web/instances/1/log "
        "/r/services/web/instances/1/data\n");
}

TEST_CASE("a rendering's digest changes with its content only") {
  const Inventory all = inventory();
  RenderInput input = inputFor(all);
  const std::string before = renderedDigest(*renderInstance(input));
  CHECK(renderedDigest(*renderInstance(input)) == before);
  input.endpoints[ServiceName("solver")].pop_back();
  CHECK(renderedDigest(*renderInstance(input)) != before);
}

TEST_CASE("the published address is the caller's when given") {
  const Inventory all = inventory();
  RenderInput input = inputFor(all);
  input.host_address = "192.0.2.7";
  CHECK(renderInstance(input)->files[0].content.find("at host1 192.0.2.7 a\n") !=
        std::string::npos);
}

TEST_CASE("one port is PORT") {
  const Inventory all =
      mustLoad(kCluster, "service: s\nplace: {hosts: [host1]}\nrun: [x]\nports: {a: 80}\n");
  const auto rendered = renderInstance(sampleInput(all, all.services.begin()->second));
  CHECK(rendered->env.at("PORT") == "80");
  CHECK(rendered->env.at("PORT_A") == "80");
}

TEST_CASE("rendering refuses what is incomplete") {
  const Inventory all = inventory();
  RenderInput input = inputFor(all);
  input.ports.erase("main");
  CHECK(renderInstance(input).error().message == "web/1: port main has no number yet");
  input = inputFor(all);
  input.root = "~/x";
  CHECK_FALSE(renderInstance(input));
  input = inputFor(all);
  const std::map<std::string, Template> none;
  input.templates = &none;
  CHECK(renderInstance(input).error().message ==
        "inv/services/web.yaml:7:16: there is no template \"web.conf\"; add it to templates/");
}

TEST_CASE("a program that a template leads out of the release is refused") {
  const Inventory all = mustLoad(
      kCluster,
      "service: s\nplace: {hosts: [host1]}\nrun: ['{{vars.program}}']\nvars: {program: ../../x}\n");
  const auto rendered = renderInstance(sampleInput(all, all.services.begin()->second));
  REQUIRE_FALSE(rendered);
  CHECK(rendered.error().message.find("is not a program of the release") != std::string::npos);
}

TEST_CASE("a spec is the same for the same content, and another for any change of it") {
  const auto digest = [](const std::string& manifest, const std::string& text,
                         const char* version = "1") {
    const Inventory all = mustLoad(MemoryFiles({{"inv/cluster.yaml", kCluster},
                                                {"inv/services/s.yaml", manifest},
                                                {"inv/templates/t", text},
                                                {"inv/templates/unused", version}}));
    return specDigest(all, all.services.begin()->second, Version(version));
  };
  const std::string base =
      "service: s\nplace: {hosts: [host1]}\nrun: [x]\nconfig: [{template: t, path: p}]\n";
  const std::string same =
      "# note\nrun:\n- x\nplace:\n  hosts: ['host1']\nservice: s\nconfig:\n- path: p\n  template: "
      "t\n";
  CHECK(digest(base, "x") == digest(same, "x"));
  CHECK(digest(base, "x") != digest(base, "y"));
  CHECK(digest(base, "x") != digest(base, "x", "2"));
  CHECK(digest(base, "x") != digest(base + "user: nobody\n", "x"));
  CHECK(digest(base, "x").size() == 64);
}

TEST_CASE("a spec can be read back and rendered again") {
  const Inventory all = inventory();
  const Manifest& web = *all.findService(ServiceName("web"));
  const auto spec = parseSpec(canonicalSpec(all, web, Version("1.10")));
  REQUIRE(spec);
  CHECK(spec->version.str() == "1.10");
  CHECK(spec->manifest.upgrade.order == web.upgrade.order);
  RenderInput input = inputFor(all);
  const auto before = renderInstance(input);
  input.manifest = &spec->manifest;
  input.templates = &spec->templates;
  CHECK(*renderInstance(input) == *before);
  Inventory again;
  again.templates = spec->templates;
  CHECK(specDigest(again, spec->manifest, spec->version) == specDigest(all, web, Version("1.10")));
}

TEST_CASE("what is no spec is refused") {
  for (
      const char* text :
      {"", "x", "[]", "{}", R"({"format":2})", R"({"format":1})", R"({"format":"1"})",
       R"({"format":1,"manifest":[],"templates":{},"version":"1"})",
       R"({"format":1,"manifest":{},"templates":{},"version":"1"})",
       R"({"format":1,"manifest":{"service":"s"},"templates":{},"version":"1"})",
       R"({"format":1,"manifest":{"service":"s","run":["x"],"place":{"hosts":["h"]}},"templates":{"a":1},"version":"1"})",
       R"({"format":1,"manifest":{"service":"s","run":["x"],"place":{"hosts":["h"]}},"templates":{},"version":"../1"})"})
    CHECK_MESSAGE(!parseSpec(text), std::string(text));
}
