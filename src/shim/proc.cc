#include "shim/proc.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <ctime>

#include "base/cancel.h"
#include "base/file.h"

namespace cctl::shim {
namespace {

constexpr Millis kExecTime{100};

std::vector<std::string_view> words(std::string_view text) {
  std::vector<std::string_view> found;
  size_t at = 0;
  while (at < text.size()) {
    const size_t begin = text.find_first_not_of(" \n", at);
    if (begin == std::string_view::npos) break;
    const size_t end = std::min(text.find_first_of(" \n", begin), text.size());
    found.push_back(text.substr(begin, end - begin));
    at = end;
  }
  return found;
}

template <typename T>
T number(std::string_view text) {
  T value{};
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

uint64_t memoryLine(std::string_view text, std::string_view key) {
  const size_t at = text.find(key);
  if (at == std::string_view::npos) return 0;
  const size_t digits = text.find_first_not_of(' ', at + key.size());
  if (digits == std::string_view::npos) return 0;
  return number<uint64_t>(text.substr(digits)) * 1024;
}

// A file of /proc that comes in one piece: one read in place of two.
std::optional<std::string> readWhole(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return std::nullopt;
  char buffer[16384];
  const ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
  if (got < 0) return std::nullopt;
  std::string text(buffer, static_cast<size_t>(got));
  if (text.size() < sizeof buffer) return text;
  const auto rest = readAll(fd.get(), 4u << 20);
  return rest ? std::optional<std::string>(text + *rest) : std::nullopt;
}

}  // namespace

std::optional<ProcStat> parseProcStat(std::string_view text) {
  const size_t name_end = text.rfind(')');
  if (name_end == std::string_view::npos) return std::nullopt;
  const auto fields = words(text.substr(name_end + 1));  // fields[0] is field 3, the state
  if (fields.size() < 22) return std::nullopt;
  ProcStat stat;
  stat.state = fields[0].front();
  stat.parent = number<int>(fields[1]);
  stat.group = number<int>(fields[2]);
  stat.session = number<int>(fields[3]);
  stat.user_ticks = number<uint64_t>(fields[11]);
  stat.system_ticks = number<uint64_t>(fields[12]);
  stat.threads = number<int>(fields[17]);
  stat.start_ticks = number<uint64_t>(fields[19]);
  stat.rss_pages = number<uint64_t>(fields[21]);
  if (fields.size() > 49) stat.exit_code = number<int>(fields[49]);
  return stat;
}

std::optional<ProcStat> readProcStat(int pid) {
  const auto text = readWhole(fmt::format("/proc/{}/stat", pid));
  return text ? parseProcStat(*text) : std::nullopt;
}

std::optional<ProcStat> aliveProcess(int pid, uint64_t start_ticks) {
  auto stat = readProcStat(pid);
  if (!stat || stat->start_ticks != start_ticks || stat->dead()) return std::nullopt;
  return stat;
}

std::vector<int> allPids() {
  std::vector<int> pids;
  const auto names = listDir("/proc");
  for (const std::string& name : names ? *names : std::vector<std::string>())
    if (const int pid = number<int>(name); pid > 0) pids.push_back(pid);
  return pids;
}

std::vector<int> sessionMembers(int sid, uint64_t start_ticks) {
  std::vector<int> members;
  for (const int pid : allPids()) {
    const auto stat = readProcStat(pid);
    if (!stat || stat->session != sid) continue;
    if (pid == sid && stat->start_ticks != start_ticks) return {};
    if (!stat->dead()) members.push_back(pid);
  }
  return members;
}

std::optional<std::vector<int>> childrenOf(int pid) {
  const auto text = readFile(fmt::format("/proc/{0}/task/{0}/children", pid), 1u << 20);
  if (!text) return std::nullopt;
  std::vector<int> children;
  for (const std::string_view word : words(*text))
    if (const int child = number<int>(word); child > 0) children.push_back(child);
  return children;
}

// Whether both stand for the same file.
static bool areSame(const std::string& a, const std::string& b) {
  struct stat one {};
  struct stat other {};
  return ::stat(a.c_str(), &one) == 0 && ::stat(b.c_str(), &other) == 0 &&
         one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

bool runsOwnExecutable(int pid) {
  return areSame(fmt::format("/proc/{}/exe", pid), "/proc/self/exe");
}

uint64_t ticksNow() {
  static const auto kPerSecond = static_cast<uint64_t>(::sysconf(_SC_CLK_TCK));
  timespec up{};
  ::clock_gettime(CLOCK_BOOTTIME, &up);
  return static_cast<uint64_t>(up.tv_sec) * kPerSecond +
         static_cast<uint64_t>(up.tv_nsec) * kPerSecond / 1'000'000'000;
}

WallTime wallTimeOf(uint64_t start_ticks, WallTime now) {
  timespec up{};
  ::clock_gettime(CLOCK_BOOTTIME, &up);
  const Millis uptime(int64_t{up.tv_sec} * 1000 + up.tv_nsec / 1'000'000);
  return now - std::max(Millis(0), uptime - ticksToMillis(start_ticks));
}

std::string commandLineOf(int pid) {
  return readWhole(fmt::format("/proc/{}/cmdline", pid)).value_or("");
}

static bool hasExecutable(int pid) {  // not so what has ended, and what is the kernel's own
  char target[1];
  return ::readlink(fmt::format("/proc/{}/exe", pid).c_str(), target, sizeof target) > 0;
}

// In the midst of an exec a process has neither arguments nor environment, and what was opened
// before it is empty after it. So an empty one is believed when there are arguments, and it is
// still empty then, twice.
std::vector<std::string> environmentOf(int pid) {
  const std::string path = fmt::format("/proc/{}/environ", pid);
  const Deadline deadline = Deadline::in(kExecTime);
  auto text = readWhole(path);
  for (int seen = 0; text && text->empty() && seen < 2 && hasExecutable(pid);) {
    if (!commandLineOf(pid).empty())
      ++seen;
    else if (deadline.passed())
      break;
    else
      ::usleep(1'000);  // there is nothing to wait on
    text = readWhole(path);
  }
  std::vector<std::string> variables;
  std::string_view rest = text ? std::string_view(*text) : std::string_view();
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\0'), rest.size());
    variables.emplace_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return variables;
}

static int mainPidIn(const std::vector<std::string>& environment) {
  const std::string name = std::string(kMainPid) + "=";
  for (const std::string& variable : environment)
    if (variable.starts_with(name))
      return number<int>(std::string_view(variable).substr(name.size()));
  return 0;
}

static bool hasEnded(int pid) {
  const auto stat = readProcStat(pid);
  return !stat || stat->dead();
}

bool isOfThisHost(int pid, const std::string& dir) {
  return areSame(fmt::format("/proc/{}/ns/pid", pid), "/proc/self/ns/pid") ||
         areSame(fmt::format("/proc/{}/root{}", pid, dir), dir);
}

Marked processesWith(const std::string& variable, const std::string& dir) {
  Marked found;
  for (const int pid : allPids()) {
    const auto environment = environmentOf(pid);
    if (std::find(environment.begin(), environment.end(), variable) == environment.end()) continue;
    const auto stat = readProcStat(pid);
    if (!stat || stat->dead() || !isOfThisHost(pid, dir)) continue;
    const int main = mainPidIn(environment);
    if (main == pid)
      found.mains.push_back(pid);
    else if ((main > 0 && hasEnded(main)) || hasEnded(stat->session))
      found.orphans.push_back(pid);
  }
  return found;
}

std::string bootId() {
  auto text = readFile("/proc/sys/kernel/random/boot_id", 128);
  if (!text) return {};
  while (!text->empty() && text->back() == '\n') text->pop_back();
  return *text;
}

Millis ticksToMillis(uint64_t ticks) {
  static const auto kPerSecond = static_cast<uint64_t>(::sysconf(_SC_CLK_TCK));
  return Millis(static_cast<int64_t>(ticks * 1000 / kPerSecond));
}

int countFds(int pid) {
  const auto names = listDir(fmt::format("/proc/{}/fd", pid));
  return names ? static_cast<int>(names->size()) : 0;
}

IoFigures ioFigures(int pid) {
  const auto text = readFile(fmt::format("/proc/{}/io", pid), 4096);
  if (!text) return {};
  const auto line = [&](std::string_view key) {
    const size_t at = text->find(key);
    return at == std::string::npos
               ? uint64_t{0}
               : number<uint64_t>(std::string_view(*text).substr(at + key.size()));
  };
  return {line("\nread_bytes: "), line("\nwrite_bytes: ")};
}

// "  eth0: RECEIVED p e d f f c m SENT …" behind two lines of headings.
static void addNetwork(std::string_view text, HostFigures& figures) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    const auto name = words(line.substr(0, colon));
    const auto fields = words(line.substr(colon + 1));
    if (name.size() != 1 || name[0] == "lo" || fields.size() < 9) continue;
    figures.net_received += number<uint64_t>(fields[0]);
    figures.net_sent += number<uint64_t>(fields[8]);
  }
}

HostFigures hostFigures(const std::string& root) {
  HostFigures figures;
  if (const auto text = readFile("/proc/uptime", 256))
    figures.uptime = Millis(static_cast<int64_t>(std::strtod(text->c_str(), nullptr) * 1000));
  if (const auto text = readFile("/proc/loadavg", 256))
    figures.load1 = std::strtod(text->c_str(), nullptr);
  figures.cpus = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
  if (const auto text = readFile("/proc/meminfo", 65536)) {
    figures.memory_total = memoryLine(*text, "MemTotal:");
    figures.memory_available = memoryLine(*text, "MemAvailable:");
  }
  if (const auto text = readFile("/proc/net/dev", 1u << 20)) addNetwork(*text, figures);
  struct statvfs disk {};
  if (::statvfs(root.c_str(), &disk) == 0) {
    figures.disk_total = uint64_t{disk.f_blocks} * disk.f_frsize;
    figures.disk_free = uint64_t{disk.f_bavail} * disk.f_frsize;
  }
  return figures;
}

}  // namespace cctl::shim
