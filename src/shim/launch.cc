#include "shim/launch.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <set>

#include "base/file.h"
#include "model/host_paths.h"
#include "shim/generation_files.h"
#include "shim/proc.h"

namespace cctl::shim {
namespace {

using protocol::GenerationSpec;

constexpr char kPath[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// PORT_<NAME>: upper case, '-' becomes '_'.
std::string portVariable(const std::string& name) {
  std::string variable = "PORT_";
  for (const char c : name) {
    const bool plain = (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (c >= 'a' && c <= 'z')
      variable.push_back(static_cast<char>(c - 'a' + 'A'));
    else
      variable.push_back(plain ? c : '_');
  }
  return variable;
}

bool beginsWithScriptMark(int fd) {
  char mark[2];
  return ::pread(fd, mark, 2, 0) == 2 && mark[0] == '#' && mark[1] == '!';
}

// What of argv[0] lies inside the release; empty when it is a path of the host's own.
std::string insideRelease(const std::string& name, const std::string& release_dir) {
  if (name.front() != '/') return name;
  return name.starts_with(release_dir + "/") ? name.substr(release_dir.size() + 1) : std::string();
}

Result<void> useReleaseFile(const Host& host, const ReleaseManifest& release,
                            const std::string& relative, LaunchPlan& plan) {
  const protocol::ReleaseFile* file = release.resolve(relative);
  if (!file)
    return fail(Code::kFailed, "{} {} has no file {}", release.service, release.version, relative);
  if (!file->executable)
    return fail(Code::kFailed, "{} of {} {} is not executable", relative, release.service,
                release.version);
  const std::string dir = host.store.dirOf(release);
  plan.request.path = paths::join(dir, file->path);
  plan.request.argv.front() = paths::join(dir, relative);
  CCTL_TRY(plan.exe, openChecked(plan.request.path, *file, &host.store.cache()));
  // An interpreter opens its script by name, and could not by a descriptor that exec closes.
  if (!beginsWithScriptMark(plan.exe.get())) plan.request.exe_fd = plan.exe.get();
  return {};
}

// Inodes of sockets that listen on the port, from /proc/PID/net/tcp or tcp6.
void addListeners(const std::string& path, int port, std::set<std::string>& inodes) {
  const auto text = readFile(path, 64u << 20);
  if (!text) return;
  const std::string wanted = fmt::format(":{:04X} ", port);
  size_t at = 0;
  while (at < text->size()) {
    const size_t end = std::min(text->find('\n', at), text->size());
    const std::string_view line = std::string_view(*text).substr(at, end - at);
    at = end + 1;
    // "  0: 00000000:1F90 00000000:0000 0A …": local address, remote address, state 0A = LISTEN,
    // and the inode as the tenth field.
    const size_t local = line.find(wanted);
    if (local > 45) continue;  // or npos
    std::vector<std::string_view> fields;
    for (size_t i = 0; i < line.size();) {
      const size_t begin = line.find_first_not_of(' ', i);
      if (begin == std::string_view::npos) break;
      i = std::min(line.find(' ', begin), line.size());
      fields.push_back(line.substr(begin, i - begin));
    }
    if (fields.size() > 9 && fields[3] == "0A" && fields[1].ends_with(wanted.substr(0, 5)))
      inodes.insert(fmt::format("socket:[{}]", fields[9]));
  }
}

enum class Holds { kYes, kNo, kUnknown };

Holds holdsSocket(int pid, const std::set<std::string>& inodes) {
  const std::string dir = fmt::format("/proc/{}/fd", pid);
  const auto names = listDir(dir);
  if (!names) return Holds::kUnknown;
  char target[64];
  for (const std::string& name : *names) {
    const ssize_t length = ::readlink(paths::join(dir, name).c_str(), target, sizeof target);
    if (length > 0 && inodes.count(std::string(target, static_cast<size_t>(length))) > 0)
      return Holds::kYes;
  }
  return Holds::kNo;
}

}  // namespace

std::map<std::string, std::string> serviceEnvironment(const Host& host, const GenerationSpec& spec,
                                                      const std::string& release_dir, bool has_lib,
                                                      const User& user) {
  std::map<std::string, std::string> env = {{"PATH", kPath},
                                            {"HOME", user.home},
                                            {"USER", user.name},
                                            {"LOGNAME", user.name},
                                            {"LANG", "C.UTF-8"}};
  if (const char* zone = std::getenv("TZ")) env["TZ"] = zone;
  for (const auto& [name, port] : spec.ports) env[portVariable(name)] = std::to_string(port);
  if (spec.ports.size() == 1) env["PORT"] = std::to_string(spec.ports.begin()->second);
  for (const auto& [name, value] : spec.env) env[name] = value;
  env["CLUSTERCTL_SERVICE"] = spec.service;
  env["CLUSTERCTL_INSTANCE"] = fmt::format("{}/{}", spec.service, spec.index);
  env["CLUSTERCTL_VERSION"] = spec.version;
  env["CLUSTERCTL_GENERATION"] = std::to_string(spec.generation);
  env["CLUSTERCTL_HOST"] = host.identity.host;
  env["NOTIFY_SOCKET"] = host.notify_address;
  if (spec.live && spec.live->probe.kind == protocol::ProbeKind::kNotify)
    env["WATCHDOG_USEC"] = std::to_string(spec.live->interval.count() * 1000 * spec.live->failures);
  env["CLUSTERCTL_NAMING"] = paths::namingSocket(host.root);
  if (has_lib) {
    std::string& libraries = env["LD_LIBRARY_PATH"];
    libraries = release_dir + "/lib" + (libraries.empty() ? "" : ":") + libraries;
  }
  return env;
}

Result<LaunchPlan> planLaunch(const Host& host, const GenerationSpec& spec,
                              const std::vector<std::string>& argv) {
  const ReleaseManifest* release = host.store.find(spec.service, spec.version);
  if (!release)
    return fail(Code::kNotFound, "{} {} is not installed on this host", spec.service, spec.version);
  const std::string dir = host.store.dirOf(*release);
  LaunchPlan plan;
  plan.request.argv = argv;
  if (const std::string relative = insideRelease(argv.front(), dir); !relative.empty()) {
    CCTL_CHECK(useReleaseFile(host, *release, relative, plan));
  } else {
    plan.request.path = argv.front();
    plan.unverified = argv.front();
  }
  CCTL_TRY(plan.request.user, userOf(spec));
  const User user = plan.request.user ? *plan.request.user : thisUser();
  const bool has_lib =
      std::any_of(release->files.begin(), release->files.end(),
                  [](const protocol::ReleaseFile& f) { return f.path.starts_with("lib/"); });
  for (const auto& [name, value] : serviceEnvironment(host, spec, dir, has_lib, user))
    plan.request.env.push_back(name + "=" + value);
  plan.request.cwd = paths::dataDir(host.root, spec.service, spec.index);
  plan.request.limits[kNofile] = spec.limit_nofile;
  plan.request.limits[kNproc] = spec.limit_nproc;
  plan.request.limits[kCore] = spec.limit_core;
  plan.request.limits[kMemlock] = spec.limit_memlock;
  plan.request.limits[kStack] = spec.limit_stack;
  plan.request.umask = static_cast<unsigned>(spec.umask.value_or(022)) & 0777;
  return plan;
}

std::string foreignListener(int pid, uint64_t start_ticks, int port) {
  std::set<std::string> inodes;
  addListeners(fmt::format("/proc/{}/net/tcp", pid), port, inodes);
  addListeners(fmt::format("/proc/{}/net/tcp6", pid), port, inodes);
  if (inodes.empty()) return {};
  if (holdsSocket(pid, inodes) != Holds::kNo) return {};
  for (const int member : sessionMembers(pid, start_ticks))
    if (holdsSocket(member, inodes) != Holds::kNo) return {};
  return fmt::format("port {} is answered by another process", port);
}

}  // namespace cctl::shim
