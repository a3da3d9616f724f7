#include <doctest/doctest.h>

#include <fmt/ranges.h>

#include "unit/model/inventory_fixture.h"

using namespace cctl;
using namespace cctl::fixture;

namespace {

const char kFull[] = R"(cluster: demo
root: /opt/clusterctl
releases: ../releases
ssh: {user: deploy, port: 22, identity_file: ~/.ssh/id_ed25519, connect_timeout: 5s, become: sudo}
registry: {hosts: [host1, host2, host3]}
ports: 21000-29999
hosts:
  host[1-3]: {}
  host4: {address: 10.0.0.14, advertise: 192.0.2.14, ssh: {port: 2222, become: none}, labels: {rack: b}, vars: {zone: east}}
groups: {solvers: "host[1-3]", spare: [host4], both: {hosts: [host1, host4], vars: {x: 1}}}
vars: {x: 0}
sign_off: {required: false}
)";

// The problems of a cluster that is sound but for these lines; each without its place.
std::string clusterProblems(const std::string& lines) {
  std::string cluster = lines;
  if (cluster.find("cluster:") == std::string::npos) cluster += "cluster: c\n";
  if (cluster.find("hosts:") == std::string::npos || cluster.find("{hosts:") != std::string::npos)
    cluster += "hosts: {h1: {}, h2: {}}\n";
  std::string text;
  for (const Problem& problem : load(cluster).problems)
    text += problem.hint.empty() ? problem.message + "\n"
                                 : problem.message + "; " + problem.hint + "\n";
  return text;
}

std::string selected(const Inventory& inventory, const char* expression) {
  const auto hosts = selectHosts(inventory, expression);
  return hosts ? fmt::format("{}", fmt::join(*hosts, " ")) : hosts.error().message;
}

}  // namespace

TEST_CASE("the interface's cluster.yaml") {
  const Inventory inventory = mustLoad(kFull);
  CHECK(inventory.cluster == "demo");
  CHECK(inventory.releases == "inv/../releases");
  CHECK(inventory.ssh.identity_file == "~/.ssh/id_ed25519");
  CHECK(inventory.registry_hosts.size() == 3);
  CHECK(inventory.ports == PortRange{21000, 29999});
  CHECK(inventory.host_order.size() == 4);
  const Host& host4 = *inventory.findHost(HostName("host4"));
  CHECK(host4.address == "10.0.0.14");
  CHECK(host4.publishedAddress() == "192.0.2.14");
  CHECK(host4.ssh.port == 2222);
  CHECK(host4.ssh.user == "deploy");
  CHECK(host4.ssh.become == Become::kNone);
  CHECK(host4.ssh.connect_timeout == Millis(5000));
  CHECK(host4.groups == std::set<std::string>{"both", "spare"});
  const Host& host1 = *inventory.findHost(HostName("host1"));
  CHECK(host1.address == "host1");
  CHECK(host1.publishedAddress() == std::nullopt);
  CHECK(host1.ssh == inventory.ssh);
}

TEST_CASE("defaults") {
  const Inventory inventory = mustLoad("cluster: c\nhosts: {h1: {}, h2: {}}\n");
  CHECK(inventory.root == "/opt/clusterctl");
  CHECK(inventory.registry_hosts == std::vector{HostName("h1")});
  CHECK(inventory.ssh == SshSettings{});
  CHECK(mustLoad("cluster: c\nhosts: {'h[1-5]': }\n").registry_hosts.size() == 3);
}

TEST_CASE("mistakes in cluster.yaml") {
  const std::pair<const char*, const char*> cases[] = {
      {"root: opt", "root: \"opt\" is not a directory"},
      {"root: /", "is not a directory"},
      {"root: /a/../b", "is not a directory"},
      {"root: /a/", "is not a directory"},
      {"root: /a b", "is not a directory"},
      {"root: '/a%b'", "is not a directory"},
      {"root: ~user/x", "is not a directory"},
      {"root: "
       "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
       "aaaaaaaaaa",
       "too long for the sockets"},
      {"ports: 5", "is not a range of ports"},
      {"ports: 9-5", "is not a range of ports"},
      {"ports: 0-70000", "is not a range of ports"},
      {"ports: 1-", "is not a range of ports"},
      {"ssh: {prot: 22}", "unknown key \"ssh.prot\"; did you mean \"port\"?"},
      {"ssh: {port: 0}", "ssh.port: \"0\" is not a whole number from 1 to 65535"},
      {"ssh: {port: 022}", "ssh.port: \"022\" is not"},
      {"ssh: {user: -oProxyCommand=x}", "is not a login's name"},
      {"ssh: {proxy_jump: '-oX'}", "is not a jump host"},
      {"ssh: {proxy_jump: 'a b'}", "is not a jump host"},
      {"ssh: {connect_timeout: 5}", "\"5\" is not a duration"},
      {"ssh: {connect_timeout: 0s}", "0ms is not between 100ms and 1h"},
      {"ssh: {become: sudoo}", "is not one of none, sudo; did you mean \"sudo\"?"},
      {"ssh: [x]", "ssh: a list where a map of keys and values belongs"},
      {"hosts: {}", "hosts: there are none"},
      {"hosts: [h1]", "hosts: a list where a map"},
      {"hosts: {h1: {}, 'h[1-2]': {}}", "hosts: h1 is given twice; remove one"},
      {"hosts: {'h[1-2]': {address: 10.0.0.1}}", "hosts.h[1-2].address: one for 2 hosts"},
      {"hosts: {'h[2-1]': {}}", "runs backwards"},
      {"hosts: {'-x': {}}", "\"-x\" is not a host name"},
      {"hosts: {all: {}}", "\"all\" means every host"},
      {"hosts: {h1: {address: '-x'}}", "is neither an IP address nor a host's name"},
      {"hosts: {h1: {address: 'a b'}}", "is neither an IP address nor a host's name"},
      {"hosts: {h1: {advertise: name}}", "is not an IP address"},
      {"hosts: {h1: {labels: {a.b: c}}}", "is not a label's name"},
      {"hosts: {h1: {labels: {a: [b]}}}", "a list where a single value belongs"},
      {"hosts: {h1: {vars: {'a b': c}}}", "is not a variable's name"},
      {"hosts: {h1: x}", "hosts.h1: a single value where a map"},
      {"groups: {g: h9}", "groups.g: there is no host \"h9\"; did you mean \"h1\"?"},
      {"groups: {h1: h2}", "groups: h1 is also a host"},
      {"groups: {all: h2}", "is not a group's name"},
      {"groups: {g: {host: h1}}", "unknown key \"groups.g.host\"; did you mean \"hosts\"?"},
      {"groups: {g: [[h1]]}", "a list where a single value belongs"},
      {"registry: {hosts: [h1, h2]}", "registry.hosts: 2 hosts; name 1, 3, 5 or 7"},
      {"registry: {hosts: [h1, h1, h2]}", "h1 is named twice"},
      {"registry: {hosts: h3}", "there is no host \"h3\""},
      {"registry: {}", "registry.hosts is missing"},
      {"sign_off: {required: true}", "sign_off: nothing says whose signatures are good; name an"},
      {"sign_off: {required: maybe}", "is not one of true, false"},
      {"sign_off: {by: [x]}", "nothing says whose signatures are good"},
      {"sign_off: {allowed_signers: ''}", "sign_off.allowed_signers: not a path"},
      {"sign_off: {allowed_signers: f, by: x}", "sign_off.by: a single value where a list"},
      {"sign_off: {allowed_signers: f, by: []}", "sign_off.by: names nobody"},
      {"sign_off: {allowed_signers: f, by: ['!x']}", "\"!x\" is no pattern of one principal"},
      {"sign_off: {allowed_signers: f, by: ['a,b']}", "\"a,b\" is no pattern of one principal"},
      {"sign_off: {allowed_signers: f, count: 0}", "sign_off.count: \"0\" is not a whole number"},
      {"sign_off: {allowed_signers: f, by: [a, b], count: 3}",
       "sign_off.count: 3 of 2 people cannot sign; lower it"},
      {"sign_off: {allowed_signers: f, coutn: 1}", "did you mean \"count\"?"},
      {"alerts: [{on: [crash], webhook: 'http://x'}]",
       "alerts.webhook is known, but not enforced by this build; remove it"},
      {"alerts: [{on: [host-down], host_exec: [/x]}]",
       "alerts.on: host-down is known, but not enforced by this build; remove it"},
      {"alerts: {on: [crash]}", "alerts: a map where a list belongs; write like [{on: [crash]"},
      {"alerts: [crash]", "alerts: a single value where a map"},
      {"alerts: [{on: [crash]}]", "alerts.host_exec is missing; add it, like"},
      {"alerts: [{host_exec: [/x]}]", "alerts.on is missing; add it, like"},
      {"alerts: [{on: [], host_exec: [/x]}]", "alerts.on: names nothing to tell of; write one of"},
      {"alerts: [{on: crash, host_exec: [/x]}]", "alerts.on: a single value where a list"},
      {"alerts: [{on: [crahs], host_exec: [/x]}]", "did you mean \"crash\"?"},
      {"alerts: [{on: [crash], host_exec: []}]", "host_exec: the program is not an absolute path"},
      {"alerts: [{on: [crash], host_exec: [page]}]", "is not an absolute path; write it in full"},
      {"alerts: [{on: [crash], host_exec: [~/page]}]", "is not an absolute path"},
      {"alerts: [{on: [crash], host_exec: [[/x]]}]", "host_exec: a list where a single value"},
      {"alerts: [{on: [crash], host_exec: /x}]", "host_exec: a single value where a list"},
      {"alerts: [{on: [crash], host_exce: [/x]}]", "did you mean \"host_exec\"?"},
      {"vars: [x]", "vars: a list where a map"},
      {"releases: ''", "releases: not a path"},
      {"cluster: a b", "is not a cluster's name"},
      {"clutser: x", "unknown key \"clutser\"; did you mean \"cluster\"?"},
  };
  for (const auto& one : cases) {
    const auto& lines = one.first;
    const auto& with = one.second;
    const std::string problems = clusterProblems(std::string(lines) + "\n");
    CHECK_MESSAGE(problems.find(with) != std::string::npos, lines, " → ", problems);
  }
}

TEST_CASE("who must sign releases off") {
  const SignOff none = mustLoad(kFull).sign_off;
  CHECK_FALSE(none.required);
  CHECK(none.allowed_signers.empty());
  CHECK(none.count == 1);
  const SignOff some =
      mustLoad(
          "cluster: c\nhosts: {h1: }\n"
          "sign_off: {required: true, allowed_signers: ../signers, by: [a, 'qa-*'], count: 3}\n")
          .sign_off;
  CHECK(some.required);
  CHECK(some.allowed_signers == "inv/../signers");
  CHECK(some.by == std::vector<std::string>{"a", "qa-*"});
  CHECK(some.count == 3);
}

TEST_CASE("alerts that the shims of the hosts see to") {
  const Inventory inventory = mustLoad(std::string(kFull) + R"(alerts:
  - {on: [crash, crash-loop, crash], host_exec: [/usr/local/bin/page, --team, "a b"]}
  - {on: [unhealthy], host_exec: [/bin/true]}
)");
  REQUIRE(inventory.alerts.size() == 2);
  CHECK(inventory.alerts[0].on == std::vector{AlertOn::kCrash, AlertOn::kCrashLoop});
  CHECK(inventory.alerts[0].host_exec ==
        std::vector<std::string>{"/usr/local/bin/page", "--team", "a b"});
  CHECK(inventory.alerts[1].on == std::vector{AlertOn::kUnhealthy});
}

TEST_CASE("mistakes in alerts come with their places") {
  CHECK(
      textOf(load("cluster: c\nhosts: {h1: {}}\nalerts:\n"
                  "  - {on: [crash], host_exec: [page]}\n"
                  "  - {on: [crush], host_exec: [/page]}\n")
                 .problems) ==
      "inv/cluster.yaml:4:30: alerts.host_exec: the program is not an absolute path; write it in "
      "full, as it is on the hosts, like [/usr/local/bin/page]\n"
      "inv/cluster.yaml:5:11: alerts.on: \"crush\" is not one of crash, crash-loop, unhealthy; did "
      "you mean \"crash\"?\n");
}

TEST_CASE("files that are no map at all") {
  for (const std::string text : {"", "x", "[]", "# nothing\n", "- a\n", "42"})
    CHECK_MESSAGE(textOf(load(text).problems).find("inv/cluster.yaml:1:1: the file: ") == 0, text,
                  textOf(load(text).problems));
}

TEST_CASE("hosts are selected as --limit says") {
  const Inventory inventory = mustLoad(kFull);
  const std::pair<const char*, const char*> cases[] = {
      {"all", "host1 host2 host3 host4"},
      {"solvers", "host1 host2 host3"},
      {"solvers,!host3", "host1 host2"},
      {"!solvers", "host4"},
      {"host[2-3],spare", "host2 host3 host4"},
      {"host4,host1,host4", "host1 host4"},
      {"solvers,!host3,host[1-2]", "host1 host2"},
      {"!host[1-2],!spare", "host3"},
      {"solver", "there is no host or group \"solver\" in inv; did you mean \"solvers\"?"},
      {"host[1-9]", "there is no host or group \"host5\" in inv; did you mean \"host1\"?"},
      {"!all", "\"!all\" selects no host; see `clusterctl hosts`"},
      {"", "\"\" has an empty part; write like solvers,!host3"},
      {"solvers,", "\"solvers,\" has an empty part; write like solvers,!host3"},
  };
  for (const auto& one : cases) {
    const auto& expression = one.first;
    const auto& hosts = one.second;
    CHECK(selected(inventory, expression) == hosts);
  }
  CHECK(selectHosts(inventory, "host[").error().code == Code::kUsage);
}

TEST_CASE("unknown names have suggestions") {
  const Inventory inventory = mustLoad(kFull, kManifest);
  CHECK(inventory.service("solvr").error().message ==
        "there is no service \"solvr\" in inv; did you mean \"solver\"?");
  CHECK(inventory.host("hots1").error().message.find("did you mean \"host1\"?") !=
        std::string::npos);
  CHECK(inventory.service("solver"));
  CHECK(inventory.host("host1"));
}

TEST_CASE("IP addresses") {
  for (const char* good : {"10.0.0.1", "::1", "fe80::1"}) CHECK(isIpAddress(good));
  for (const char* bad : {"", "10.0.0", "10.0.0.1 ", "a", "10.0.0.256", "[::1]"})
    CHECK_FALSE(isIpAddress(bad));
}
