#include "shim/generation_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <nlohmann/json.hpp>
#include <set>

#include "base/digest.h"
#include "base/file.h"
#include "model/host_paths.h"
#include "model/names.h"
#include "shim/release_manifest.h"
#include "shim/spawn.h"

namespace cctl::shim {
namespace {

using protocol::ConfigFile;
using protocol::GenerationSpec;
using protocol::ProbeKind;

constexpr int kMaxIndex = 999'999;
constexpr int kLastSignal = 64;
// More would overflow where they are counted in nanoseconds or multiplied.
constexpr Millis kLongest = std::chrono::hours(24 * 3650);
constexpr int kMostFailures = 1'000;

bool hasNul(const std::string& text) { return text.find('\0') != std::string::npos; }

std::optional<mode_t> parseMode(std::string_view text) {
  unsigned mode = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), mode, 8);
  if (error != std::errc() || end != text.data() + text.size() || mode > 0777) return std::nullopt;
  return mode;
}

Result<void> checkCommand(const GenerationSpec& spec) {
  if (spec.argv.empty() || spec.argv.front().empty())
    return fail(Code::kBadInput, "nothing to run: argv is empty");
  if (std::any_of(spec.argv.begin(), spec.argv.end(), hasNul))
    return fail(Code::kBadInput, "a NUL byte in argv");
  for (const auto& [name, value] : spec.env)
    if (name.empty() || name.find('=') != std::string::npos || hasNul(name) || hasNul(value))
      return fail(Code::kBadInput,
                  "\"{}\" cannot be the name of an environment variable, or its "
                  "value holds a NUL byte",
                  name);
  return {};
}

Result<void> checkProbe(const GenerationSpec& spec, const protocol::Probe& probe,
                        std::string_view which) {
  const bool on_port = probe.kind == ProbeKind::kTcp || probe.kind == ProbeKind::kHttp;
  if (on_port && spec.ports.count(probe.port) == 0)
    return fail(Code::kBadInput, "the {} probe names port \"{}\", which is not declared", which,
                probe.port);
  if (probe.kind == ProbeKind::kHttp && (probe.path.empty() || probe.path.front() != '/' ||
                                         probe.path.find_first_of(" \r\n") != std::string::npos))
    return fail(Code::kBadInput, "\"{}\" is not a path to probe", probe.path);
  if (probe.kind == ProbeKind::kExec &&
      (probe.argv.empty() || std::any_of(probe.argv.begin(), probe.argv.end(), hasNul)))
    return fail(Code::kBadInput, "the {} probe has no command", which);
  return {};
}

Result<void> checkLiveness(const GenerationSpec& spec) {
  if (!spec.live) return {};
  const protocol::Liveness& live = *spec.live;
  if (live.probe.kind == ProbeKind::kNone || live.interval.count() < 1 ||
      live.timeout.count() < 1 || live.failures < 1 || live.interval > kLongest ||
      live.timeout > kLongest || live.failures > kMostFailures)
    return fail(Code::kBadInput, "the liveness probe asks nothing, or never");
  return checkProbe(spec, live.probe, "liveness");
}

Result<void> checkSockets(const GenerationSpec& spec) {
  if (spec.sockets.size() > SpawnRequest::kMaxSockets)
    return fail(Code::kBadInput, "{} sockets, where {} can be passed", spec.sockets.size(),
                SpawnRequest::kMaxSockets);
  for (const std::string& name : spec.sockets)
    if (spec.ports.count(name) == 0)
      return fail(Code::kBadInput, "socket \"{}\" is not a declared port", name);
  return {};
}

Result<void> checkNumbers(const GenerationSpec& spec) {
  if (spec.index < 0 || spec.index > kMaxIndex || spec.generation < 1)
    return fail(Code::kBadInput, "instance {} generation {}: not numbers of an instance",
                spec.index, spec.generation);
  for (const auto& [name, port] : spec.ports)
    if (port < 1 || port > 65535) return fail(Code::kBadInput, "port {}: {}", name, port);
  if (spec.stop_signal < 1 || spec.stop_signal > kLastSignal)
    return fail(Code::kBadInput, "stop signal {}", spec.stop_signal);
  const auto& restart = spec.restart;
  if (restart.backoff_min.count() < 0 || restart.backoff_max < restart.backoff_min ||
      restart.limit_count < 0 || restart.limit_window.count() < 0 ||
      spec.start_timeout.count() < 1 || spec.stop_grace.count() < 0 || spec.log_keep < 0)
    return fail(Code::kBadInput, "a duration or count of the spec is negative or turned about");
  if (std::max({restart.backoff_max, restart.limit_window, spec.start_timeout, spec.stop_grace}) >
      kLongest)
    return fail(Code::kBadInput, "a duration of the spec is longer than ten years");
  return {};
}

// ---- writing -----------------------------------------------------------------------------------

struct Owner {
  uid_t uid = static_cast<uid_t>(-1);  // -1: stays
  gid_t gid = static_cast<gid_t>(-1);
};

Result<void> own(const std::string& path, Owner owner) {
  if (::lchown(path.c_str(), owner.uid, owner.gid) != 0) return failErrno(errno, path);
  return {};
}

// Makes the directory, or gives an existing one its owner. Never through a link: below is a place
// where the service's user can write.
Result<void> makeOwnedDir(const std::string& path, mode_t mode, Owner owner) {
  if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST) return failErrno(errno, path);
  const Fd dir(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!dir) return failErrno(errno, path);
  if (::fchown(dir.get(), owner.uid, owner.gid) != 0) return failErrno(errno, path);
  if (::fchmod(dir.get(), mode) != 0) return failErrno(errno, path);
  return {};
}

Owner serviceOwner(const std::optional<User>& user) {
  return user ? Owner{user->uid, user->gid} : Owner{};
}
// Config belongs to the shim's user and the service's group.
Owner configOwner(const std::optional<User>& user) {
  return user ? Owner{static_cast<uid_t>(-1), user->gid} : Owner{};
}

Result<void> writeConfigFile(const std::string& dir, const ConfigFile& file, Owner owner) {
  const std::string path = paths::join(dir, file.path);
  for (size_t at = file.path.find('/'); at != std::string::npos; at = file.path.find('/', at + 1))
    CCTL_CHECK(makeOwnedDir(paths::join(dir, file.path.substr(0, at)), 0750, owner));
  // Closed to the group until it belongs to the right one.
  const mode_t mode = *parseMode(file.mode);
  const std::string temporary = path + ".new";
  CCTL_CHECK(replaceFile(temporary, file.content, mode & 0700));
  CCTL_CHECK(own(temporary, owner));
  if (::chmod(temporary.c_str(), mode) != 0) return failErrno(errno, path);
  if (::rename(temporary.c_str(), path.c_str()) != 0) return failErrno(errno, path);
  return {};
}

Result<void> writeSpec(const std::string& dir, const GenerationSpec& spec) {
  return replaceFile(paths::join(dir, "spec.json"), dumpJsonPretty(protocol::encode(spec)) + "\n",
                     0600);
}

Result<void> makeSharedDirs(const std::string& root, const GenerationSpec& spec,
                            const std::optional<User>& user) {
  CCTL_CHECK(makeDirs(paths::generationsDir(root, spec.service, spec.index)));
  const Owner owner = serviceOwner(user);
  CCTL_CHECK(makeOwnedDir(paths::logDir(root, spec.service, spec.index), 0755, owner));
  CCTL_CHECK(makeOwnedDir(paths::coreDir(root, spec.service, spec.index), 0750, owner));
  return makeOwnedDir(paths::dataDir(root, spec.service, spec.index), 0750, owner);
}

Result<void> fill(const std::string& dir, const GenerationSpec& spec,
                  const std::optional<User>& user) {
  CCTL_CHECK(makeOwnedDir(dir, 0755, {}));
  CCTL_CHECK(makeOwnedDir(paths::join(dir, "conf"), 0750, configOwner(user)));
  CCTL_CHECK(makeOwnedDir(paths::join(dir, "run"), 0755, serviceOwner(user)));
  for (const ConfigFile& file : spec.config)
    CCTL_CHECK(writeConfigFile(paths::join(dir, "conf"), file, configOwner(user)));
  return writeSpec(dir, spec);
}

void removeUnnamed(const std::string& dir, const std::string& relative,
                   const std::set<std::string>& named) {
  const auto names = listDir(relative.empty() ? dir : paths::join(dir, relative));
  if (!names) return;
  for (const std::string& name : *names) {
    const std::string path = relative.empty() ? name : paths::join(relative, name);
    if (named.count(path) > 0) continue;
    struct stat info {};
    const std::string full = paths::join(dir, path);
    if (::lstat(full.c_str(), &info) == 0 && S_ISDIR(info.st_mode))
      removeUnnamed(dir, path, named);
    else
      ::unlink(full.c_str());  // what stays is named by nobody
  }
}

}  // namespace

Result<void> checkConfig(const std::vector<ConfigFile>& config) {
  std::set<std::string> seen;
  for (const ConfigFile& file : config) {
    CCTL_CHECK(checkRelativePath(file.path));
    if (!parseMode(file.mode))
      return fail(Code::kBadInput, "{}: \"{}\" is not a file mode", file.path, file.mode);
    if (!seen.insert(file.path).second) return fail(Code::kBadInput, "{}: stands twice", file.path);
  }
  for (const std::string& path : seen)
    for (size_t at = path.find('/'); at != std::string::npos; at = path.find('/', at + 1))
      if (seen.count(path.substr(0, at)) > 0)
        return fail(Code::kBadInput, "{}: {} is a file", path, path.substr(0, at));
  return {};
}

Result<void> checkSpec(const GenerationSpec& spec) {
  CCTL_CHECK(parseServiceName(spec.service));
  CCTL_CHECK(parseVersion(spec.version));
  CCTL_CHECK(checkNumbers(spec));
  CCTL_CHECK(checkCommand(spec));
  CCTL_CHECK(checkProbe(spec, spec.ready, "readiness"));
  CCTL_CHECK(checkLiveness(spec));
  CCTL_CHECK(checkSockets(spec));
  return checkConfig(spec.config);
}

Result<std::optional<User>> userOf(const GenerationSpec& spec) {
  if (spec.user.empty()) return std::nullopt;
  CCTL_TRY(User user, findUser(spec.user));
  if (::geteuid() == 0) return user;
  if (user.uid == ::geteuid()) return std::nullopt;
  return fail(Code::kRefused,
              "{} is to run as {}, but the shim of this host runs as {}: bootstrap it with "
              "`become: sudo`",
              spec.service, spec.user, thisUser().name);
}

Result<void> writeGeneration(const std::string& root, const GenerationSpec& spec) {
  CCTL_TRY(const std::optional<User> user, userOf(spec));
  const auto number = static_cast<uint64_t>(spec.generation);
  const std::string final_dir = paths::generationDir(root, spec.service, spec.index, number);
  const protocol::InstanceRef ref{spec.service, spec.index};
  if (exists(final_dir)) {
    const auto there = readGeneration(root, ref, spec.generation);
    if (there && *there == spec) return {};
    return fail(Code::kRefused,
                "generation {} of {}/{} exists with other content; allocate a new one",
                spec.generation, spec.service, spec.index);
  }
  CCTL_CHECK(makeSharedDirs(root, spec, user));
  const std::string dir =
      paths::join(paths::generationsDir(root, spec.service, spec.index), ".new-" + randomHex(6));
  auto filled = fill(dir, spec, user);
  if (filled && ::rename(dir.c_str(), final_dir.c_str()) != 0) filled = failErrno(errno, final_dir);
  if (!filled) {
    [[maybe_unused]] const auto removed = removeTree(dir);  // the first error is what matters
    return filled;
  }
  return syncDir(paths::generationsDir(root, spec.service, spec.index));
}

Result<GenerationSpec> readGeneration(const std::string& root, const protocol::InstanceRef& ref,
                                      int generation) {
  const std::string path =
      paths::specFile(root, ref.service, ref.index, static_cast<uint64_t>(generation));
  CCTL_TRY(const std::string text, readFile(path));
  auto json = parseJson(text);
  if (!json) return fail(json.error().context(path));
  auto spec = protocol::decode<GenerationSpec>(*json);
  if (!spec) return fail(spec.error().context(path));
  if (spec->service != ref.service || spec->index != ref.index || spec->generation != generation)
    return fail(Code::kCorrupt, "{}: belongs to another generation", path);
  if (auto checked = checkSpec(*spec); !checked) return fail(checked.error().context(path));
  return spec;
}

Result<void> rewriteConfig(const std::string& root, const GenerationSpec& spec) {
  CCTL_TRY(const std::optional<User> user, userOf(spec));
  const std::string dir =
      paths::generationDir(root, spec.service, spec.index, static_cast<uint64_t>(spec.generation));
  const std::string conf = paths::join(dir, "conf");
  std::set<std::string> named;
  for (const ConfigFile& file : spec.config) {
    CCTL_CHECK(writeConfigFile(conf, file, configOwner(user)));
    named.insert(file.path);
  }
  removeUnnamed(conf, "", named);
  return writeSpec(dir, spec);
}

Result<void> linkCurrent(const std::string& root, const protocol::InstanceRef& ref,
                         int generation) {
  const std::string link = paths::currentLink(root, ref.service, ref.index);
  const std::string temporary = link + ".new";
  ::unlink(temporary.c_str());  // of a run that was cut off
  const std::string target = "generations/" + std::to_string(generation);
  if (::symlink(target.c_str(), temporary.c_str()) != 0) return failErrno(errno, temporary);
  if (::rename(temporary.c_str(), link.c_str()) != 0) return failErrno(errno, link);
  return {};
}

}  // namespace cctl::shim
