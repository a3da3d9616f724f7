#include "shim/cgroup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "base/file.h"

namespace cctl::shim {
namespace {

constexpr std::string_view kLeaf = "/shim";
constexpr int kPeriod = 100'000;  // microseconds in which the processor time is counted

// Control files are written in one piece and report what they do not like.
Result<void> writeControl(const std::string& path, const std::string& value) {
  CCTL_TRY(const Fd file, openFile(path, O_WRONLY));
  if (::write(file.get(), value.data(), value.size()) == static_cast<ssize_t>(value.size()))
    return {};
  return failErrno(errno, path);
}

Result<void> makeGroup(const std::string& dir) {
  if (::mkdir(dir.c_str(), 0755) == 0 || errno == EEXIST) return {};
  return failErrno(errno, dir);
}

// Group names hold no '/': "svc/0/3" is one group.
std::string flat(std::string name) {
  std::replace(name.begin(), name.end(), '/', '.');
  return name;
}

bool hasWord(const std::string& text, std::string_view word) {
  const std::string padded = " " + text + " ";
  std::string clean = padded;
  std::replace(clean.begin(), clean.end(), '\n', ' ');
  return clean.find(" " + std::string(word) + " ") != std::string::npos;
}

std::vector<int> parsePids(const std::string& text) {
  std::vector<int> pids;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at < end) {
    int pid = 0;
    at = std::max(std::from_chars(at, end, pid).ptr, at) + 1;
    if (pid > 0) pids.push_back(pid);
  }
  return pids;
}

}  // namespace

Cgroups::Cgroups(std::string mount, std::string self, std::string owner)
    : mount_(std::move(mount)), self_(std::move(self)), parent_("clusterctl-" + owner) {}

const CgroupKind& Cgroups::kind() {
  if (!std::exchange(detected_, true)) detect();
  return kind_;
}

// Lines of /proc/self/cgroup: "0::/path" for version 2, "4:memory:/path" for version 1.
std::string Cgroups::ownGroup(const std::string& controller) const {
  size_t at = 0;
  while (at < self_.size()) {
    const size_t end = std::min(self_.find('\n', at), self_.size());
    const std::string line = self_.substr(at, end - at);
    at = end + 1;
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    std::string controllers = line.substr(first + 1, second - first - 1);
    std::replace(controllers.begin(), controllers.end(), ',', ' ');
    const std::string path = line.substr(second + 1);
    if (controller.empty() ? controllers.empty() && line.starts_with("0:")
                           : hasWord(controllers, controller))
      return path == "/" ? "" : path;
  }
  return "";
}

void Cgroups::detect() {
  unified_ = exists(mount_ + "/cgroup.controllers");
  if (unified_) {
    detectUnified(mount_ + ownGroup(""));
  } else {
    memory_ = detectController("memory");
    cpu_ = detectController("cpu");
  }
  if (!memory_.dir.empty() || !cpu_.dir.empty())
    kind_.name = unified_ ? "v2" : "v1";
  else
    kind_.problem = memory_.problem.empty() ? cpu_.problem : memory_.problem;
}

// A group that hands controllers down may hold no processes itself, but for the root group: all
// that is in the shim's unit moves to a leaf, beside which the limited services' groups are. Only
// where the group is the shim's own (Delegate=yes): anybody else's is left alone.
Result<void> Cgroups::prepareUnified(const std::string& own) {
  if (own != mount_) {
    const std::string name = own.substr(own.rfind('/') + 1);
    if (!name.starts_with("clusterctl-"))
      return fail(Code::kRefused, "the shim runs in {}, which is not its own", own);
    CCTL_CHECK(makeGroup(fmt::format("{}{}", own, kLeaf)));
    CCTL_TRY(const std::string text, readFile(own + "/cgroup.procs", 1u << 20));
    for (const int pid : parsePids(text))
      CCTL_CHECK(writeControl(fmt::format("{}{}/cgroup.procs", own, kLeaf), std::to_string(pid)));
  }
  return makeGroup(own + "/" + parent_);
}

void Cgroups::detectUnified(std::string own) {
  if (own.ends_with(kLeaf)) own.resize(own.size() - kLeaf.size());
  const auto prepared = prepareUnified(own);
  const auto hand = [&](const char* controller) -> Controller {
    if (!prepared) return {"", prepared.error().message};
    const auto has = readFile(own + "/cgroup.controllers", 4096);
    if (!has || !hasWord(*has, controller))
      return {"", fmt::format("the {} controller is not handed down to {}", controller, own)};
    for (const std::string& dir : {own, own + "/" + parent_})
      if (auto on = writeControl(dir + "/cgroup.subtree_control", fmt::format("+{}", controller));
          !on)
        return {"", on.error().message};
    return {own + "/" + parent_, ""};
  };
  memory_ = hand("memory");
  cpu_ = hand("cpu");
}

Cgroups::Controller Cgroups::detectController(const std::string& controller) {
  const std::string base = mount_ + "/" + controller;
  if (!exists(base)) return {"", fmt::format("no {} controller is mounted", controller)};
  const std::string dir = base + ownGroup(controller) + "/" + parent_;
  if (auto made = makeGroup(dir); !made) return {"", made.error().message};
  return {dir, ""};
}

void Cgroups::limit(const Controller& controller, const std::string& name, const std::string& file,
                    const std::string& value, const std::string& what, Group& group) {
  if (controller.dir.empty()) {
    group.not_applied.push_back(fmt::format("{}: {}", what, controller.problem));
    return;
  }
  const std::string dir = controller.dir + "/" + flat(name);
  auto done = makeGroup(dir);
  if (done) done = writeControl(dir + "/" + file, value);
  if (!done) group.not_applied.push_back(fmt::format("{}: {}", what, done.error().message));
}

void Cgroups::join(const Controller& controller, const std::string& name, Group& group) {
  if (controller.dir.empty()) return;
  auto file = openFile(controller.dir + "/" + flat(name) + "/cgroup.procs", O_WRONLY);
  if (file) group.join.push_back(std::move(*file));
}

Cgroups::Group Cgroups::make(const std::string& name, const CgroupLimits& limits) {
  Group group;
  kind();
  if (limits.memory)
    limit(memory_, name, unified_ ? "memory.max" : "memory.limit_in_bytes",
          std::to_string(*limits.memory), "limits.memory", group);
  if (limits.cpu) {
    const int64_t quota = int64_t{*limits.cpu} * kPeriod / 1000;
    if (unified_) {
      limit(cpu_, name, "cpu.max", fmt::format("{} {}", quota, kPeriod), "limits.cpu", group);
    } else {
      const size_t before = group.not_applied.size();
      limit(cpu_, name, "cpu.cfs_period_us", std::to_string(kPeriod), "limits.cpu", group);
      if (group.not_applied.size() == before)  // one reason is enough
        limit(cpu_, name, "cpu.cfs_quota_us", std::to_string(quota), "limits.cpu", group);
    }
  }
  // With version 2 both controllers' group is one.
  if (limits.memory || unified_) join(memory_.dir.empty() ? cpu_ : memory_, name, group);
  if (limits.cpu && !unified_) join(cpu_, name, group);
  return group;
}

std::vector<int> Cgroups::members(const std::string& name) {
  kind();
  const Controller& controller = memory_.dir.empty() ? cpu_ : memory_;
  if (controller.dir.empty()) return {};
  const auto text = readFile(controller.dir + "/" + flat(name) + "/cgroup.procs", 1u << 20);
  return text ? parsePids(*text) : std::vector<int>();
}

void Cgroups::remove(const std::string& name) {
  for (const Controller* controller : {&memory_, &cpu_})
    if (!controller->dir.empty()) ::rmdir((controller->dir + "/" + flat(name)).c_str());
}

}  // namespace cctl::shim
