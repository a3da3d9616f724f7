#include "ops/saved_plan.h"

#include <doctest/doctest.h>

using namespace cctl;
using namespace cctl::ops;
using Lines = std::vector<std::string>;

namespace {

ClusterPlan planOf(int generation = 1) {
  ServicePlan service;
  service.service = ServiceName("s");
  service.version = Version("1");
  service.release_digest = "abc";
  service.desired_revision = 3;
  ObservedInstance one;
  one.id = {ServiceName("s"), 0};
  one.host = HostName("a");
  one.generation = generation;
  one.running = one.current = true;
  service.planned.observed = {one};
  service.planned.placement = {{one.id, one.host}};
  ClusterPlan plan;
  plan.services = {service};
  return plan;
}

const PlanOrigin kOrigin{"demo", "digest", "", "alice@ws1", {}};

Lines changed(const ClusterPlan& now, const PlanOrigin& origin = kOrigin) {
  return changedSince(encodePlan(planOf(), kOrigin), now, origin).value();
}

}  // namespace

TEST_CASE("a saved plan holds while nothing changes, whoever carries it out and when") {
  PlanOrigin later = kOrigin;
  later.by = "bob@ws2";
  later.at = WallTime(Millis(1'700'000'000'000));
  CHECK(changed(planOf(), later).empty());
}

TEST_CASE("history on a host is no change of it") {
  ClusterPlan now = planOf();
  ObservedInstance old = now.services[0].planned.observed[0];
  old.running = old.current = false;
  now.services[0].planned.observed.push_back(old);
  CHECK(changed(now).empty());
}

TEST_CASE("each thing that a plan rests on makes it stale") {
  CHECK(changed(planOf(2)) == Lines{"s: what runs on the hosts"});
  PlanOrigin edited = kOrigin;
  edited.inventory_digest = "other";
  CHECK(changed(planOf(), edited) == Lines{"the files of the inventory"});
  ClusterPlan now = planOf();
  now.services[0].desired_revision = 4;
  CHECK(changed(now) == Lines{"s: what should run was changed"});
  now = planOf();
  now.drained = {HostName("b")};
  CHECK(changed(now) == Lines{"which hosts are drained"});
  now = planOf();
  now.services[0].service = ServiceName("t");
  CHECK(changed(now) == Lines{"t: it was not in the plan", "\"s\" is not there any more"});
}

TEST_CASE("a file that is no plan is refused, whatever is in it") {
  for (const char* text : {"", "{", "[]", "{}", R"({"kind":"clusterctl-plan"})",
                           R"({"kind":"clusterctl-plan","format":2,"scope":"","services":[]})",
                           R"({"kind":"clusterctl-plan","format":1,"scope":"","services":{}})"})
    CHECK(scopeOfSaved(text).error().code == Code::kBadInput);
  const char* odd =
      R"({"kind":"clusterctl-plan","format":1,"scope":"","services":[1,{"service":7}]})";
  CHECK_FALSE(changedSince(odd, planOf(), kOrigin).value().empty());
}
