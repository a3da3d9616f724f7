#include "model/load.h"

#include <doctest/doctest.h>

#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "model/disk_files.h"
#include "model/init_files.h"
#include "model/placement.h"
#include "model/render.h"
#include "unit/model/inventory_fixture.h"

using namespace cctl;
using namespace cctl::fixture;

TEST_CASE("what init writes loads without a warning and renders") {
  for (const char* host : {"localhost", "10.0.0.1", "host[1-3]"}) {
    MemoryFiles files;
    for (const InitFile& file : initFiles(host)) files.put(file.path, file.content);
    const LoadedInventory loaded = loadInventory(files, "inventory");
    CHECK(textOf(loaded.problems) == "");
    CHECK(textOf(loaded.warnings) == "");
    REQUIRE(loaded.ok());
    const Manifest& hello = loaded.inventory->services.at(ServiceName("hello"));
    const auto rendered = renderInstance(sampleInput(*loaded.inventory, hello));
    REQUIRE(rendered);
    CHECK(rendered->argv[0] == "bin/hello");
    CHECK(rendered->files[0].content.find("interval=10\n") != std::string::npos);
  }
}

TEST_CASE("the inventory in the tree is what init writes") {
  const auto root = std::filesystem::path(CLUSTERCTL_SOURCE_DIR);
  for (const InitFile& file : initFiles()) {
    if (file.path.rfind("inventory/", 0) != 0) continue;
    const auto text = readFile((root / file.path).string());
    REQUIRE(text);
    CHECK(*text == file.content);
  }
  CHECK(loadInventory(DiskFiles(), (root / "inventory").string()).ok());
}

TEST_CASE("all problems of a tree come in one run, in order") {
  MemoryFiles files(
      {{"inv/cluster.yaml", "cluster: Demo\nhosts: {h1: {adress: x}}\nnope: 1\n"},
       {"inv/services/a.yaml", "service: a\nplace: {hosts: [h1]}\n"},
       {"inv/services/b.yml", "service: b\nplace: {hosts: [h1]}\nrun: [x]\nservice: c\n"},
       {"inv/services/c.json", "{\"service\": \"c\", "},
       {"inv/templates/t", "\x01"}});
  CHECK(textOf(loadInventory(files, "inv").problems) ==
        "inv/cluster.yaml:1:10: cluster: \"Demo\" is not a cluster's name: use a-z, 0-9, '_' and "
        "'-', at most 63\n"
        "inv/cluster.yaml:2:14: unknown key \"hosts.h1.adress\"; did you mean \"address\"?\n"
        "inv/cluster.yaml:3:1: unknown key \"nope\"; remove it; known here: cluster, root, "
        "releases, ssh, ports, vars, secrets, hosts, groups, registry, sign_off, alerts, "
        "views\n"
        "inv/services/a.yaml:1:1: run is missing; add it, like `run: [bin/server]`\n"
        "inv/services/b.yml:4:1: \"service\" is given twice; remove one; the first is on line 1\n"
        "inv/services/c.json:1:1: a list or a map cannot be a key, or a bracket is never closed; "
        "close each bracket, and write keys as text\n"
        "inv/templates/t:1:1: byte 0x01 is a control character; take it out\n");
}

TEST_CASE("names that files refer to must exist, with the nearest suggested") {
  CHECK(manifestProblems("service: s\nplace: {group: solver}\nrun: [x]\n") ==
        "inv/services/s.yaml:2:16: place.group: there is no group \"solver\"; did you mean "
        "\"solvers\"?\n");
  CHECK(manifestProblems("service: s\nplace: {hosts: ['host[3-5]']}\nrun: [x]\n") ==
        "inv/services/s.yaml:2:17: place.hosts: there is no host \"host5\"; did you mean "
        "\"host1\"?\n");
  CHECK(
      manifestProblems("service: s\nplace: {group: all, spread: zone}\nrun: [x]\n") ==
      "inv/services/s.yaml:2:29: place.spread: host[1-4] without the label zone; label every host "
      "of the group, or remove spread\n");
  CHECK(manifestProblems("service: s\nplace: {group: spare}\nrun: [x]\ndepends_on: [t]\n") ==
        "inv/services/s.yaml:4:14: depends_on: there is no service \"t\"; add its manifest to "
        "services/\n");
  CHECK(manifestProblems(
            "service: s\nplace: {group: spare}\nrun: [x]\nconfig: [{template: t, path: p}]\n") ==
        "inv/services/s.yaml:4:21: config: there is no template \"t\"; add it to templates/ beside "
        "cluster.yaml\n");
}

TEST_CASE("a name in a template that only some hosts define is refused with those hosts") {
  const std::string manifest =
      "service: s\nplace: {group: all, count: 2}\nrun: [x, '{{vars.zone}}']\n";
  CHECK(manifestProblems(manifest) ==
        "inv/services/s.yaml:3:10: unknown name \"vars.zone\" on host[1-3]; define it, or remove "
        "the tag\n");
}

TEST_CASE("cycles are shown as paths") {
  const auto manifest = [](const char* name, const char* needs) {
    return fmt::format("service: {}\nplace: {{group: spare}}\nrun: [x]\ndepends_on: [{}]\n", name,
                       needs);
  };
  MemoryFiles files({{"inv/cluster.yaml", kCluster},
                     {"inv/services/a.yaml", manifest("a", "b")},
                     {"inv/services/b.yaml", manifest("b", "c")},
                     {"inv/services/c.yaml", manifest("c", "a")},
                     {"inv/services/d.yaml", manifest("d", "d")}});
  CHECK(textOf(loadInventory(files, "inv").problems) ==
        "inv/services/a.yaml:4:13: depends_on goes round: a → b → c → a; remove one of these\n"
        "inv/services/d.yaml:4:13: depends_on goes round: d → d; remove one of these\n");
}

TEST_CASE("files that should not be there") {
  MemoryFiles files({{"inv/cluster.yaml", kCluster},
                     {"inv/cluster.json", "{}"},
                     {"inv/services/s.yaml", kManifest},
                     {"inv/services/t.yaml", kManifest},
                     {"inv/services/u.ymal", kManifest},
                     {"inv/services/.s.yaml.swp", "x"},
                     {"inv/services/s.yaml~", "x"},
                     {"inv/templates/unused", "{{broken"}});
  const LoadedInventory loaded = loadInventory(files, "inv/");
  CHECK(textOf(loaded.problems) ==
        "inv/cluster.json: inv/cluster.yaml is there too; remove one\n"
        "inv/services/t.yaml:1:10: service solver is in inv/services/s.yaml already; rename or "
        "remove one\n");
  CHECK(textOf(loaded.warnings) ==
        "inv/services/u.ymal: not read: its name does not end in .yaml, .yml or .json; rename or "
        "remove it\n"
        "inv/templates/unused: no service uses this template; remove it, or name it in a config\n");
}

TEST_CASE("no inventory at all") {
  CHECK(textOf(loadInventory(MemoryFiles(), "nowhere").problems) ==
        "nowhere: there is no cluster.yaml in this directory; write one with `clusterctl init`, or "
        "name another directory with -i\n");
  const auto error = loadInventoryOrError(DiskFiles(), "/nonexistent");
  REQUIRE_FALSE(error);
  CHECK(error.error().code == Code::kBadInput);
}

TEST_CASE("files on the disk") {
  char dir[] = "/tmp/model-test-XXXXXX";
  REQUIRE(::mkdtemp(dir) != nullptr);
  const std::string root = dir;
  REQUIRE(makeDirs(root + "/services/sub.yaml"));
  REQUIRE(replaceFile(root + "/cluster.yaml", kCluster));
  REQUIRE(replaceFile(root + "/services/s.yaml", kManifest));
  const LoadedInventory loaded = loadInventory(DiskFiles(), root);
  CHECK(textOf(loaded.problems) == "");
  REQUIRE(::mkfifo((root + "/services/pipe.yaml").c_str(), 0600) == 0);
  CHECK(textOf(loadInventory(DiskFiles(), root).problems) ==
        root + "/services/pipe.yaml: not a regular file; put a file there\n");
  REQUIRE(removeTree(root));
}

TEST_CASE("JSON services load as YAML ones do") {
  MemoryFiles files(
      {{"inv/cluster.json",
        R"({"cluster": "demo", "hosts": {"h1": {}}, "vars": {"smile": "\ud83d\ude00"}})"},
       {"inv/services/s.json", R"({
	"service": "s",
	"place": {"hosts": ["h1"]},
	"run": ["bin/s", "{{vars.smile}}"]
})"}});
  const Inventory inventory = mustLoad(files);
  CHECK(renderInstance(sampleInput(inventory, inventory.services.begin()->second))->argv[1] == "😀");
}
