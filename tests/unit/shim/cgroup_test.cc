// Control groups against a tree of plain files: what a machine lacks, and both versions.
#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "shim/cgroup.h"
#include "support.h"

namespace cctl::shim {
namespace {

std::string textOf(const std::string& path) { return readFile(path).value_or("?"); }

class Tree {
 public:
  // The files that the kernel makes in a group.
  void group(const std::string& name, const std::string& controllers = "cpu memory pids\n") {
    REQUIRE(makeDirs(path(name)));
    for (const char* file : {"cgroup.procs", "cgroup.subtree_control", "memory.max", "cpu.max",
                             "memory.limit_in_bytes", "cpu.cfs_period_us", "cpu.cfs_quota_us"})
      REQUIRE(replaceFile(path(name) + "/" + file, ""));
    if (!controllers.empty()) REQUIRE(replaceFile(path(name) + "/cgroup.controllers", controllers));
  }
  std::string path(const std::string& name) const { return dir_ / name; }
  std::string read(const std::string& name) const { return textOf(path(name)); }
  std::string mount() const { return dir_.path(); }

 private:
  TempDir dir_;
};

const CgroupLimits kBoth{64u << 20, 1500};

TEST_CASE("cgroups 2: limits in a group of its own below the shim's delegated one") {
  Tree tree;
  const std::string own = "system.slice/clusterctl-demo.service";
  tree.group("");
  tree.group(own);
  tree.group(own + "/shim");
  tree.group(own + "/clusterctl-demo-1");
  tree.group(own + "/clusterctl-demo-1/svc.0.3");
  REQUIRE(replaceFile(tree.path(own + "/cgroup.procs"), "12\n13\n"));
  Cgroups cgroups(tree.mount(), "0::/" + own + "\n", "demo-1");
  CHECK(cgroups.kind().name == "v2");
  CHECK(cgroups.kind().problem.empty());
  // Whatever was in it has moved to the leaf: a group that hands controllers down holds nobody.
  CHECK(tree.read(own + "/shim/cgroup.procs").starts_with("13"));
  CHECK(tree.read(own + "/cgroup.subtree_control").starts_with("+cpu"));

  const Cgroups::Group group = cgroups.make("svc/0/3", kBoth);
  CHECK(group.not_applied.empty());
  CHECK(group.join.size() == 1);
  const std::string made = own + "/clusterctl-demo-1/svc.0.3";
  CHECK(tree.read(made + "/memory.max") == "67108864");
  CHECK(tree.read(made + "/cpu.max") == "150000 100000");
  REQUIRE(replaceFile(tree.path(made + "/cgroup.procs"), "71\n72\n"));
  CHECK(cgroups.members("svc/0/3") == std::vector<int>{71, 72});
  CHECK(cgroups.members("svc/0/4").empty());
}

TEST_CASE("cgroups 2: a shim that comes back finds itself in the leaf") {
  Tree tree;
  const std::string own = "clusterctl-demo.service";
  tree.group("");
  tree.group(own);
  tree.group(own + "/shim");
  tree.group(own + "/clusterctl-demo-1");
  Cgroups cgroups(tree.mount(), "0::/" + own + "/shim\n", "demo-1");
  CHECK(cgroups.kind().name == "v2");
  CHECK_FALSE(isDirectory(tree.path(own + "/shim/clusterctl-demo-1")));
}

TEST_CASE("cgroups 2: a group that is not the shim's own is left alone, and that is said") {
  Tree tree;
  tree.group("");
  tree.group("user.slice/session-3.scope");
  REQUIRE(replaceFile(tree.path("user.slice/session-3.scope/cgroup.procs"), "12\n"));
  Cgroups cgroups(tree.mount(), "0::/user.slice/session-3.scope\n", "demo-1");
  CHECK(cgroups.kind().name.empty());
  CHECK(cgroups.kind().problem.find("not its own") != std::string::npos);
  const Cgroups::Group group = cgroups.make("svc/0/3", kBoth);
  CHECK(group.join.empty());
  REQUIRE(group.not_applied.size() == 2);
  CHECK(group.not_applied[0].starts_with("limits.memory: "));
  CHECK(group.not_applied[1].starts_with("limits.cpu: "));
  CHECK_FALSE(isDirectory(tree.path("user.slice/session-3.scope/shim")));
}

TEST_CASE("cgroups 2: a controller that is not handed down is named; the other one is used") {
  Tree tree;
  tree.group("", "memory pids\n");
  tree.group("clusterctl-demo-1");
  tree.group("clusterctl-demo-1/svc.0.3");
  Cgroups cgroups(tree.mount(), "0::/\n", "demo-1");
  CHECK(cgroups.kind().name == "v2");
  const Cgroups::Group group = cgroups.make("svc/0/3", kBoth);
  CHECK(group.join.size() == 1);
  REQUIRE(group.not_applied.size() == 1);
  CHECK(group.not_applied[0].find("the cpu controller is not handed down") != std::string::npos);
  CHECK(tree.read("clusterctl-demo-1/svc.0.3/memory.max") == "67108864");
}

TEST_CASE("cgroups 1: a group in each controller's own tree") {
  Tree tree;
  for (const char* controller : {"memory", "cpu"}) {
    const std::string base = std::string(controller) + "/system.slice/clusterctl-demo-1";
    tree.group(base, "");
    tree.group(base + "/svc.0.3", "");
  }
  Cgroups cgroups(tree.mount(),
                  "12:pids:/\n5:memory:/system.slice\n4:cpu,cpuacct:/system.slice\n0::/x\n",
                  "demo-1");
  CHECK(cgroups.kind().name == "v1");
  const Cgroups::Group group = cgroups.make("svc/0/3", kBoth);
  CHECK(group.not_applied.empty());
  CHECK(group.join.size() == 2);
  const std::string below = "/system.slice/clusterctl-demo-1/svc.0.3/";
  CHECK(tree.read("memory" + below + "memory.limit_in_bytes") == "67108864");
  CHECK(tree.read("cpu" + below + "cpu.cfs_period_us") == "100000");
  CHECK(tree.read("cpu" + below + "cpu.cfs_quota_us") == "150000");
}

TEST_CASE("cgroups 1: without the processors' controller memory is still limited") {
  Tree tree;
  tree.group("memory/clusterctl-demo-1", "");
  tree.group("memory/clusterctl-demo-1/svc.0.3", "");
  Cgroups cgroups(tree.mount(), "5:memory:/\n", "demo-1");
  const Cgroups::Group group = cgroups.make("svc/0/3", kBoth);
  CHECK(group.join.size() == 1);
  REQUIRE(group.not_applied.size() == 1);
  CHECK(group.not_applied[0] == "limits.cpu: no cpu controller is mounted");
}

TEST_CASE("cgroups: a machine without any") {
  TempDir nothing;
  Cgroups cgroups(nothing.path(), "", "demo-1");
  CHECK(cgroups.kind().name.empty());
  CHECK(cgroups.kind().problem == "no memory controller is mounted");
  CHECK(cgroups.make("svc/0/1", kBoth).not_applied.size() == 2);
  CHECK(cgroups.make("svc/0/1", {}).not_applied.empty());
  cgroups.remove("svc/0/1");  // of nothing
}

}  // namespace
}  // namespace cctl::shim
