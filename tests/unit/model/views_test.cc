#include <doctest/doctest.h>

#include "unit/model/inventory_fixture.h"

using namespace cctl;
using namespace cctl::fixture;

namespace {

const char kHosts[] = "cluster: c\nhosts: {\"h[1-3]\": {}}\ngroups: {front: \"h[2-3]\"}\n";
const char kWeb[] = "service: web\nplace: {hosts: [h1]}\nrun: [bin/x]\nports: {main: auto}\n";
const char kApi[] =
    "service: api\nplace: {hosts: [h1]}\nrun: [bin/x]\nports: {main: auto, admin: auto}\n";

MemoryFiles filesWith(const std::string& views) {
  return MemoryFiles({{"inv/cluster.yaml", std::string(kHosts) + "views:\n" + views},
                      {"inv/services/web.yaml", kWeb},
                      {"inv/services/api.yaml", kApi}});
}

std::string problemsOf(const std::string& views) {
  return textOf(loadInventory(filesWith(views), "inv").problems);
}

}  // namespace

TEST_CASE("views of all kinds, for hosts and groups") {
  const Inventory inventory =
      mustLoad(filesWith("- {nginx: web.conf, service: web, reload: [/bin/r, -s]}\n"
                         "- {prometheus: /etc/p/t.json, service: [web, api], port: main,"
                         " labels: {team: x}, hosts: front}\n"
                         "- {haproxy: /run/h.sock, service: api, port: admin, backend: b,"
                         " servers: 's[1-3]', hosts: [h1, front]}\n"
                         "- {plain: all.txt, port: main}\n"));
  REQUIRE(inventory.views.size() == 4);
  const View& nginx = inventory.views[0];
  CHECK(nginx.kind == ViewKind::kNginx);
  CHECK(nginx.path == "web.conf");
  CHECK(nginx.name == "web");
  CHECK(nginx.reload == std::vector<std::string>{"/bin/r", "-s"});
  CHECK(nginx.hosts.size() == 3);
  const View& prometheus = inventory.views[1];
  CHECK(prometheus.services.size() == 2);
  CHECK(prometheus.labels.at("team") == "x");
  CHECK(prometheus.hosts == std::vector{HostName("h2"), HostName("h3")});
  const View& haproxy = inventory.views[2];
  CHECK(haproxy.name == "b");
  CHECK(haproxy.servers == std::vector<std::string>{"s1", "s2", "s3"});
  CHECK(haproxy.hosts.size() == 3);
  CHECK(inventory.views[3].services.empty());
}

TEST_CASE("mistakes in views come with their places and the mend") {
  const std::pair<const char*, const char*> cases[] = {
      {"- {service: web}\n", "5:3: views: an entry without its kind, one of prometheus, nginx"},
      {"- {nginx: a, plain: b, service: web}\n", "plain beside nginx; write an entry for each"},
      {"- {nginx: ../a, service: web}\n", "5:11: views.nginx: \"../a\" is not a file"},
      {"- {nginx: .a, service: web}\n", "is not a file"},
      {"- {nginx: a}\n", "views.service is missing; add it, like"},
      {"- {nginx: a, service: [web]}\n", "views.service: a list where a single value"},
      {"- {nginx: a, service: wbe}\n", "no service \"wbe\"; did you mean \"web\"?"},
      {"- {nginx: a, service: api}\n", "views.port is missing: api has main, admin; name one"},
      {"- {nginx: a, service: api, port: amdin}\n", "did you mean \"admin\"?"},
      {"- {nginx: a, service: web, upstream: 'x y'}\n", "views.upstream: \"x y\" is not a name"},
      {"- {nginx: a, service: web, hosts: fornt}\n", "did you mean \"front\"?"},
      {"- {nginx: a, service: web, reload: [nginx]}\n", "the program is not an absolute path"},
      {"- {nginx: a, service: web, servers: x}\n", "unknown key \"views.servers\""},
      {"- {plain: a, service: web}\n- {plain: a, service: api, port: main}\n",
       "6:3: views: a is written twice on h[1-3]; name another file"},
      {"- {haproxy: a.sock, service: web, servers: s1}\n", "is not the path of HAProxy's"},
      {"- {haproxy: /a.sock, service: web}\n", "views.servers is missing"},
      {"- {haproxy: /a.sock, service: web, servers: s1, reload: [/x]}\n", "unknown key"},
      {"- {prometheus: a, labels: {__x: y}}\n", "is not a label's name for Prometheus"},
      {"- {prometheus: [a]}\n", "views.prometheus: a list where a single value"},
      {"- web\n", "views: a single value where a map"},
  };
  for (const auto& one : cases) {
    const std::string text = problemsOf(one.first);
    INFO(one.first);
    INFO(text);
    CHECK(text.find(one.second) != std::string::npos);
  }
  CHECK(problemsOf("  {}\n").find("a map where a list belongs") != std::string::npos);
}
