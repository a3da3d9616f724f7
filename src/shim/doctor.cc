#include "shim/doctor.h"

#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/text.h"
#include "model/host_paths.h"
#include "shim/boot_hook.h"
#include "shim/cores.h"

namespace cctl::shim {
namespace {

std::string lineOf(const std::string& path) {
  const auto text = readFile(path, 1u << 16);
  return text ? text->substr(0, text->find('\n')) : std::string();
}

std::string kindName(BootHook::Kind kind) {
  switch (kind) {
    case BootHook::Kind::kSystemd:
      return "systemd";
    case BootHook::Kind::kCronDir:
      return "cron.d";
    case BootHook::Kind::kCrontab:
      return "crontab";
    case BootHook::Kind::kNone:
      break;
  }
  return {};
}

void noteDisk(const std::string& root, protocol::DoctorReply& reply) {
  struct statvfs info {};
  if (::statvfs(root.c_str(), &info) != 0) return;
  const auto unit = static_cast<uint64_t>(info.f_frsize);
  reply.disk_total = info.f_blocks * unit;
  // As the shim sees it: root may use what is reserved, others may not.
  reply.disk_free = (::geteuid() == 0 ? info.f_bfree : info.f_bavail) * unit;
  reply.inodes_total = info.f_files;
  reply.inodes_free = info.f_favail;
}

// CAP_SYS_RESOURCE (capabilities(7)), which root lacks in some containers.
bool mayRaiseLimits() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  return ::syscall(SYS_capget, &header, data) == 0 &&
         (data[CAP_TO_INDEX(CAP_SYS_RESOURCE)].effective & CAP_TO_MASK(CAP_SYS_RESOURCE)) != 0;
}

// Nothing where cores may have any size.
std::optional<uint64_t> largestCore() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_CORE, &limit) != 0 || limit.rlim_max == RLIM_INFINITY || mayRaiseLimits())
    return std::nullopt;
  return limit.rlim_max;
}

// The most that a service can be given: root may go beyond its own limit, up to the kernel's.
uint64_t mostFiles(const std::string& proc) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  if (!mayRaiseLimits()) return limit.rlim_max;
  const std::string text = lineOf(proc + "/sys/fs/nr_open");
  uint64_t most = 0;
  std::from_chars(text.data(), text.data() + text.size(), most);
  return most > 0 ? most : limit.rlim_max;
}

// Where, what, and what to do.
void note(protocol::DoctorReply& reply, const std::string& problem, const std::string& mend) {
  reply.problems.push_back(problem + "; " + mend);
}

// Takes a process that is known to come back, with its services untouched.
std::string startAnew() {
  return fmt::format(
      "kill -9 {} there (another takes its place at once, and services go on), then ", ::getpid());
}

// A file of the names that was damaged at the start: written again by now, or removed.
bool isMended(const std::string& problem) {
  const auto text = readFile(problem.substr(0, problem.find(": ")), 256u << 20);
  if (!text) return text.error().code == Code::kNotFound;
  const auto json = parseJson(*text);
  return json && json->is_object() && json->contains("format");
}

// A state that could not be read was moved aside at the start of some shim.
void noteDamagedState(const std::string& root, protocol::DoctorReply& reply) {
  const std::string dir = paths::shimStateDir(root);
  const auto names = listDir(dir);
  if (!names) return;
  for (const std::string& name : *names)
    if (name.find(".damaged-") != std::string::npos)
      note(reply, paths::join(dir, name) + ": a damaged state, set aside",
           "it may be removed: `clusterctl events` tells what was made anew");
}

}  // namespace

std::pair<int, int> parseLocalPortRange(std::string_view text) {
  const size_t gap = text.find_first_of(" \t");
  if (gap == std::string_view::npos) return {0, 0};
  int low = 0, high = 0;
  const auto first = std::from_chars(text.data(), text.data() + gap, low);
  const size_t second = text.find_first_not_of(" \t", gap);
  if (first.ec != std::errc() || second == std::string_view::npos) return {0, 0};
  const auto last = std::from_chars(text.data() + second, text.data() + text.size(), high);
  if (last.ec != std::errc() || low < 1 || high > 65535 || low > high) return {0, 0};
  return {low, high};
}

protocol::DoctorReply examineHost(const Host& host, const std::string& proc) {
  protocol::DoctorReply reply;
  reply.now = host.loop.clock().wall();
  const BootHook hook = findBootHook(host.root, host.identity.cluster, proc);
  reply.boot_hook = kindName(hook.kind);
  reply.boot_hook_problem = hook.reason;
  const CorePattern pattern = readCorePattern(proc);
  reply.core_pattern = pattern.text;
  reply.core_uses_pid = pattern.uses_pid;
  std::tie(reply.local_port_low, reply.local_port_high) =
      parseLocalPortRange(lineOf(proc + "/sys/net/ipv4/ip_local_port_range"));
  reply.local_ports_reserved = lineOf(proc + "/sys/net/ipv4/ip_local_reserved_ports");
  noteDisk(host.root, reply);
  reply.nofile_hard = mostFiles(proc);
  reply.core_hard = largestCore();
  reply.cgroup = host.cgroups.kind().name;
  reply.cgroup_problem = host.cgroups.kind().problem;
  host.journal.noticeRemoved();
  for (const std::string& problem : host.journal.problems())
    note(reply, problem,
         "the journal goes on, and nothing is to be mended: look for a loss of power, or for who "
         "changes files there");
  if (const uint64_t dropped = host.journal.dropped(); dropped > 0)
    note(reply,
         fmt::format("{}: cannot be written, {} events are lost so far",
                     paths::journalDir(host.root), dropped),
         "make room on its disk, or mend it");
  for (const std::string& problem : host.store.problems())
    note(reply, problem, "the next deploy or `clusterctl apply` writes it again");
  noteDamagedState(host.root, reply);
  if (host.socket_problems)
    for (const std::string& problem : host.socket_problems())
      note(reply, problem, "see to its path and its disk: the shim tries again each second");
  return reply;
}

void examineNames(const Host& host, const Names& names, protocol::DoctorReply& reply) {
  for (const std::string& problem : names.problems())
    if (!isMended(problem))
      note(reply, problem,
           "clusterctl sync, which writes it again where it belongs to a service, and else remove "
           "it");
  const std::string dir = paths::registryServicesDir(host.root);
  const auto files = listDir(dir);
  size_t gone = 0;
  for (const std::string& service : names.services())
    if (!files || !std::binary_search(files->begin(), files->end(), service + ".json")) ++gone;
  const bool all_gone = !exists(paths::registryFile(host.root));
  if (!all_gone && gone == 0) return;
  note(reply,
       fmt::format("somebody removed {}: who reads names from there finds nothing, or old ones",
                   all_gone ? paths::registryFile(host.root)
                            : fmt::format("{} in {}", counted(gone, "file"), dir)),
       startAnew() + "clusterctl sync");
}

std::string lostPromises(const Host& host) {
  const std::string dir = paths::acceptorDir(host.root);
  const auto names = listDir(dir);
  const auto is_log = [](const std::string& name) { return name.ends_with(".log"); };
  if (names && std::any_of(names->begin(), names->end(), is_log)) return {};
  return fmt::format(
      "{} was removed or emptied: what this member has promised is kept nowhere, and its next "
      "start begins without it; {}clusterctl registry members replace {}",
      dir, startAnew(), host.identity.host);
}

}  // namespace cctl::shim
