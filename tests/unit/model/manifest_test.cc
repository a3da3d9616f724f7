#include "model/manifest.h"

#include <doctest/doctest.h>

#include "unit/model/inventory_fixture.h"

using namespace cctl;
using namespace cctl::fixture;

namespace {

const char kFull[] = R"(service: sudoku-solver
place: {group: solvers, count: 3, spread: rack}
run: [bin/sudoku-solver, --port, "{{port.main}}", --conf, "{{conf_dir}}/solver.conf"]
ports: {main: auto, admin: auto}
config: [{template: solver.conf.mustache, path: solver.conf, mode: "0640"}]
depends_on: [puzzle-store]
env: {THREADS: "4"}
user: nobody
umask: 027
limits: {nofile: 65536, core: unlimited, nproc: 4096, memlock: unlimited, stack: 16M}
health:
  ready: {http: "admin:/healthz"}
  start_timeout: 45s
restart: {policy: on-failure, backoff: 200ms..20s, limit: "5 in 2m"}
stop: {signal: INT, grace: 3s}
boot: start
upgrade: {canary: 10%, batch: 25%, order: stop-first, drain: 2s, observe: 5s, max_failures: 1,
          max_unreachable: 2}
on_change: {puzzle-store: reload}
logs: {max_size: 32M, keep: 7}
vars: {depth: 3}
)";

Inventory fullInventory() {
  return mustLoad(
      MemoryFiles({{"inv/cluster.yaml", kCluster},
                   {"inv/services/sudoku-solver.yaml", kFull},
                   {"inv/services/puzzle-store.yaml",
                    "service: puzzle-store\nplace: {hosts: [host4]}\nrun: [bin/store]\n"},
                   {"inv/templates/solver.conf.mustache",
                    "{{#services.puzzle-store}}{{address}}{{/services.puzzle-store}}"}}));
}

// The problems of a manifest that is sound but for these lines; each without its place.
std::string problemsWith(const std::string& lines) {
  std::string manifest = lines + "\n";
  const auto lacks = [&](const char* key) {
    return manifest.find(key) != 0 && manifest.find("\n" + std::string(key)) == std::string::npos;
  };
  if (lacks("service:")) manifest += "service: s\n";
  if (lacks("place:")) manifest += "place: {hosts: [host1]}\n";
  if (lacks("run:")) manifest += "run: [bin/s]\n";
  std::string text;
  for (const Problem& problem : load(kCluster, manifest).problems)
    text += problem.hint.empty() ? problem.message + "\n"
                                 : problem.message + "; " + problem.hint + "\n";
  return text;
}

Manifest read(const std::string& lines) {
  return mustLoad(kCluster, "service: s\nplace: {hosts: [host1]}\nrun: [bin/s]\n" + lines)
      .services.at(ServiceName("s"));
}

}  // namespace

TEST_CASE("the interface's manifest, as far as this build enforces it") {
  const Inventory inventory = fullInventory();
  const Manifest& m = inventory.services.at(ServiceName("sudoku-solver"));
  CHECK(m.place.group == "solvers");
  CHECK(m.place.count == 3);
  CHECK(m.place.spread == "rack");
  CHECK(m.run.size() == 5);
  CHECK(m.run[2].text == "{{port.main}}");
  CHECK(m.ports.size() == 2);
  CHECK(m.allPortsShareable());
  CHECK(m.config[0].mode == 0640);
  CHECK(m.depends_on == std::vector{ServiceName("puzzle-store")});
  CHECK(m.env.at("THREADS").text == "4");
  CHECK(m.user == "nobody");
  CHECK(m.limits.nofile == 65536);
  CHECK(m.limits.core == Limits::kUnlimited);
  CHECK(m.limits.nproc == 4096);
  CHECK(m.limits.memlock == Limits::kUnlimited);
  CHECK(m.limits.stack == 16u << 20);
  CHECK(m.umask == 027);
  CHECK(std::get<HttpProbe>(m.health.ready).port == "admin");
  CHECK(std::get<HttpProbe>(m.health.ready).path == "/healthz");
  CHECK(m.health.start_timeout == Millis(45'000));
  CHECK(m.restart.policy == RestartPolicy::kOnFailure);
  CHECK(m.restart.backoff_first == Millis(200));
  CHECK(m.restart.backoff_most == Millis(20'000));
  CHECK(m.restart.limit_count == 5);
  CHECK(m.restart.limit_window == Millis(120'000));
  CHECK(m.stop.signal == 2);
  CHECK(m.stop.grace == Millis(3000));
  CHECK(m.upgrade.batch.value == 25);
  CHECK(m.upgrade.batch.percent);
  CHECK(m.upgrade.order == UpgradeOrder::kStopFirst);
  CHECK(m.upgrade.drain == Millis(2000));
  CHECK(m.upgrade.canary->of(20) == 2);
  CHECK(m.upgrade.observe == Millis(5000));
  CHECK(m.upgrade.max_failures == 1);
  CHECK(m.upgrade.max_unreachable == 2);
  CHECK(m.on_change.at(ServiceName("puzzle-store")) == OnChange::kReload);
  CHECK(m.logs.max_size == 32u << 20);
  CHECK(m.logs.keep == 7);
  CHECK(m.vars.at("depth").text() == "3");
}

TEST_CASE("defaults of a manifest") {
  const Manifest m = read("");
  CHECK(std::holds_alternative<NoProbe>(m.health.ready));
  CHECK(m.health.start_timeout == Millis(30'000));
  CHECK(m.restart.policy == RestartPolicy::kAlways);
  CHECK(m.stop.signal == 15);
  CHECK(m.upgrade.batch.of(10) == 1);
  CHECK_FALSE(m.upgrade.canary);
  CHECK_FALSE(read("upgrade: {canary: 0}").upgrade.canary);
  CHECK(m.upgrade.observe == Millis(0));
  CHECK_FALSE(m.limits.nofile);
  CHECK_FALSE(m.limits.stack);
  CHECK_FALSE(m.umask);
  CHECK(m.user.empty());
}

TEST_CASE("the default order is start-first unless a port is fixed") {
  CHECK(read("").upgrade.order == UpgradeOrder::kStartFirst);
  CHECK(read("ports: {main: auto}").upgrade.order == UpgradeOrder::kStartFirst);
  CHECK(read("ports: {main: 8080, admin: auto}").upgrade.order == UpgradeOrder::kStopFirst);
  CHECK(problemsWith("ports: {main: 8080}\nupgrade: {order: start-first}") ==
        "upgrade.order: start-first, but a port is a fixed number that two cannot hold at once; "
        "make the port auto or {socket: true}, or write stop-first\n");
}

TEST_CASE("a port that the shim binds is one for all generations, whatever its number") {
  const Manifest m = read("ports: {main: {socket: true, port: 8080}, admin: {socket: true}}");
  CHECK(m.findPort("main")->socket);
  CHECK(m.findPort("main")->fixed == 8080);
  CHECK(m.findPort("admin")->socket);
  CHECK(m.findPort("admin")->isAuto());
  CHECK(m.upgrade.order == UpgradeOrder::kStartFirst);
  CHECK(read("ports: {main: {socket: true, port: auto}}\nupgrade: {order: start-first}")
            .ports[0]
            .isAuto());
  const Manifest plain = read("ports: {main: {socket: false, port: 8080}, admin: {port: auto}}");
  CHECK_FALSE(plain.findPort("main")->socket);
  CHECK(plain.upgrade.order == UpgradeOrder::kStopFirst);
}

TEST_CASE("liveness") {
  const Manifest none = read("");
  CHECK_FALSE(none.health.live);
  const Manifest plain = read("ports: {a: auto}\nhealth: {live: {http: 'a:/x'}}");
  CHECK(std::get<HttpProbe>(plain.health.live->probe).path == "/x");
  CHECK(plain.health.live->interval == Millis(1000));
  CHECK(plain.health.live->timeout == Millis(500));
  CHECK(plain.health.live->failures == 3);
  const Manifest full = read(
      "health: {ready: {notify: true}, live: {exec: [bin/c, '{{service}}'], interval: 2s, "
      "timeout: 1s, failures: 5}}");
  CHECK(std::holds_alternative<NotifyProbe>(full.health.ready));
  CHECK(std::get<ExecProbe>(full.health.live->probe).argv[1].text == "{{service}}");
  CHECK(full.health.live->interval == Millis(2000));
  CHECK(full.health.live->timeout == Millis(1000));
  CHECK(full.health.live->failures == 5);
  CHECK(std::holds_alternative<NotifyProbe>(
      read("health: {live: {notify: true, interval: 5s}}").health.live->probe));
}

TEST_CASE("limits on memory and processors") {
  const Limits limits = read("limits: {memory: 512M, cpu: 0.5}").limits;
  CHECK(limits.memory == uint64_t{512} << 20);
  CHECK(limits.cpu == 500);
  CHECK(read("limits: {cpu: 2}").limits.cpu == 2000);
  CHECK(read("limits: {cpu: 1.25}").limits.cpu == 1250);
  CHECK(read("limits: {cpu: 0.01}").limits.cpu == 10);
  CHECK_FALSE(read("").limits.memory);
  CHECK_FALSE(read("").limits.cpu);
}

TEST_CASE("batches are at least one and percentages round down") {
  CHECK(Batch{25, true}.of(10) == 2);
  CHECK(Batch{25, true}.of(3) == 1);
  CHECK(Batch{100, true}.of(3) == 3);
  CHECK(Batch{4, false}.of(3) == 4);
}

TEST_CASE("probes") {
  CHECK(std::get<TcpProbe>(read("ports: {a: auto}\nhealth: {ready: {tcp: a}}").health.ready).port ==
        "a");
  CHECK(std::get<ExecProbe>(
            read("health: {ready: {exec: [bin/check, '{{instance.index}}']}}").health.ready)
            .argv.size() == 2);
}

TEST_CASE("known keys that this build does not enforce are refused by name") {
  for (const char* lines : {"failover: {after: 5s, to: spare}", "boot: wait", "singleton: true"}) {
    const std::string problems = problemsWith(lines);
    CHECK_MESSAGE(problems.find("is known, but not enforced by this build; remove it until a later "
                                "version enforces it") != std::string::npos,
                  lines, " → ", problems);
    CHECK_MESSAGE(problems.find("unknown key") == std::string::npos, problems);
  }
}

TEST_CASE("mistakes in a manifest") {
  const std::pair<const char*, const char*> cases[] = {
      {"service: Sudoku", "\"Sudoku\" is not a service name"},
      {"service: [a]", "service: a list where a single value belongs"},
      {"service:", "service: nothing where a single value belongs"},
      {"plaec: {}", "unknown key \"plaec\"; did you mean \"place\"?"},
      {"place: {}", "place has no hosts"},
      {"place: {group: solvers, hosts: [host1]}", "place has both group and hosts"},
      {"place: {group: solvers, count: 2, per_host: 2}", "both count and per_host"},
      {"place: {hosts: [host1], count: 2}", "place.count goes with a group"},
      {"place: {hosts: [host1], spread: rack}", "place.spread goes with a group"},
      {"place: {hosts: [host1, host1]}", "host1 is named twice"},
      {"place: {group: solvers, count: 0}", "\"0\" is not a whole number from 1 to 10000"},
      {"place: {group: solvers, count: -1}", "\"-1\" is not a whole number"},
      {"place: {group: solvers, count: 2.5}", "\"2.5\" is not a whole number"},
      {"place: {group: solvers, count: 99999999999999999999}", "is not a whole number"},
      {"place: host1", "place: a single value where a map"},
      {"run: bin/s", "run: a single value where a list belongs; write like [bin/server"},
      {"run: []", "run: names no program"},
      {"run: ['']", "run: names no program"},
      {"run: [../x]", "run: the program's path leaves the release"},
      {"run: [bin/../../x]", "leaves the release"},
      {"run: [[x]]", "a list where a single value belongs"},
      {"ports: {main: 0}", "ports.main: \"0\" is not a port; write auto, or a number"},
      {"ports: {main: 65536}", "is not a port"},
      {"ports: {main: +80}", "is not a port"},
      {"ports: {main: 0x50}", "is not a port"},
      {"ports: {main: }", "ports.main: nothing where a single value belongs"},
      {"ports: {main: {}}", "ports.main: says neither socket nor port; write auto, a number, or"},
      {"ports: {main: {socket: yes}}", "ports.main.socket: \"yes\" is not one of true, false"},
      {"ports: {main: {socket: true, port: 0}}", "ports.main.port: \"0\" is not a port"},
      {"ports: {main: {socket: true, port: [1]}}", "ports.main.port: a list where a single value"},
      {"ports: {main: {sokcet: true}}", "did you mean \"socket\"?"},
      {"ports: {a: 80, b: {socket: true, port: 80}}", "ports.b.port: a is port 80 already"},
      {"ports: {a: {port: 80}}\nupgrade: {order: start-first}", "two cannot hold at once"},
      {"ports: {main: {port: 1, x: 2}}", "unknown key \"ports.main.x\""},
      {"ports: {'a b': auto}", "is not a port's name"},
      {"ports: {a-b: auto, a_b: auto}", "would both be PORT_A_B"},
      {"ports: {a: 80, b: 80}", "ports.b: a is port 80 already"},
      {"ports: [main]", "ports: a list where a map"},
      {"config: {template: a, path: b}", "config: a map where a list belongs"},
      {"config: [{template: a}]", "config.path is missing"},
      {"config: [{path: a}]", "config.template is missing"},
      {"config: [{template: a, path: /etc/passwd}]", "leaves the conf directory"},
      {"config: [{template: a, path: ../x}]", "leaves the conf directory"},
      {"config: [{template: a, path: a/../../x}]", "leaves the conf directory"},
      {"config: [{template: a, path: a/}]", "leaves the conf directory"},
      {"config: [{template: a, path: b, mode: 640}, {template: a, path: b}]", "b is written twice"},
      {"config: [{template: a, path: b, mode: 0999}]", "is not a file mode"},
      {"config: [{template: a, path: b, mode: 4755}]", "is not a file mode"},
      {"config: [{template: a, path: b, mode: rw}]", "is not a file mode"},
      {"config: [{template: a, path: b, owner: x}]", "unknown key \"config.owner\""},
      {"depends_on: [A]", "is not a service name"},
      {"depends_on: a", "depends_on: a single value where a list"},
      {"depends_on: [t, t]", "depends_on: t is named twice"},
      {"env: {1A: x}", "\"1A\" is not a variable's name"},
      {"env: {A-B: x}", "is not a variable's name"},
      {"env: {A=B: x}", "is not a variable's name"},
      {"env: {CLUSTERCTL_HOST: x}", "is set by clusterctl"},
      {"env: {LISTEN_FDS: x}", "is set by clusterctl"},
      {"env: {A: [x]}", "env.A: a list where a single value belongs"},
      {"env: {A: '{{nope}}'}", "unknown name \"nope\""},
      {"env: {A: '{{port.main}}'}", "unknown name \"port.main\"; name that port in ports"},
      {"env: {A: '{{#services.x}}{{/services.x}}'}", "name that service in depends_on"},
      {"user: -x", "is not a user name"},
      {"user: 'a b'", "is not a user name"},
      {"limits: {nofile: many}", "is not a whole number"},
      {"limits: {nproc: 0}", "limits.nproc"},
      {"limits: {stack: 1K}", "limits.stack"},
      {"umask: 088", "\"088\" is not an octal number from 000 to 777"},
      {"umask: 1000", "is not an octal number"},
      {"umask: -1", "is not an octal number"},
      {"umask: {}", "umask"},
      {"limits: {nofil: 1}", "did you mean \"nofile\"?"},
      {"limits: {core: 5X}", "\"5X\" is not a size"},
      {"limits: {memory: lots}", "\"lots\" is not a size"},
      {"limits: {memory: 1K}", "limits.memory: 1.0 KiB is not between 1.0 MiB and"},
      {"limits: {memory: [1M]}", "limits.memory: a list where a single value belongs"},
      {"limits: {cpu: 0}", "0 is not between 0.01 and 4096 processors"},
      {"limits: {cpu: 0.001}", "is not between 0.01 and 4096"},
      {"limits: {cpu: -1}", "\"-1\" is not a number of processors; write like 2 or 0.5"},
      {"limits: {cpu: 1.}", "\"1.\" is not a number of processors"},
      {"limits: {cpu: .5}", "\".5\" is not a number of processors"},
      {"limits: {cpu: 1.2345}", "is not a number of processors"},
      {"limits: {cpu: 1e3}", "is not a number of processors"},
      {"limits: {cpu: 4096.5}", "is not between"},
      {"limits: {cpu: 50%}", "is not a number of processors"},
      {"limits: {cpu: 99999999999999999999}", "is not a number of processors"},
      {"health: {ready: {}}", "health.ready wants one probe"},
      {"health: {ready: {tcp: a, exec: [x]}}", "health.ready wants one probe"},
      {"health: {ready: {tcp: main}}", "the service has no port \"main\"; add it to ports"},
      {"ports: {main: auto}\nhealth: {ready: {tcp: mian}}", "did you mean \"main\"?"},
      {"health: {ready: {http: admin}}", "is not a port's name and a path"},
      {"health: {ready: {http: 'admin:healthz'}}", "is not a port's name and a path"},
      {"health: {ready: {http: ':/x'}}", "is not a port's name and a path"},
      {"ports: {a: auto}\nhealth: {ready: {http: \"a:/x\\r\\ny\"}}",
       "is not a port's name and a path"},
      {"health: {ready: {exec: []}}", "health.ready.exec: names no program"},
      {"health: {ready: {notify: false}}", "health.ready.notify: false is no probe; write true"},
      {"health: {ready: {notify: 1}}", "health.ready.notify: \"1\" is not one of true, false"},
      {"health: {ready: {notify: true, exec: [x]}}", "health.ready wants one probe"},
      {"health: {live: {}}", "health.live wants one probe; write one of {tcp: main}"},
      {"health: {live: {interval: 1s}}", "health.live wants one probe"},
      {"health: {live: tcp}", "health.live: a single value where a map"},
      {"health: {live: {tcp: main}}", "health.live: the service has no port \"main\"; add it"},
      {"ports: {main: auto}\nhealth: {live: {http: 'mian:/x'}}", "did you mean \"main\"?"},
      {"health: {live: {exec: []}}", "health.live.exec: names no program"},
      {"health: {live: {exec: ['{{nope}}']}}", "unknown name \"nope\""},
      {"health: {live: {exec: [x], interval: 0s}}",
       "health.live.interval: 0ms is not between 50ms"},
      {"health: {live: {exec: [x], timeout: 0ms}}", "health.live.timeout: 0ms is not between 10ms"},
      {"health: {live: {exec: [x], timeout: 2h}}", "is not between 10ms and 1h"},
      {"health: {live: {exec: [x], failures: 0}}", "\"0\" is not a whole number from 1 to 1000"},
      {"health: {live: {exec: [x], failure: 1}}", "did you mean \"failures\"?"},
      {"health: {live: {notify: true, timeout: 1s}}", "health.live.timeout goes with tcp, http"},
      {"health: {start_timeout: 1ms}", "1ms is not between 100ms and 1d"},
      {"health: {start_timeout: 30}", "\"30\" is not a duration"},
      {"health: ready", "health: a single value where a map"},
      {"restart: {policy: sometimes}", "is not one of always, on-failure, never"},
      {"restart: {policy: alway}", "did you mean \"always\"?"},
      {"restart: {backoff: 30s..1s}", "does not rise"},
      {"restart: {backoff: 0ms..1s}", "does not rise"},
      {"restart: {backoff: x}", "is not a duration"},
      {"restart: {limit: 10}", "is not a limit; write like \"10 in 1m\""},
      {"restart: {limit: '0 in 1m'}", "is not a limit"},
      {"restart: {limit: '10 in 0s'}", "is not between"},
      {"restart: {limit: '10 in x'}", "is not a duration"},
      {"stop: {signal: TREM}", "did you mean TERM?"},
      {"stop: {grace: 2d}", "2d is not between 0ms and 1d"},
      {"upgrade: {batch: 0}", "is neither a number of instances nor a percentage"},
      {"upgrade: {batch: 101%}", "is neither"},
      {"upgrade: {canary: -1}", "is neither"},
      {"upgrade: {max_failures: 50%}", "upgrade.max_failures"},
      {"upgrade: {observe: fast}", "upgrade.observe"},
      {"upgrade: {batch: '%'}", "is neither"},
      {"upgrade: {batch: 2 %}", "is neither"},
      {"upgrade: {order: startfirst}", "did you mean \"start-first\"?"},
      {"boot: never", "is not one of start"},
      {"on_change: {t: reload}", "on_change: \"t\" is not in depends_on"},
      {"depends_on: [t]\non_change: {t: relod}", "did you mean \"reload\"?"},
      {"logs: {max_size: 1K}", "is not between 4.0 KiB and"},
      {"logs: {keep: -1}", "is not a whole number"},
      {"vars: {a.b: 1}", "is not a variable's name"},
  };
  for (const auto& one : cases) {
    const auto& lines = one.first;
    const auto& with = one.second;
    const std::string problems = problemsWith(lines);
    CHECK_MESSAGE(problems.find(with) != std::string::npos, lines, " → ", problems);
  }
}

TEST_CASE("many mistakes in one manifest all come at once, with their places") {
  CHECK(manifestProblems("service: s\n"
                         "place: {group: solvers, count: x}\n"
                         "run: [bin/s, '{{vars.x}}']\n"
                         "ports: {main: 99999}\n"
                         "restart: {policy: x, backof: 1s}\n") ==
        "inv/services/s.yaml:2:32: place.count: \"x\" is not a whole number from 1 to 10000\n"
        "inv/services/s.yaml:3:14: unknown name \"vars.x\"; define it, or remove the tag\n"
        "inv/services/s.yaml:4:15: ports.main: \"99999\" is not a port; write auto, or a number "
        "from 1 to 65535\n"
        "inv/services/s.yaml:5:19: restart.policy: \"x\" is not one of always, on-failure, never; "
        "write one of these\n"
        "inv/services/s.yaml:5:22: unknown key \"restart.backof\"; did you mean \"backoff\"?\n");
}

TEST_CASE("mistakes in liveness, limits and sockets come with their places") {
  CHECK(
      manifestProblems("service: s\n"
                       "place: {hosts: [host1]}\n"
                       "run: [bin/s]\n"
                       "ports: {main: {socket: 1, port: x}}\n"
                       "limits: {memory: 5, cpu: x}\n"
                       "health: {live: {tcp: nain, interval: 1}}\n") ==
      "inv/services/s.yaml:4:24: ports.main.socket: \"1\" is not one of true, false; write one of "
      "these\n"
      "inv/services/s.yaml:4:33: ports.main.port: \"x\" is not a port; write auto, or a number "
      "from 1 to 65535\n"
      "inv/services/s.yaml:5:18: limits.memory: 5 B is not between 1.0 MiB and 16384.0 GiB\n"
      "inv/services/s.yaml:5:26: limits.cpu: \"x\" is not a number of processors; write like 2 or "
      "0.5\n"
      "inv/services/s.yaml:6:22: health.live: the service has no port \"nain\"; did you mean "
      "\"main\"?\n"
      "inv/services/s.yaml:6:38: health.live.interval: \"1\" is not a duration like 500ms, 5s, "
      "10m or 2h\n");
}

TEST_CASE("a fixed port inside the pool draws a warning") {
  const LoadedInventory loaded =
      load(kCluster, "service: s\nplace: {hosts: [host1]}\nrun: [x]\nports: {main: 21005}\n");
  CHECK(loaded.ok());
  CHECK(textOf(loaded.warnings) ==
        "inv/services/s.yaml:4:15: ports.main: 21005 lies in the pool for auto ports, 21000-29999; "
        "another service may hold it: choose one outside\n");
}
