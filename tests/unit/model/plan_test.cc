#include <doctest/doctest.h>

#include "model/plan.h"

using namespace cctl;

namespace {

Manifest manifestOf(UpgradeOrder order, Batch batch = {1, false}) {
  Manifest manifest;
  manifest.service = ServiceName("s");
  manifest.upgrade.order = order;
  manifest.upgrade.batch = batch;
  return manifest;
}

InstanceId id(int index) { return {ServiceName("s"), index}; }

Placement placementOn(std::vector<std::string> hosts) {
  Placement placement;
  for (size_t i = 0; i < hosts.size(); ++i)
    placement.push_back({id(static_cast<int>(i)), HostName(hosts[i])});
  return placement;
}

ObservedInstance ready(int index, std::string host, std::string version, int generation = 1) {
  ObservedInstance observed;
  observed.id = id(index);
  observed.host = HostName(std::move(host));
  observed.version = Version(std::move(version));
  observed.generation = generation;
  observed.running = observed.ready = observed.current = observed.wanted = true;
  return observed;
}

// "start observe publish drain observe stop", for each wave.
std::vector<std::string> shapes(const Plan& plan) {
  std::vector<std::string> all;
  for (const Wave& wave : plan.waves) {
    std::string shape;
    for (const Step& step : wave.steps)
      shape += (shape.empty() ? "" : " ") + std::string(stepName(step));
    all.push_back(shape);
  }
  return all;
}

using Shapes = std::vector<std::string>;

}  // namespace

TEST_CASE("a first deploy starts everything at once") {
  const Manifest manifest = manifestOf(UpgradeOrder::kStartFirst);
  const Plan plan =
      planRollout({&manifest, Version("1"), placementOn({"a", "b", "c"}), {}, {}, false});
  CHECK(shapes(plan) == Shapes{"start observe publish"});
  CHECK(std::get<StartStep>(plan.waves[0].steps[0]).items.size() == 3);
}

TEST_CASE("replacements go in batches, the new one up before the old one goes, or the other way") {
  Manifest manifest = manifestOf(UpgradeOrder::kStartFirst, {2, false});
  PlanInput input{&manifest, Version("2"), placementOn({"a", "b", "c"}), {}, {}, false};
  input.observed = {ready(0, "a", "1"), ready(1, "b", "1"), ready(2, "c", "1")};
  CHECK(shapes(planRollout(input)) == Shapes{"start observe publish drain observe stop",
                                             "start observe publish drain observe stop"});
  manifest.upgrade.order = UpgradeOrder::kStopFirst;
  manifest.upgrade.batch = {50, true};
  CHECK(shapes(planRollout(input)) == Shapes{"withdraw drain stop start observe publish",
                                             "withdraw drain stop start observe publish",
                                             "withdraw drain stop start observe publish"});
}

TEST_CASE("what is as it should be is left alone, unless forced") {
  const Manifest manifest = manifestOf(UpgradeOrder::kStartFirst);
  PlanInput input{&manifest, Version("1"), placementOn({"a", "b"}), {}, {}, false};
  input.observed = {ready(0, "a", "1"), ready(1, "b", "1")};
  input.observed[0].up_to_date = true;
  Plan plan = planRollout(input);
  CHECK(plan.kept == std::vector{id(0)});
  CHECK(plan.waves.size() == 1);
  input.observed[0].ready = false;
  CHECK(planRollout(input).kept.empty());
  input.observed[0].ready = true;
  input.force = true;
  CHECK(planRollout(input).waves.size() == 2);
}

TEST_CASE("an instance that was stopped by hand is neither started nor replaced") {
  const Manifest manifest = manifestOf(UpgradeOrder::kStartFirst);
  PlanInput input{&manifest, Version("2"), placementOn({"a", "b"}), {ready(0, "a", "1")},
                  {1},       false};
  const Plan plan = planRollout(input);
  CHECK(plan.held == std::vector{id(1)});
  CHECK(plan.waves.size() == 1);
}

TEST_CASE("fewer instances: the ones too many leave the registry, then the host, last of all") {
  const Manifest manifest = manifestOf(UpgradeOrder::kStartFirst);
  PlanInput input{
      &manifest, Version("2"), placementOn({"a"}), {ready(0, "a", "1"), ready(1, "b", "1")},
      {},        false};
  CHECK(shapes(planRollout(input)) ==
        Shapes{"start observe publish drain observe stop", "withdraw drain forget"});
}

TEST_CASE("a moved instance is started at its new place before the old place gives it up") {
  const Manifest manifest = manifestOf(UpgradeOrder::kStartFirst);
  PlanInput input{&manifest, Version("1"), placementOn({"b"}), {ready(0, "a", "1")}, {}, false};
  const Plan plan = planRollout(input);
  CHECK(shapes(plan) == Shapes{"start observe publish", "drain forget"});
}

TEST_CASE(
    "left-overs of an unfinished roll-out: the current generation counts, the other is a stray") {
  const Manifest manifest = manifestOf(UpgradeOrder::kStartFirst);
  PlanInput input{
      &manifest, Version("2"), placementOn({"a"}), {ready(0, "a", "1", 1), ready(0, "a", "2", 2)},
      {},        false};
  input.observed[0].current = false;
  input.observed[1].up_to_date = true;
  const Plan plan = planRollout(input);
  REQUIRE(plan.strays.size() == 1);
  CHECK(plan.strays[0].generation == 1);
  CHECK(plan.kept.size() == 1);
  CHECK(plan.waves.empty());
}

TEST_CASE("left-overs beside what is replaced go with it: one of the two is what is published") {
  const Manifest manifest = manifestOf(UpgradeOrder::kStartFirst);
  PlanInput input{
      &manifest, Version("3"), placementOn({"a"}), {ready(0, "a", "1", 1), ready(0, "a", "2", 2)},
      {},        false};
  input.observed[0].current = false;
  const Plan plan = planRollout(input);
  CHECK(plan.strays.empty());
  REQUIRE(shapes(plan) == Shapes{"start observe publish drain observe stop"});
  const auto& stop = std::get<StopStep>(plan.waves[0].steps.back());
  REQUIRE(stop.items.size() == 2);
  CHECK(stop.items[0].generation == 2);
  CHECK(stop.items[1].generation == 1);
}

TEST_CASE("what is published after each step that changes it") {
  const auto entry = [](int index, const std::string& host) {
    Endpoint endpoint;
    endpoint.instance = id(index);
    endpoint.host = HostName(host);
    return endpoint;
  };
  const Endpoint a = entry(0, "a"), b = entry(1, "b"), a2 = entry(0, "c");
  const std::map<InstanceId, Endpoint> fresh = {{id(0), a2}, {id(1), b}};
  Plan plan;
  plan.waves.push_back(
      {"", {WithdrawStep{{id(0)}}, StopStep{}, PublishStep{{id(0)}}, PublishStep{{id(1)}}}});
  using Stages = std::vector<std::vector<Endpoint>>;
  CHECK(endpointStages(plan, {a, b}, fresh) == Stages{{b}, {a2, b}});  // the last changes nothing
  CHECK(endpointStages(plan, {}, fresh) == Stages{{a2}, {a2, b}});
  CHECK(endpointStages({}, {a, b}, fresh).empty());
}

TEST_CASE("the canary goes first, then the batches; a first deploy has one too") {
  Manifest manifest = manifestOf(UpgradeOrder::kStartFirst, {2, false});
  manifest.upgrade.canary = Batch{1, false};
  manifest.upgrade.observe = Millis(5000);
  PlanInput input{&manifest, Version("2"), placementOn({"a", "b", "c", "d"}), {}, {}, false};
  Plan plan = planRollout(input);
  REQUIRE(plan.waves.size() == 2);
  CHECK(plan.waves[0].canary);
  CHECK(std::get<StartStep>(plan.waves[0].steps[0]).items.size() == 1);
  CHECK(std::get<StartStep>(plan.waves[1].steps[0]).items.size() == 3);
  input.observed = {ready(0, "a", "1"), ready(1, "b", "1"), ready(2, "c", "1"), ready(3, "d", "1")};
  plan = planRollout(input);
  REQUIRE(plan.waves.size() == 3);
  CHECK(plan.waves[0].canary);
  CHECK_FALSE(plan.waves[1].canary);
  CHECK(std::get<StartStep>(plan.waves[0].steps[0]).items.size() == 1);
  CHECK(std::get<StartStep>(plan.waves[1].steps[0]).items.size() == 2);
  CHECK(std::get<ObserveStep>(plan.waves[0].steps[1]).duration == Millis(5000));
  const auto& drain = std::get<DrainStep>(plan.waves[0].steps[3]);
  CHECK(drain.most == manifest.upgrade.drain);
  CHECK(drain.items == std::vector<OldGeneration>{{id(0), HostName("a"), 1, true}});
}

TEST_CASE("a drain is never shorter than what readers need to hear of a withdrawal") {
  Manifest manifest = manifestOf(UpgradeOrder::kStartFirst);
  manifest.upgrade.drain = Millis(0);
  PlanInput input{&manifest, Version("2"), placementOn({"a"}), {ready(0, "a", "1")}, {}, false};
  CHECK(std::get<DrainStep>(planRollout(input).waves[0].steps[3]).most == kLeastDrain);
}

TEST_CASE("a restart is rolling: out of the registry, drained, restarted, observed, in again") {
  Manifest manifest = manifestOf(UpgradeOrder::kStartFirst, {50, true});
  manifest.ports = {{"main", std::nullopt, false}};
  manifest.upgrade.canary = Batch{1, false};
  RestartInput input{&manifest, {}, 4, 0};
  for (int i = 0; i < 4; ++i) input.instances.push_back(ready(i, "h" + std::to_string(i), "1", 7));
  const Plan plan = planRestart(input);
  CHECK(shapes(plan) == Shapes{"withdraw drain restart observe publish",
                               "withdraw drain restart observe publish",
                               "withdraw drain restart observe publish"});
  CHECK(plan.waves[0].canary);
  CHECK(std::get<RestartStep>(plan.waves[1].steps[2]).items.size() == 2);
  CHECK(std::get<RestartStep>(plan.waves[1].steps[2]).items[0].generation == 7);
}

TEST_CASE("the only instance stays published over its restart when its sockets are passed on") {
  Manifest manifest = manifestOf(UpgradeOrder::kStartFirst);
  manifest.ports = {{"main", std::nullopt, true}};
  RestartInput input{&manifest, {ready(0, "a", "1")}, 1, 0};
  CHECK(shapes(planRestart(input)) == Shapes{"restart observe publish"});
  input.published_beside = 1;
  CHECK(shapes(planRestart(input)) == Shapes{"withdraw drain restart observe publish"});
  manifest.ports.push_back({"admin", std::nullopt, false});
  input.published_beside = 0;
  CHECK(shapes(planRestart(input)) == Shapes{"withdraw drain restart observe publish"});
}

TEST_CASE("a step falls into the part of some instances and the rest") {
  const Step step = WithdrawStep{{id(0), id(1), id(2)}};
  CHECK(std::get<WithdrawStep>(onlyOf(step, {id(1)})).items == std::vector{id(1)});
  CHECK(std::get<WithdrawStep>(without(step, {id(1)})).items == std::vector{id(0), id(2)});
  CHECK(isEmpty(onlyOf(step, {id(7)})));
}

TEST_CASE("the title of a wave folds the instances that the same is done to") {
  const Manifest manifest = manifestOf(UpgradeOrder::kStartFirst, {20, false});
  Placement placement;
  PlanInput input{&manifest, Version("2"), {}, {}, {}, false};
  for (int i = 0; i < 20; ++i) {
    const std::string host = fmt::format("host{}", i + 1);
    input.placement.push_back({id(i), HostName(host)});
    input.observed.push_back(ready(i, host, i == 7 ? "2" : "1"));
  }
  const Plan plan = planRollout(input);
  REQUIRE(plan.waves.size() == 1);
  CHECK(plan.waves[0].title == "s/[0-6,8-19] on host[1-7,9-20]: 1 → 2; s/7 on host8: renew 2");
}
