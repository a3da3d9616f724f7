#include "shim/cores.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <map>

#include "base/file.h"
#include "model/host_paths.h"
#include "shim/generation_files.h"

namespace cctl::shim {
namespace {

using protocol::Core;
using protocol::Event;
using protocol::EventKind;

constexpr std::string_view kPrefix = "core.";
constexpr Millis kSlack{2'000};  // between a file's time and the shim's own clock readings
constexpr size_t kJournalBatch = 256;

std::string firstLineOf(const std::string& path) {
  const auto text = readFile(path, 4096);
  return text ? text->substr(0, text->find('\n')) : std::string();
}

WallTime timeOf(const struct stat& info) {
  return WallTime(Millis(int64_t{info.st_mtim.tv_sec} * 1000 + info.st_mtim.tv_nsec / 1'000'000));
}

std::optional<int> parsePid(std::string_view text) {
  int pid = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), pid);
  if (error != std::errc() || end != text.data() + text.size() || pid <= 0) return std::nullopt;
  return pid;
}

// "2026-11-23T10:00:00Z" without what file names are better without: "20261123T100000Z".
std::string compactTime(WallTime at) {
  std::string text = formatTime(std::chrono::floor<std::chrono::seconds>(at));
  std::erase_if(text, [](char c) { return c == '-' || c == ':'; });
  return text;
}

std::optional<WallTime> parseCompactTime(std::string_view text) {
  if (text.size() != 16) return std::nullopt;
  const std::string full = fmt::format("{}-{}-{}:{}:{}", text.substr(0, 4), text.substr(4, 2),
                                       text.substr(6, 5), text.substr(11, 2), text.substr(13));
  const auto time = parseTime(full);
  return time ? std::optional(*time) : std::nullopt;
}

// A character, or none: anything of any length.
using Glob = std::vector<std::optional<char>>;

void add(Glob& glob, std::string_view text) { glob.insert(glob.end(), text.begin(), text.end()); }

void addSpecifier(Glob& glob, char specifier, const CrashedProcess& process) {
  switch (specifier) {
    case '%':
      return add(glob, "%");
    case 'p':
      return add(glob, std::to_string(process.pid));
    case 's':
      if (process.signal > 0) return add(glob, std::to_string(process.signal));
      break;
    default:  // e E t h u g d c P i I f …: the time of the file has to do for these
      break;
  }
  glob.emplace_back(std::nullopt);
}

Glob globOf(std::string_view pattern, bool uses_pid, const CrashedProcess& process) {
  Glob glob;
  bool has_pid = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%') {
      glob.emplace_back(pattern[i]);
    } else if (++i < pattern.size()) {  // the kernel drops a lone one at the end
      has_pid |= pattern[i] == 'p';
      addSpecifier(glob, pattern[i], process);
    }
  }
  if (uses_pid && !has_pid) add(glob, "." + std::to_string(process.pid));
  return glob;
}

// Goes back to the last wildcard only: a service chooses these names, and must not be able to make
// the search long.
bool matches(const Glob& glob, std::string_view name) {
  size_t at = 0, taken = 0, star = glob.size(), star_taken = 0;
  while (taken < name.size()) {
    if (at < glob.size() && !glob[at]) {
      star = at++;
      star_taken = taken;
    } else if (at < glob.size() && *glob[at] == name[taken]) {
      ++at, ++taken;
    } else if (star < glob.size()) {
      at = star + 1;
      taken = ++star_taken;
    } else {
      return false;
    }
  }
  while (at < glob.size() && !glob[at]) ++at;
  return at == glob.size();
}

// An ELF file of type core, and not somebody's data of that name.
bool isCoreFile(int fd) {
  std::array<char, 18> head{};
  if (::pread(fd, head.data(), head.size(), 0) != static_cast<ssize_t>(head.size())) return false;
  uint16_t type = 0;
  std::memcpy(&type, &head[16], sizeof type);  // e_type; cores are of this machine's byte order
  return std::memcmp(head.data(), ELFMAG, SELFMAG) == 0 && type == ET_CORE;
}

// Not a link, not a device: the service may write in these directories.
Result<Fd> openRegular(const std::string& path, struct stat& info) {
  CCTL_TRY(Fd fd, openFile(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  if (::fstat(fd.get(), &info) != 0) return failErrno(errno, path);
  if (!S_ISREG(info.st_mode) || info.st_nlink != 1)
    return fail(Code::kRefused, "{} is not a plain file", path);
  return fd;
}

struct FoundCore {
  std::string path;
  WallTime at{};
};

std::optional<FoundCore> findCore(const std::string& dir, std::string_view pattern, bool uses_pid,
                                  const CrashedProcess& process) {
  std::optional<FoundCore> newest;
  const auto names = listDir(dir);
  if (!names) return std::nullopt;
  for (const std::string& name : *names) {
    if (!matchesCorePattern(pattern, uses_pid, process, name)) continue;
    struct stat info {};
    const std::string path = paths::join(dir, name);
    const auto file = openRegular(path, info);
    if (!file || !isCoreFile(file->get())) continue;
    const WallTime at = timeOf(info);
    if (at + kSlack < process.started || at > process.ended + kSlack) continue;
    if (!newest || newest->at <= at) newest = {path, at};
  }
  return newest;
}

// Oldest first; names that are not ours are left alone.
std::vector<std::pair<CoreName, std::string>> keptCores(const std::string& dir) {
  std::vector<std::pair<CoreName, std::string>> kept;
  const auto names = listDir(dir);
  for (const std::string& name : names ? *names : std::vector<std::string>())
    if (const auto parsed = parseCoreFileName(name)) kept.emplace_back(*parsed, name);
  std::sort(kept.begin(), kept.end(),
            [](const auto& a, const auto& b) { return a.first.at < b.first.at; });
  return kept;
}

void keepNewest(const std::string& dir) {
  auto kept = keptCores(dir);
  for (size_t i = 0; i + kMaxCores < kept.size(); ++i)
    ::unlink(paths::join(dir, kept[i].second).c_str());  // one that stays goes next time
}

}  // namespace

CorePattern readCorePattern(const std::string& proc) {
  return {firstLineOf(proc + "/sys/kernel/core_pattern"),
          firstLineOf(proc + "/sys/kernel/core_uses_pid") == "1"};
}

bool matchesCorePattern(std::string_view pattern, bool uses_pid, const CrashedProcess& process,
                        std::string_view name) {
  return matches(globOf(pattern, uses_pid, process), name);
}

std::string coreFileName(const CoreName& name) {
  return fmt::format("{}{}.{}.{}", kPrefix, name.version, name.pid, compactTime(name.at));
}

std::optional<CoreName> parseCoreFileName(std::string_view name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  const size_t time = name.rfind('.');
  if (time == std::string_view::npos || time == 0) return std::nullopt;
  const size_t pid = name.rfind('.', time - 1);  // a version has dots of its own
  if (pid == std::string_view::npos || pid == 0) return std::nullopt;
  const auto at = parseCompactTime(name.substr(time + 1));
  const auto number = parsePid(name.substr(pid + 1, time - pid - 1));
  if (!at || !number) return std::nullopt;
  return CoreName{std::string(name.substr(0, pid)), *number, *at};
}

std::string collectCore(const std::string& root, const CorePattern& pattern,
                        const CrashedProcess& process) {
  if (pattern.piped() || !pattern.writes()) return {};
  const auto& [service, index] = process.ref;
  std::string dir = paths::dataDir(root, service, index);
  std::string name = pattern.text;
  if (const size_t slash = name.rfind('/'); slash != std::string::npos) {
    dir = name.front() == '/' ? name.substr(0, std::max<size_t>(slash, 1))
                              : paths::join(dir, name.substr(0, slash));
    name.erase(0, slash + 1);
  }
  const auto found = findCore(dir, name, pattern.uses_pid, process);
  if (!found) return {};
  const std::string kept_in = paths::coreDir(root, service, index);
  std::string path = paths::join(kept_in, coreFileName({process.version, process.pid, found->at}));
  if (::rename(found->path.c_str(), path.c_str()) != 0) return found->path;
  keepNewest(kept_in);
  return path;
}

Result<Fd> openCore(const std::string& root, const protocol::CoreReadRequest& request) {
  const std::string& name = request.name;
  if (name.empty() || name.front() == '.' || name.find('/') != std::string::npos ||
      name.find('\0') != std::string::npos)
    return fail(Code::kBadInput, "\"{}\" is not the name of a core", name);
  struct stat info {};
  const auto& [service, index] = request.instance;
  auto file = openRegular(paths::join(paths::coreDir(root, service, index), name), info);
  if (!file && file.error().code == Code::kNotFound)
    return fail(Code::kNotFound, "{}/{} has no core {}", service, index, name);
  return file;
}

// ---- cores -------------------------------------------------------------------------------------

namespace {

// Reads the journal in slices for the exits with a core, collects what nobody has collected yet (a
// shim that was not there at the exit), and tells what lies in the core directories.
class Cores final : public Request, public std::enable_shared_from_this<Cores> {
 public:
  Cores(Host& host, const protocol::CoresRequest& request, const Responder& responder)
      : host_(host), request_(request), responder_(responder) {}

  void step() {
    const auto events = host_.journal.read(after_, std::nullopt, kJournalBatch);
    for (const Event& event : events) remember(event);
    if (!events.empty()) after_ = events.back().seq;
    if (events.size() == kJournalBatch) return next();
    collectLeft();
    tell();
  }

 private:
  void next() {
    host_.loop.soon([weak = weak_from_this()] {
      if (const auto alive = weak.lock()) alive->step();
    });
  }

  bool isWanted(const std::string& service) const {
    return request_.service.empty() || request_.service == service;
  }

  void remember(const Event& event) {
    if (event.kind != EventKind::kExit || !event.exit || !event.exit->core) return;
    if (isWanted(event.service)) exits_[{event.service, event.index}].push_back(event);
  }

  // Newest first: a name without a pid is overwritten by each.
  void collectLeft() {
    const CorePattern pattern = readCorePattern();
    for (const auto& [ref, events] : exits_)
      for (auto event = events.rbegin(); event != events.rend(); ++event) {
        const protocol::ExitReport& exit = *event->exit;
        if (exit.core_file.empty())
          collectCore(host_.root, pattern,
                      {ref, event->version, exit.pid, exit.signal.value_or(0),
                       exit.at - exit.uptime, exit.at});
      }
  }

  void tell() {
    std::vector<Core> cores;
    for (const InstanceRecord& instance : host_.state.data().instances)
      if (isWanted(instance.ref.service)) addCoresOf(instance.ref, cores);
    std::stable_sort(cores.begin(), cores.end(),
                     [](const Core& a, const Core& b) { return a.at > b.at; });
    for (const Core& core : cores) responder_.item(protocol::encodeReply(core));
    responder_.reply(protocol::encodeReply(protocol::Empty{}));
  }

  void addCoresOf(const protocol::InstanceRef& ref, std::vector<Core>& cores) {
    const std::string dir = paths::coreDir(host_.root, ref.service, ref.index);
    const auto names = listDir(dir);
    if (!names) return;
    for (const std::string& name : *names) {
      struct stat info {};
      if (name.front() == '.' || !openRegular(paths::join(dir, name), info)) continue;
      Core core;
      core.service = ref.service;
      core.index = ref.index;
      core.name = name;
      core.size = static_cast<uint64_t>(info.st_size);
      core.at = timeOf(info);
      describe(ref, core);
      cores.push_back(std::move(core));
    }
  }

  // From its name, then from the exit that made it.
  void describe(const protocol::InstanceRef& ref, Core& core) {
    if (const auto parsed = parseCoreFileName(core.name)) {
      core.version = parsed->version;
      core.pid = parsed->pid;
      core.at = parsed->at;
    }
    const Event* exit = exitOf(ref, core);
    if (exit) {
      core.version = exit->version;
      core.pid = exit->exit->pid;
      core.signal = exit->exit->signal.value_or(0);
    }
    if (const ReleaseManifest* release = host_.store.find(ref.service, core.version))
      core.release_digest = release->digest;
    core.executable = executableOf(ref, core.version, exit ? exit->generation : 0);
  }

  // The newest exit with that pid: in the name of ours, or among the numbers of another's.
  const Event* exitOf(const protocol::InstanceRef& ref, const Core& core) const {
    const auto known = exits_.find(ref);
    if (known == exits_.end()) return nullptr;
    for (auto event = known->second.rbegin(); event != known->second.rend(); ++event) {
      const int pid = event->exit->pid;
      if (core.pid == pid || (core.pid == 0 && hasNumber(core.name, pid))) return &*event;
    }
    return nullptr;
  }

  static bool hasNumber(std::string_view name, int number) {
    const std::string wanted = std::to_string(number);
    const auto digit = [&](size_t i) {
      return i < name.size() && name[i] >= '0' && name[i] <= '9';
    };
    for (size_t at = name.find(wanted); at != std::string_view::npos;
         at = name.find(wanted, at + 1))
      if (!(at > 0 && digit(at - 1)) && !digit(at + wanted.size())) return true;
    return false;
  }

  // What that generation runs; when it is gone, what another one runs: of that version, or of any,
  // where its release has such a program.
  std::string executableOf(const protocol::InstanceRef& ref, const std::string& version,
                           int generation) const {
    const auto named = [&](const protocol::GenerationSpec& spec) {
      const std::string release = paths::releaseDir(host_.root, ref.service, spec.version) + "/";
      const std::string& program = spec.argv.front();
      return program.starts_with(release) ? program.substr(release.size()) : program;
    };
    if (const auto spec = readGeneration(host_.root, ref, generation); generation > 0 && spec)
      return named(*spec);
    const InstanceRecord* record = host_.state.find(ref);
    if (record == nullptr) return {};
    for (const GenerationRecord& one : record->generations) {
      const auto spec = readGeneration(host_.root, ref, one.generation);
      if (spec && spec->version == version) return named(*spec);
    }
    const ReleaseManifest* release = host_.store.find(ref.service, version);
    for (const GenerationRecord& one : record->generations) {
      const auto spec = readGeneration(host_.root, ref, one.generation);
      if (release && spec && release->find(named(*spec))) return named(*spec);
    }
    return {};
  }

  Host& host_;
  protocol::CoresRequest request_;
  Responder responder_;
  uint64_t after_ = 0;
  std::map<protocol::InstanceRef, std::vector<Event>> exits_;
};

class FileRead final : public Request, public std::enable_shared_from_this<FileRead> {
 public:
  FileRead(Fd file, const Responder& responder)
      : file_(std::move(file)), responder_(responder), buffer_(protocol::kMaxDataPayload, '\0') {}

  void pump() {
    while (!responder_.congested()) {
      const ssize_t got = ::read(file_.get(), buffer_.data(), buffer_.size());
      if (got < 0) return responder_.error(failErrno(errno, "reading the file").value());
      if (got == 0) return responder_.reply(protocol::encodeReply(protocol::Empty{}));
      responder_.data({buffer_.data(), static_cast<size_t>(got)});
    }
  }

  void onDrained() override { pump(); }

 private:
  Fd file_;
  Responder responder_;
  std::string buffer_;
};

}  // namespace

std::shared_ptr<Request> beginCores(Host& host, const protocol::CoresRequest& request,
                                    const Responder& responder) {
  auto cores = std::make_shared<Cores>(host, request, responder);
  host.loop.soon([weak = std::weak_ptr<Cores>(cores)] {
    if (const auto alive = weak.lock()) alive->step();
  });
  return cores;
}

std::shared_ptr<Request> beginFileRead(Host& host, Fd file, const Responder& responder) {
  auto read = std::make_shared<FileRead>(std::move(file), responder);
  host.loop.soon([weak = std::weak_ptr<FileRead>(read)] {
    if (const auto alive = weak.lock()) alive->pump();
  });
  return read;
}

}  // namespace cctl::shim
