// Mutated inventories must load or be refused, never crash, hang or throw. Under the sanitizers
// this is a small fuzzer that needs no clang; tests/fuzz/fuzz_inventory.cc goes deeper.
#include <doctest/doctest.h>

#include <chrono>
#include <random>

#include "model/init_files.h"
#include "model/placement.h"
#include "model/render.h"
#include "model/spec.h"
#include "unit/model/inventory_fixture.h"

using namespace cctl;
using namespace cctl::fixture;

namespace {

// The sanitizers make each of these some 15 times slower.
#ifdef __SANITIZE_ADDRESS__
constexpr uint32_t kRounds = 2000;
constexpr int kManyKeys = 20'000;
constexpr size_t kManyBytes = 50'000;
#else
constexpr uint32_t kRounds = 4000;
constexpr int kManyKeys = 60'000;
constexpr size_t kManyBytes = 200'000;
#endif

const char kRichCluster[] = R"(cluster: demo
root: ~/.clusterctl
releases: ../releases
ssh: {user: deploy, port: 22, identity_file: ~/.ssh/id, connect_timeout: 5s, become: sudo, proxy_jump: "a@b:22"}
registry: {hosts: [host1, host2, host3]}
ports: 21000-29999
hosts:
  host[1-3]: {labels: {rack: a}, vars: &v {zone: east, list: [1, {a: b}], flag: true}}
  host4: {address: 10.0.0.14, advertise: 192.0.2.14, labels: {rack: b}, vars: *v}
groups: {solvers: "host[1-3]", spare: {hosts: [host4], vars: {zone: west}}}
vars: {x: 1}
sign_off: {required: false}
)";

const char kRichManifest[] = R"(service: web
place: {group: solvers, count: 3, spread: rack}
run: [bin/web, --port, "{{port.main}}", "{{#vars.list}}{{.}}{{/vars.list}}"]
ports: {main: auto, admin: 8081}
config: [{template: t.conf, path: a/t.conf, mode: "0640"}]
depends_on: [store]
env: {ZONE: "{{vars.zone}}", ALL: "{{#services.store}}{{address}}{{^last}},{{/last}}{{/services.store}}"}
user: nobody
limits: {nofile: 65536, core: unlimited}
health: {ready: {http: "admin:/healthz"}, start_timeout: 30s}
restart: {policy: always, backoff: 100ms..30s, limit: "10 in 1m"}
stop: {signal: TERM, grace: 10s}
boot: start
upgrade: {batch: 25%, order: stop-first, drain: 2s}
on_change: {store: reload}
logs: {max_size: 64M, keep: 5}
vars: {list: [a, b], deep: {a: {b: [1, 2]}}}
)";

const char kRichTemplate[] =
    "{{! c }}\n{{#services.store}}\n{{address}}:{{port.main}}{{^last}},{{/last}}\n"
    "{{/services.store}}\n{{#vars.flag}}{{vars.deep.a.b}}{{/vars.flag}}{{{host.name}}}\n";

const char* const kTokens[] = {"{{",
                               "}}",
                               "{{#",
                               "{{/",
                               "{{^",
                               "{{{",
                               "}}}",
                               "{{.}}",
                               "[",
                               "]",
                               "{",
                               "}",
                               ": ",
                               "- ",
                               "&a ",
                               "*a ",
                               "<<: *a",
                               "!!int ",
                               "!x ",
                               "'",
                               "\"",
                               "\\u",
                               "\\ud83d\\ude00",
                               "\\",
                               "#",
                               "%",
                               "|\n",
                               ">-\n",
                               "? ",
                               "---\n",
                               "...\n",
                               "%YAML 1.2\n",
                               "\t",
                               "\n",
                               "\r\n",
                               "\xff",
                               "\xed\xa0\x80",
                               "\xEF\xBB\xBF",
                               "~",
                               "null",
                               "true",
                               "-1",
                               "999999999999999999999",
                               "0x10",
                               "1e9",
                               "host[1-10000]",
                               "host[1-",
                               "[0-9][0-9][0-9][0-9][0-9]",
                               "..",
                               "/",
                               "!",
                               "@",
                               "`",
                               "service",
                               "hosts",
                               "auto",
                               "socket",
                               "notify",
                               "live",
                               "services.store",
                               "vars.list",
                               "100%",
                               "0 in 0s",
                               "..30s",
                               "\x1b[2J"};

class Mutator {
 public:
  explicit Mutator(uint32_t seed) : random_(seed) {}

  void mutate(std::string& text) {
    for (size_t edits = pick(2) * pick(5) + 1; edits > 0; --edits) edit(text);
  }
  size_t pick(size_t below) { return std::uniform_int_distribution<size_t>(0, below - 1)(random_); }

 private:
  void edit(std::string& text) {
    const size_t at = pick(text.size() + 1);
    const size_t length = std::min(pick(20) + 1, text.size() - at);
    switch (pick(6)) {
      case 0:
        text.erase(at, length);
        break;
      case 1:
        text.insert(at, kTokens[pick(std::size(kTokens))]);
        break;
      case 2:
        text.insert(pick(text.size() + 1), text.substr(at, length * 4));
        break;
      case 3:
        text.replace(at, length, kTokens[pick(std::size(kTokens))]);
        break;
      case 4:
        if (at < text.size()) text[at] = static_cast<char>(pick(256));
        break;
      default:
        moveLine(text, at);
    }
  }

  void moveLine(std::string& text, size_t at) {
    const size_t end = text.find('\n', at);
    if (end == std::string::npos) return;
    const std::string line = text.substr(at, end + 1 - at);
    text.erase(at, line.size());
    text.insert(pick(text.size() + 1), line);
  }

  std::mt19937 random_;
};

// Everything that may be done with an inventory that loaded.
void use(const Inventory& inventory) {
  for (const auto& [name, manifest] : inventory.services) {
    const auto placed = placeInstances(inventory, manifest);
    if (placed) checkFixedPorts(inventory, *placed);
    const auto rendered = renderInstance(sampleInput(inventory, manifest));
    const auto spec = parseSpec(canonicalSpec(inventory, manifest, Version("1")));
    REQUIRE_MESSAGE(spec, spec.error().message);
    if (rendered) CHECK(renderedDigest(*rendered).size() == 64);
  }
}

}  // namespace

TEST_CASE("mutated inventories load or are refused with a place, and never crash") {
  const std::map<std::string, std::string> seed{
      {"inv/cluster.yaml", kRichCluster},
      {"inv/services/web.yaml", kRichManifest},
      {"inv/services/store.json",
       R"({"service": "store", "place": {"hosts": ["host4"]}, "run": ["bin/store"], "ports": {"main": 7000}})"},
      {"inv/templates/t.conf", kRichTemplate}};
  // The seed's only mistake is a list that is printed.
  CHECK(textOf(loadInventory(MemoryFiles(seed), "inv").problems)
            .find("inv/templates/t.conf:5:15: \"vars.deep.a.b\" is a list") == 0);
  size_t loaded_count = 0;
  for (uint32_t round = 0; round < kRounds; ++round) {
    Mutator mutator(round);
    auto files = seed;
    files["inv/templates/t.conf"] = "{{vars.x}}";
    auto chosen = files.begin();
    std::advance(chosen, static_cast<std::ptrdiff_t>(mutator.pick(files.size())));
    if (chosen->first == "inv/templates/t.conf") chosen->second = kRichTemplate;
    mutator.mutate(chosen->second);
    const auto start = std::chrono::steady_clock::now();
    const LoadedInventory loaded = loadInventory(MemoryFiles(files), "inv");
    REQUIRE(loaded.ok() == loaded.problems.empty());
    for (const Problem& problem : loaded.problems) {
      REQUIRE(problem.where.file.rfind("inv", 0) == 0);
      REQUIRE_FALSE(problem.message.empty());
    }
    if (loaded.ok()) use(*loaded.inventory);
    if (loaded.ok()) ++loaded_count;
    REQUIRE(std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
  }
  CHECK(loaded_count > kRounds / 40);
}

TEST_CASE("large files are read or refused in reasonable time") {
  std::string keys = "cluster: c\nhosts: {h1: {}}\n", env, hosts, deps = "[", text;
  for (int i = 0; i < kManyKeys; ++i) {
    keys += fmt::format("k{}: 1\n", i);
    env += fmt::format("  K{}: '{{{{vars.x{}}}}}'\n", i, i);
    deps += fmt::format("s{},", i);
  }
  for (int i = 0; i < 9'000; ++i) hosts += fmt::format("  n{}: {{vars: {{v{}: 1}}}}\n", i, i % 10);
  const std::string manifest = "service: s\nplace: {group: all}\nrun: [x]\n";
  const auto start = std::chrono::steady_clock::now();
  CHECK_FALSE(load(keys).ok());
  CHECK_FALSE(load(kCluster, manifest + "env:\n" + env).ok());
  CHECK_FALSE(load(kCluster, manifest + "depends_on: " + deps + "]\n").ok());
  CHECK(load("cluster: c\nhosts:\n" + hosts, manifest).ok());
  CHECK_FALSE(load("cluster: c\nhosts:\n" + hosts, manifest + "env: {A: '{{vars.v3}}'}\n").ok());
  for (const char* part : {"- ", "[[],", "{a: ", "? ", "&a ", "! ", "'", "\"\\", "| ", "a: ", "*a ",
                           "#\n", "\n", "%A\n", "- - ", ": ", "a\n", ",", "{},"}) {
    std::string many = "x: ";
    while (many.size() < kManyBytes) many += part;
    (void)load(many);
    (void)load("{" + many);
  }
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(120));
}
