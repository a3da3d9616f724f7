#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "model/endpoint.h"
#include "model/host_paths.h"
#include "model/problem.h"
#include "model/release_info.h"

using namespace cctl;

TEST_CASE("endpoints are written and read as registry.json has them") {
  const char text[] =
      R"({"endpoints":[{"address":"10.0.0.11","host":"host1","instance":"sudoku-solver/0",)"
      R"("ports":{"main":21034},"state":"ready","version":"1.1.0"}],"revision":7})";
  const auto endpoints = parseServiceEndpoints(*parseJson(text));
  REQUIRE(endpoints);
  CHECK(endpoints->revision == 7);
  CHECK(endpoints->endpoints[0].instance.index == 0);
  CHECK(endpoints->endpoints[0].ports.at("main") == 21034);
  CHECK(dumpJson(toJson(*endpoints)) == text);
  CHECK(endpointStateFromName("draining") == EndpointState::kDraining);
  CHECK_FALSE(endpointStateFromName("x"));
}

TEST_CASE("damaged endpoints are refused") {
  const Json good = *parseJson(
      R"({"address":"a","host":"h","instance":"s/0","ports":{"p":1},"state":"ready","version":"1"})");
  REQUIRE(parseEndpoint(good));
  const std::pair<const char*, const char*> damage[] = {
      {"address", "1"},         {"host", "\"-x\""},         {"host", "null"},
      {"instance", "\"s\""},    {"instance", "{}"},         {"ports", "[]"},
      {"ports", "{\"p\":0}"},   {"ports", "{\"p\":65536}"}, {"ports", "{\"p\":-1}"},
      {"ports", "{\"p\":1.5}"}, {"ports", "{\"p\":\"1\"}"}, {"state", "\"up\""},
      {"version", "\"../x\""},  {"address", "\"\""},        {"address", "\"a;b\""},
      {"address", "\"a\\nb\""}, {"address", "\"a b\""}};
  for (const auto& [key, value] : damage) {
    Json bad = good;
    bad[key] = *parseJson(value);
    const auto endpoint = parseEndpoint(bad);
    REQUIRE_FALSE(endpoint);
    CHECK(endpoint.error().code == Code::kCorrupt);
    bad = good;
    bad.erase(key);
    CHECK_FALSE(parseEndpoint(bad));
  }
  for (const char* text : {"[]", "{}", "1", R"({"revision":-1,"endpoints":[]})",
                           R"({"revision":1,"endpoints":{}})", R"({"revision":1,"endpoints":[1]})"})
    CHECK_FALSE(parseServiceEndpoints(*parseJson(text)));
}

TEST_CASE("paths on a host are those of the interface") {
  CHECK(paths::releaseDir("/r", "s", "1.0") == "/r/services/s/1.0");
  CHECK(paths::specDir("/r", "s", "d") == "/r/services/s/specs/d");
  CHECK(paths::confDir("/r", "s", 3, 12) == "/r/services/s/instances/3/generations/12/conf");
  CHECK(paths::currentLink("/r", "s", 3) == "/r/services/s/instances/3/current");
  CHECK(paths::coreDir("/r", "s", 3) == "/r/services/s/instances/3/core");
  CHECK(paths::registryServiceFile("/r", "s") == "/r/registry/services/s.json");
  CHECK(paths::controlSocket(std::string(paths::kMaxRoot, 'x')).size() < 108);
  CHECK(paths::bootUnit("demo") == "clusterctl-demo");
}

TEST_CASE("spelling suggestions are near or none") {
  const std::vector<std::string> words{"restart", "reload", "run", "place", "ports"};
  CHECK(nearestSpelling("restrat", words) == "restart");
  CHECK(nearestSpelling("plce", words) == "place");
  CHECK(nearestSpelling("rnu", words) == "run");
  CHECK(nearestSpelling("x", words) == "");
  CHECK(nearestSpelling("", words) == "");
  CHECK(nearestSpelling("something", words) == "");
  CHECK(nearestSpelling(std::string(100'000, 'r'), words) == "");
}

TEST_CASE("problems come sorted and once") {
  Problems problems;
  problems.add({"b", 1, 1}, "x");
  problems.add({"a", 10, 1}, "y", "z");
  problems.add({"a", 9, 2}, "y");
  problems.add({"b", 1, 1}, "x");
  problems.add({"a", 0, 0}, "w");
  std::string text;
  for (const Problem& problem : problems.sorted()) text += problem.text() + "|";
  CHECK(text == "a: w|a:9:2: y|a:10:1: y; z|b:1:1: x|");
  for (int i = 0; i < 100'000; ++i) problems.add({"c", i, 1}, "x");
  CHECK(problems.size() == 100'005);
  CHECK(problems.sorted().size() == kMaxProblems - 1);
}

// ---- releases against hosts ----

namespace {

ReleaseInfo release(std::vector<ElfNeeds> elf) {
  ReleaseInfo info;
  info.service = ServiceName("s");
  info.version = Version("1");
  info.files = {{"bin/s", 0755, 10, "", ""},
                {"lib/libown.so.1", 0644, 10, "", ""},
                {"lib/sub/x", 0644, 1, "", ""}};
  info.elf = std::move(elf);
  return info;
}

ElfNeeds dynamicElf() {
  ElfNeeds elf;
  elf.path = "bin/s";
  elf.machine = "x86_64";
  elf.interpreter = "/lib64/ld-linux-x86-64.so.2";
  elf.needed = {"libown.so.1", "libz.so.1", "libc.so.6"};
  elf.glibc = "2.34";
  return elf;
}

HostFacts debian() {
  return {"x86_64", "2.36", std::set<std::string>{"libz.so.1"},
          std::set<std::string>{"/lib64/ld-linux-x86-64.so.2"}};
}

}  // namespace

TEST_CASE("a release fits a host, or every reason is given") {
  CHECK(checkFit(release({dynamicElf()}), debian()).empty());
  CHECK(checkFit(release({dynamicElf()}), HostFacts{}).empty());
  HostFacts host = debian();
  host.glibc = "2.4";
  CHECK(checkFit(release({dynamicElf()}), host) ==
        std::vector<std::string>{"bin/s needs glibc 2.34, the host has 2.4"});
  host.libraries->clear();
  host.interpreters->clear();
  CHECK(checkFit(release({dynamicElf()}), host) ==
        std::vector<std::string>{
            "bin/s needs the loader /lib64/ld-linux-x86-64.so.2, which the host does not have",
            "bin/s needs glibc 2.34, the host has 2.4",
            "bin/s needs libz.so.1, which neither the release's lib/ nor the host has"});
  host.machine = "aarch64";
  CHECK(checkFit(release({dynamicElf()}), host) ==
        std::vector<std::string>{"bin/s is for x86_64, the host is aarch64"});
}

TEST_CASE("static files need the machine only, and old ones run on new kernels") {
  ElfNeeds elf;
  elf.path = "bin/s";
  elf.machine = "i386";
  CHECK(elf.isStatic());
  for (const char* machine : {"i686", "x86_64"})
    CHECK(checkFit(release({elf}), {machine, {}, {}, {}}).empty());
  CHECK_FALSE(checkFit(release({elf}), {"riscv64", {}, {}, {}}).empty());
  elf.machine = "arm";
  CHECK(checkFit(release({elf}), {"armv7l", {}, {}, {}}).empty());
  CHECK(release({elf}).isStatic());
  CHECK_FALSE(release({dynamicElf()}).isStatic());
  CHECK(release({}).ownLibraries() == std::set<std::string>{"libown.so.1"});
}

TEST_CASE("a script's interpreter must be there") {
  ReleaseInfo info = release({});
  info.scripts = {{"bin/run", "/usr/bin/python3", ""}};
  HostFacts host = debian();
  CHECK(checkFit(info, host) ==
        std::vector<std::string>{"bin/run needs /usr/bin/python3, which the host does not have"});
  host.interpreters->insert("/usr/bin/python3");
  CHECK(checkFit(info, host).empty());
  // What lies deep in the tree may never run.
  info.scripts.push_back({"node_modules/tool/configure", "/usr/bin/perl", ""});
  CHECK(checkFit(info, host).empty());
  info.scripts.push_back({"start", "/usr/bin/ruby", ""});
  CHECK(checkFit(info, host).size() == 1);
}

TEST_CASE("dotted numbers compare as numbers") {
  CHECK(compareDotted("2.4", "2.34") < 0);
  CHECK(compareDotted("2.34", "2.34") == 0);
  CHECK(compareDotted("2.34.1", "2.34") > 0);
  CHECK(compareDotted("", "2") < 0);
  CHECK(compareDotted("99999999999999999999", "1") != 1 + 1);
}
