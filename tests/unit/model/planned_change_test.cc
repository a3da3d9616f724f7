#include "model/planned_change.h"

#include <doctest/doctest.h>

using namespace cctl;

namespace {

InstanceId id(int index) { return {ServiceName("s"), index}; }
Placed at(int index, const char* host) { return {id(index), HostName(host)}; }

ObservedInstance running(int index, const char* host, bool up_to_date = true) {
  ObservedInstance one;
  one.id = id(index);
  one.host = HostName(host);
  one.generation = 1;
  one.version = Version("1");
  one.running = one.ready = one.current = one.wanted = true;
  one.up_to_date = up_to_date;
  if (!up_to_date) one.difference = {{"config app.conf"}, {{"app.conf", "a\n", "b\n"}}};
  return one;
}

struct Planned {
  Manifest manifest;
  PlanInput input;
  Plan plan;
};

Planned planned(Placement placement, std::vector<ObservedInstance> observed) {
  Planned all;
  all.manifest.service = ServiceName("s");
  all.input.version = Version("1");
  all.input.placement = std::move(placement);
  all.input.observed = std::move(observed);
  all.input.manifest = &all.manifest;
  all.plan = planRollout(all.input);
  all.input.manifest = nullptr;  // changes are told without it
  return all;
}

// "replace s/0 on a: config app.conf"
std::vector<std::string> told(const Planned& all) {
  std::vector<std::string> lines;
  for (const PlannedChange& change : changesOf(all.input, all.plan))
    lines.push_back(fmt::format("{} {} on {}: {}", changeName(change.kind), change.id, change.host,
                                fmt::join(change.why, ", ")));
  return lines;
}

using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE("each change is told with its reason") {
  CHECK(told(planned({at(0, "a")}, {})) == Lines{"start s/0 on a: not there yet"});
  CHECK(told(planned({at(0, "a")}, {running(0, "a", false)})) ==
        Lines{"replace s/0 on a: config app.conf"});
  CHECK(told(planned({at(0, "b")}, {running(0, "a")})) ==
        Lines{"move s/0 on b: it belongs on b now"});
  CHECK(told(planned({at(0, "a")}, {running(0, "a"), running(1, "a")})) ==
        Lines{"remove s/1 on a: only 1 wanted"});
  CHECK(told(planned({at(0, "b")}, {running(0, "a"), running(0, "b")})) ==
        Lines{"stop-stray s/0 on a: it belongs on b now"});
  ObservedInstance stopped = running(0, "a");
  stopped.running = stopped.ready = false;
  CHECK(told(planned({at(0, "a")}, {stopped})) == Lines{"start s/0 on a: it does not run"});
  CHECK(told(planned({at(0, "a")}, {running(0, "a")})).empty());
}

TEST_CASE("a change carries the files that differ or are new, a stray its generation") {
  const Planned config = planned({at(0, "a")}, {running(0, "a", false)});
  CHECK(changesOf(config.input, config.plan)[0].files ==
        std::vector<FileDifference>{{"app.conf", "a\n", "b\n"}});
  for (const auto& [place, observed] :
       {std::pair("a", std::vector<ObservedInstance>{}),
        std::pair("b", std::vector<ObservedInstance>{running(0, "a", false)})}) {
    Planned fresh = planned({at(0, place)}, observed);
    const std::vector<FileDifference> files = {{"app.conf", "", "c\n", true}};
    fresh.input.new_files[InstanceId{ServiceName("s"), 0}] = files;
    CHECK(changesOf(fresh.input, fresh.plan)[0].files == files);
  }
  ObservedInstance stray = running(0, "a");
  stray.generation = 2;
  stray.current = false;
  const Planned strays = planned({at(0, "a")}, {running(0, "a"), stray});
  CHECK(told(strays) ==
        Lines{"stop-stray s/0 on a: generation 2 is left over from a roll-out that did not end"});
  stray.version = Version("0");
  const Planned beside = planned({at(0, "a")}, {running(0, "a", false), stray});
  const std::vector<PlannedChange> changes = changesOf(beside.input, beside.plan);
  REQUIRE(changes.size() == 2);
  CHECK(changes[0].kind == ChangeKind::kStray);  // stops first, as the manifest says
  CHECK(changes[0].version == Version("0"));
  CHECK(changes[1].kind == ChangeKind::kReplace);
}

TEST_CASE("a plan stays within another when it does nothing that the other does not") {
  const Planned both = planned({at(0, "a"), at(1, "b")}, {running(0, "a", false)});
  const Planned less = planned({at(0, "a"), at(1, "b")}, {running(0, "a")});
  CHECK(beyond(less.input, less.plan, both.input, both.plan).empty());
  CHECK(beyond(both.input, both.plan, less.input, less.plan) == Lines{"replace s/0 on a"});
  CHECK(beyond(both.input, both.plan, both.input, both.plan).empty());
}

TEST_CASE("the same change on another host or to another version is beyond") {
  const Planned a = planned({at(0, "a")}, {});
  const Planned b = planned({at(0, "b")}, {});
  CHECK(beyond(b.input, b.plan, a.input, a.plan) == Lines{"start s/0 on b"});
  Planned other = planned({at(0, "a")}, {});
  other.input.version = Version("2");
  CHECK(beyond(other.input, other.plan, a.input, a.plan) == Lines{"start s/0 on a"});
}
