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

// "start publish drain stop", for each wave.
std::vector<std::string> shapes(const Plan& plan) {
  constexpr const char* kNames[] = {"start", "publish", "withdraw", "drain", "stop", "forget"};
  std::vector<std::string> all;
  for (const Wave& wave : plan.waves) {
    std::string shape;
    for (const Step& step : wave.steps)
      shape += (shape.empty() ? "" : " ") + std::string(kNames[step.index()]);
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
  CHECK(shapes(plan) == Shapes{"start publish"});
  CHECK(std::get<StartStep>(plan.waves[0].steps[0]).items.size() == 3);
}

TEST_CASE("replacements go in batches, the new one up before the old one goes, or the other way") {
  Manifest manifest = manifestOf(UpgradeOrder::kStartFirst, {2, false});
  PlanInput input{&manifest, Version("2"), placementOn({"a", "b", "c"}), {}, {}, false};
  input.observed = {ready(0, "a", "1"), ready(1, "b", "1"), ready(2, "c", "1")};
  CHECK(shapes(planRollout(input)) ==
        Shapes{"start publish drain stop", "start publish drain stop"});
  manifest.upgrade.order = UpgradeOrder::kStopFirst;
  manifest.upgrade.batch = {50, true};
  CHECK(shapes(planRollout(input)) == Shapes{"withdraw drain stop start publish",
                                             "withdraw drain stop start publish",
                                             "withdraw drain stop start publish"});
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
  CHECK(shapes(planRollout(input)) == Shapes{"start publish drain stop", "withdraw drain forget"});
}

TEST_CASE("a moved instance is started at its new place before the old place gives it up") {
  const Manifest manifest = manifestOf(UpgradeOrder::kStartFirst);
  PlanInput input{&manifest, Version("1"), placementOn({"b"}), {ready(0, "a", "1")}, {}, false};
  const Plan plan = planRollout(input);
  CHECK(shapes(plan) == Shapes{"start publish", "drain forget"});
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
