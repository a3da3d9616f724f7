#include "shim/views.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "model/host_paths.h"
#include "shim/haproxy.h"
#include "support.h"

namespace cctl::shim {
namespace {

using protocol::View;
using protocol::ViewKind;

const Identity kIdentity{"demo", "host1", "", true};
const ViewLimits kQuick{Millis(5'000), Millis(1), 5, Millis(2'000), Millis(10)};

std::string endpoint(const std::string& instance, const std::string& address, int port,
                     const std::string& state = "ready") {
  return fmt::format(
      R"({{"instance":"{}","host":"h2","address":"{}","ports":{{"main":{},"admin":{}}},)"
      R"("version":"1.0","state":"{}"}})",
      instance, address, port, port + 1, state);
}

ShownService service(const std::vector<std::string>& endpoints) {
  ShownService shown{"web", {}};
  for (const std::string& text : endpoints)
    shown.endpoints.push_back(parseEndpoint(*parseJson(text)).value());
  return shown;
}

View viewOf(ViewKind kind, const std::string& path) {
  View view;
  view.kind = kind;
  view.path = path;
  view.services = {"web"};
  view.port = "main";
  view.name = "web";
  return view;
}

// What views need of a shim, in a directory of its own.
struct TestHost {
  TempDir dir;
  SystemClock clock;
  EventLoop loop{clock};
  Journal journal{dir / "journal", loop};
  Names names{dir.path(), "demo", loop};

  TestHost() {
    REQUIRE(makeDirs(paths::shimStateDir(dir.path())));
    REQUIRE(journal.open());
    REQUIRE(names.load());
  }
  void push(uint64_t revision, const std::string& endpoints, const std::string& name = "web") {
    REQUIRE(names.apply({{name, revision, JsonText{"[" + endpoints + "]"}}}));
  }
  std::string fileOf(const std::string& name) {
    return readFile(dir / ("registry/views/" + name)).value_or("(none)");
  }
  std::string program(const std::string& name, const std::string& text) {
    const std::string path = dir / name;
    REQUIRE(replaceFile(path, "#!/bin/sh\n" + text, 0755));
    return path;
  }
  std::vector<std::string> told() {
    std::vector<std::string> texts;
    for (const protocol::Event& event : journal.read(0, std::nullopt, 1000))
      if (event.kind == protocol::EventKind::kView) texts.push_back(event.text);
    return texts;
  }
};

const std::string kTwo = endpoint("web/0", "10.0.0.1", 80) + "," + endpoint("web/1", "::1", 82);

}  // namespace

TEST_CASE("view text: nginx has the ready ones, and is never empty") {
  const View view = viewOf(ViewKind::kNginx, "web.conf");
  const std::string text = viewText(
      view, "demo",
      {service({endpoint("web/0", "10.0.0.1", 80), endpoint("web/1", "10.0.0.2", 82, "unhealthy"),
                endpoint("web/2", "::1", 84)})});
  CHECK(text.find("upstream web {\n    server 10.0.0.1:80;\n    server [::1]:84;\n}\n") !=
        std::string::npos);
  CHECK(viewText(view, "demo", {}).find("server 127.0.0.1:9 down;") != std::string::npos);
}

TEST_CASE("view text: Prometheus has all, with labels; plain has lines; a port that is not there") {
  View view = viewOf(ViewKind::kPrometheus, "t.json");
  view.port = "admin";
  view.labels = {{"team", "x\"y"}};
  const auto web = service({endpoint("web/0", "10.0.0.1", 80, "draining")});
  const auto groups = parseJson(viewText(view, "demo", {web}));
  REQUIRE(groups);
  CHECK((*groups)[0]["targets"] == Json::array({"10.0.0.1:81"}));
  CHECK((*groups)[0]["labels"]["instance"] == "web/0");
  CHECK((*groups)[0]["labels"]["team"] == "x\"y");
  CHECK((*groups)[0]["labels"]["__meta_clusterctl_state"] == "draining");
  view.port = "none";
  CHECK(viewText(view, "demo", {web}) == "[]\n");
  view.port = "";
  CHECK(viewText(view, "demo", {web}) == "[]\n");  // two ports: which one was meant?
  const View plain = viewOf(ViewKind::kPlain, "t");
  CHECK(viewText(plain, "demo", {web}) == "");
  CHECK(viewText(plain, "demo",
                 {service({endpoint("web/1", "::1", 9), endpoint("web/0", "1.2.3.4", 7)})}) ==
        "1.2.3.4:7\n[::1]:9\n");
}

TEST_CASE("HAProxy: servers as it tells of them") {
  const auto servers = parseServers(
      "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight x "
      "srv_port\n3 web 1 web1 10.0.0.1 2 0 1 - 80\n3 web 2 web2 127.0.0.1 0 5 1 - 9\n"
      "3 web 3 web3 ::1 2 8 1 - 81\n4 other 1 web1 1.1.1.1 2 0 1 - 80\n\n",
      "web");
  REQUIRE(servers);
  REQUIRE(servers->size() == 3);
  CHECK((*servers)[0].address == "10.0.0.1");
  CHECK((*servers)[0].state == HaproxyState::kReady);
  CHECK((*servers)[1].state == HaproxyState::kMaint);
  CHECK((*servers)[2].state == HaproxyState::kDrain);
  CHECK((*servers)[2].port == 81);
  CHECK(parseServers("Can't find backend.\n\n", "web").error().message.find("find backend") !=
        std::string::npos);
  CHECK_FALSE(parseServers("", "web"));
  CHECK(parseServers("# be_name\n1\n", "web")->empty());
}

TEST_CASE("HAProxy: who has the address keeps it, the rest is set or laid down") {
  View view = viewOf(ViewKind::kHaproxy, "/s");
  view.servers = {"s1", "s2", "s3"};
  const std::vector<HaproxyServer> servers{{"s1", "127.0.0.1", 9, HaproxyState::kMaint},
                                           {"s2", "10.0.0.1", 80, HaproxyState::kReady},
                                           {"s3", "10.0.0.9", 80, HaproxyState::kReady}};
  using Commands = std::vector<std::string>;
  CHECK(planServers(view, servers,
                    service({endpoint("web/0", "10.0.0.1", 80), endpoint("web/1", "10.0.0.2", 82)}))
            .commands == Commands{"set server web/s1 addr 10.0.0.2 port 82",
                                  "set server web/s1 state ready",
                                  "set server web/s3 state maint"});
  CHECK(planServers(view, servers, service({endpoint("web/0", "10.0.0.1", 80, "draining")}))
            .commands ==
        Commands{"set server web/s2 state drain", "set server web/s3 state maint"});
  CHECK(planServers(view, servers,
                    service({endpoint("web/0", "10.0.0.1", 80),
                             endpoint("web/1", "10.0.0.9", 80, "unhealthy")}))
            .commands == Commands{"set server web/s3 state maint"});
  const HaproxyPlan many =
      planServers(view, servers,
                  service({endpoint("web/0", "1.0.0.1", 1), endpoint("web/1", "1.0.0.2", 1),
                           endpoint("web/2", "1.0.0.3", 1), endpoint("web/3", "1.0.0.4", 1)}));
  CHECK(many.problem == "backend web has 1 servers too few");
  CHECK(many.commands.size() == 8);  // two that took connections are laid down first
  view.servers.push_back("s4");
  CHECK(planServers(view, servers, service({})).problem == "backend web has no server s4");
}

TEST_CASE("views: written at each change, and at once when they are asked for") {
  TestHost host;
  Views views(host.dir.path(), kIdentity, host.loop, host.journal, host.names, kQuick);
  View all = viewOf(ViewKind::kPrometheus, "all.json");
  all.services.clear();
  REQUIRE(views.replace({viewOf(ViewKind::kNginx, "web.conf"), all}));
  // Not known yet: nginx wants a file all the same.
  turnUntil(host.loop, [&] { return host.fileOf("web.conf").find("down") != std::string::npos; });
  turnUntil(host.loop, [&] { return host.fileOf("all.json") == "[]\n"; });
  host.push(1, kTwo);
  turnUntil(host.loop,
            [&] { return host.fileOf("web.conf").find("10.0.0.1:80") != std::string::npos; });
  host.push(1, endpoint("api/0", "10.0.0.7", 90), "api");
  turnUntil(host.loop,
            [&] { return host.fileOf("all.json").find("10.0.0.7:90") != std::string::npos; });
  host.push(2, "");
  turnUntil(host.loop, [&] { return host.fileOf("web.conf").find("down") != std::string::npos; });
  CHECK(host.told().empty());
}

TEST_CASE("views: the reload runs after each change, and once at the start") {
  TestHost host;
  View view = viewOf(ViewKind::kPlain, "web.txt");
  view.reload = {host.program("reload", "cat $1 >> $0.log; echo -- >> $0.log\n"),
                 host.dir / "registry/views/web.txt"};
  const auto log = [&] { return readFile(host.dir / "reload.log").value_or(""); };
  host.push(1, kTwo);
  {
    Views views(host.dir.path(), kIdentity, host.loop, host.journal, host.names, kQuick);
    REQUIRE(views.replace({view}));
    turnUntil(host.loop, [&] { return log() == "10.0.0.1:80\n[::1]:82\n--\n"; });
    REQUIRE(views.replace({view}));  // the same again
    host.push(2, kTwo);              // and the same list
    host.push(1, "[]", "other");
    for (int i = 0; i < 20; ++i) host.loop.turn(Millis(2));
    CHECK(log() == "10.0.0.1:80\n[::1]:82\n--\n");
    host.push(3, endpoint("web/0", "10.0.0.1", 80));
    turnUntil(host.loop, [&] { return log().ends_with("--\n10.0.0.1:80\n--\n"); });
  }
  // Whether the last one still ran is not known to the next shim.
  const std::string before = log();
  Views next(host.dir.path(), kIdentity, host.loop, host.journal, host.names, kQuick);
  CHECK(next.views() == std::vector{view});
  turnUntil(host.loop, [&] { return log() == before + "10.0.0.1:80\n--\n"; });
}

TEST_CASE("views: what fails is told once, tried again, and told when it is well") {
  TestHost host;
  host.push(1, kTwo);
  View view = viewOf(ViewKind::kPlain, "web.txt");
  view.reload = {
      host.program("reload", "echo tried >> $0.log; echo $$ no nginx here; test -e $0.ok\n")};
  View nowhere = viewOf(ViewKind::kPlain, host.dir / "none/web.txt");
  Views views(host.dir.path(), kIdentity, host.loop, host.journal, host.names, kQuick);
  REQUIRE(views.replace({view, nowhere}));
  const auto tries = [&] { return readFile(host.dir / "reload.log").value_or("").size() / 6; };
  turnUntil(host.loop, [&] { return tries() == 6 && host.told().size() == 2; });
  const auto told = host.told();
  const auto has = [&](const std::string& text) {
    return std::any_of(told.begin(), told.end(),
                       [&](const auto& one) { return one.find(text) != std::string::npos; });
  };
  CHECK(has("no nginx here"));
  CHECK(has("No such file or directory"));
  REQUIRE(replaceFile(host.dir / "reload.ok", ""));
  REQUIRE(makeDirs(host.dir / "none"));
  host.push(2, endpoint("web/0", "10.0.0.1", 80));
  turnUntil(host.loop, [&] { return host.told().size() == 4; });
  CHECK(host.told().back().find("written again") != std::string::npos);
  CHECK(readFile(host.dir / "none/web.txt").value_or("") == "10.0.0.1:80\n");
}

TEST_CASE("views: nonsense is refused and changes nothing; a damaged file is told") {
  TestHost host;
  const std::vector<View> good{viewOf(ViewKind::kPlain, "a")};
  {
    Views views(host.dir.path(), kIdentity, host.loop, host.journal, host.names, kQuick);
    REQUIRE(views.replace(good));
    View view = viewOf(ViewKind::kNginx, "a");
    const auto refused = [&](auto change) {
      View bad = view;
      change(bad);
      return !views.replace({bad});
    };
    CHECK(refused([](View& v) { v.path = "../../etc/passwd"; }));
    CHECK(refused([](View& v) { v.path = ""; }));
    CHECK(refused([](View& v) { v.services.clear(); }));
    CHECK(refused([](View& v) { v.name = "a;b"; }));
    CHECK(refused([](View& v) { v.reload = {"nginx"}; }));
    CHECK(refused([](View& v) { v.kind = ViewKind::kHaproxy, v.path = "/s"; }));
    const auto socketOf = [&](size_t length) {
      View haproxy = view;
      haproxy.kind = ViewKind::kHaproxy, haproxy.path = "/" + std::string(length - 1, 's');
      haproxy.servers = {"a"};
      return haproxy;
    };
    CHECK(checkViews({socketOf(107)}));
    CHECK_FALSE(checkViews({socketOf(108)}));  // cut, it is another socket's address
    CHECK(refused(
        [](View& v) { v.kind = ViewKind::kHaproxy, v.path = "/s", v.servers = {"a; shutdown"}; }));
    CHECK(views.views() == good);
  }
  REQUIRE(replaceFile(paths::viewsFile(host.dir.path()), "{}"));
  Views again(host.dir.path(), kIdentity, host.loop, host.journal, host.names, kQuick);
  turnUntil(host.loop, [&] { return host.told().size() == 1; });
  CHECK(host.told()[0].find("views.json") != std::string::npos);
  REQUIRE(again.replace({}));
}

TEST_CASE("views: a HAProxy that is missing, silent or talks for ever keeps nobody waiting") {
  TestHost host;
  host.push(1, kTwo);
  View view = viewOf(ViewKind::kHaproxy, host.dir / "s");
  view.servers = {"s1", "s2"};
  ViewLimits limits = kQuick;
  limits.haproxy_time = Millis(50);
  Views views(host.dir.path(), kIdentity, host.loop, host.journal, host.names, limits);
  REQUIRE(views.replace({view}));
  turnUntil(host.loop, [&] { return host.told().size() == 1; });
  CHECK(host.told()[0].find("No such file") != std::string::npos);
  const Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, view.path.c_str(), sizeof address.sun_path - 1);
  REQUIRE(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  REQUIRE(::listen(listener.get(), 64) == 0);
  turnUntil(host.loop, [&] { return host.told().size() == 2; });
  CHECK(host.told()[1].find("no answer from HAProxy in time") != std::string::npos);
}

}  // namespace cctl::shim
