#include "shim/boot_hook.h"

#include <unistd.h>

#include <cerrno>

#include "base/file.h"
#include "base/subprocess.h"
#include "model/host_paths.h"
#include "shim/anchor.h"

namespace cctl::shim {
namespace {

constexpr char kCronDir[] = "/etc/cron.d";
constexpr char kUnitDir[] = "/etc/systemd/system";

constexpr int kStopSeconds = 330;  // more than stopWithHost() takes at most

Result<SubprocessResult> runQuick(std::vector<std::string> argv, std::string input = {},
                                  Millis time_limit = Millis(30'000)) {
  return runSubprocess({std::move(argv), std::move(input), 1u << 20}, Deadline::in(time_limit));
}

std::string unitPath(const std::string& cluster) {
  return fmt::format("{}/{}.service", kUnitDir, paths::bootUnit(cluster));
}
std::string cronPath(const std::string& cluster) {
  return paths::join(kCronDir, cronFileName(cluster));
}

// Quiet, and nothing at all when the shim runs.
std::string startCommand(const std::string& root) {
  return fmt::format("{} start --root {} >/dev/null 2>&1", paths::shimCurrent(root), root);
}

std::string beginMark(const std::string& cluster) {
  return fmt::format("# BEGIN {}\n", paths::bootUnit(cluster));
}
std::string endMark(const std::string& cluster) {
  return fmt::format("# END {}\n", paths::bootUnit(cluster));
}

bool haveCronDaemon() {
  for (const char* path :
       {"/usr/sbin/cron", "/usr/sbin/crond", "/usr/bin/crond", "/sbin/crond", "/usr/sbin/anacron"})
    if (::access(path, X_OK) == 0) return true;
  return false;
}

BootHook none(std::string reason) { return {BootHook::Kind::kNone, std::move(reason)}; }

BootHook installUnit(const std::string& root, const std::string& cluster) {
  if (auto written = replaceFile(unitPath(cluster), unitText(root, cluster)); !written)
    return none(written.error().message);
  if (auto reloaded = runQuick({"systemctl", "daemon-reload"}); !reloaded)
    return none(reloaded.error().message);
  if (auto enabled = systemctl("enable", cluster); !enabled) return none(enabled.error().message);
  return {BootHook::Kind::kSystemd, {}};
}

BootHook installCronFile(const std::string& root, const std::string& cluster) {
  if (!isDirectory(kCronDir) || !haveCronDaemon())
    return none("this host has neither systemd nor cron: its services do not start at boot");
  if (auto written = replaceFile(cronPath(cluster), cronFileText(root, cluster)); !written)
    return none(written.error().message);
  return {BootHook::Kind::kCronDir, {}};
}

// An empty one when there is none yet: crontab then exits with 1.
std::string ownCrontab(Millis time_limit = Millis(30'000)) {
  const auto listed = runQuick({"crontab", "-l"}, {}, time_limit);
  return listed && listed->exit_status == 0 ? listed->out : std::string();
}

Result<void> setCrontab(const std::string& text) {
  CCTL_TRY(const SubprocessResult result, runQuick({"crontab", "-"}, text));
  if (result.exit_status == 0) return {};
  return fail(Code::kError, "crontab: {}", result.err.substr(0, result.err.find('\n')));
}

BootHook installCrontab(const std::string& root, const std::string& cluster) {
  if (!haveCronDaemon())
    return none(
        "this login is not root and the host has no cron: its services do not start at boot");
  if (auto set = setCrontab(crontabWith(ownCrontab(), root, cluster)); !set)
    return none(set.error().message);
  return {BootHook::Kind::kCrontab, {}};
}

bool cronRuns(const std::string& proc) {
  const auto names = listDir(proc);
  if (!names) return true;  // cannot be known
  for (const std::string& name : *names) {
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const auto comm = readFile(fmt::format("{}/{}/comm", proc, name), 64);
    if (comm && (*comm == "cron\n" || *comm == "crond\n" || *comm == "anacron\n")) return true;
  }
  return false;
}

BootHook byCron(BootHook::Kind kind, const std::string& proc) {
  return {kind, cronRuns(proc) ? "" : "cron does not run on this host"};
}

BootHook findUnit(const std::string& root, const std::string& cluster) {
  const auto text = readFile(unitPath(cluster));
  if (!text) return none(fmt::format("there is no {}", unitPath(cluster)));
  BootHook hook{BootHook::Kind::kSystemd, {}};
  const std::string wanted =
      fmt::format("{}/multi-user.target.wants/{}.service", kUnitDir, paths::bootUnit(cluster));
  if (!exists(wanted)) hook.reason = "the unit is not enabled";
  if (*text != unitText(root, cluster)) hook.reason = unitPath(cluster) + " is for another shim";
  return hook;
}

}  // namespace

BootHook findBootHook(const std::string& root, const std::string& cluster,
                      const std::string& proc) {
  if (underSystemd()) return findUnit(root, cluster);
  if (::geteuid() == 0) {
    const auto text = readFile(cronPath(cluster));
    if (!text) return none(fmt::format("there is no {}", cronPath(cluster)));
    BootHook hook = byCron(BootHook::Kind::kCronDir, proc);
    if (*text != cronFileText(root, cluster)) hook.reason = cronPath(cluster) + " was changed";
    return hook;
  }
  if (ownCrontab(Millis(2'000)).find(beginMark(cluster)) == std::string::npos)
    return none("the crontab of this login has no lines of this cluster");
  return byCron(BootHook::Kind::kCrontab, proc);
}

std::string cronFileName(const std::string& cluster) {
  std::string name = paths::bootUnit(cluster);
  for (char& c : name) {
    const bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!fine && c != '-' && c != '_') c = '_';
  }
  return name;
}

std::string unitText(const std::string& root, const std::string& cluster) {
  // KillMode=process: the services outlive their supervisor, whatever happens to it, but not the
  // host: ExecStop lets them end in their own way.
  return fmt::format(
      "[Unit]\n"
      "Description=clusterctl shim of cluster {0}\n"
      "After=network-online.target local-fs.target\n"
      "Wants=network-online.target\n\n"
      "[Service]\n"
      "ExecStart={1} run --root {2}\n"
      "ExecStop={1} stop-with-host --root {2}\n"
      "TimeoutStopSec={4}\n"
      "KillMode=process\n"
      "Restart=always\n"
      "RestartPreventExitStatus={3}\n"
      "RestartSec=100ms\n"
      "Delegate=yes\n"
      "OOMPolicy=continue\n"
      "TasksMax=infinity\n"
      "LimitNOFILE=1048576\n\n"
      "[Install]\n"
      "WantedBy=multi-user.target\n",
      cluster, paths::shimCurrent(root), root, kLeftByOrder, kStopSeconds);
}

std::string cronFileText(const std::string& root, const std::string& cluster) {
  const std::string command = startCommand(root);
  return fmt::format(
      "# clusterctl: starts the shim of cluster {} at boot, and within a minute when it is gone.\n"
      "SHELL=/bin/sh\n"
      "@reboot root {}\n"
      "* * * * * root {}\n",
      cluster, command, command);
}

std::string crontabWithout(const std::string& crontab, const std::string& cluster) {
  const size_t begin = crontab.find(beginMark(cluster));
  if (begin == std::string::npos) return crontab;
  const std::string end_mark = endMark(cluster);
  const size_t end = crontab.find(end_mark, begin);
  // Without its end somebody has edited it: only the first line is surely ours.
  const size_t rest =
      end == std::string::npos ? begin + beginMark(cluster).size() : end + end_mark.size();
  return crontab.substr(0, begin) + crontab.substr(rest);
}

std::string crontabWith(const std::string& crontab, const std::string& root,
                        const std::string& cluster) {
  std::string text = crontabWithout(crontab, cluster);
  if (!text.empty() && text.back() != '\n') text.push_back('\n');
  const std::string command = startCommand(root);
  return text + beginMark(cluster) + "@reboot " + command + "\n* * * * * " + command + "\n" +
         endMark(cluster);
}

bool underSystemd() { return ::geteuid() == 0 && isDirectory("/run/systemd/system"); }

Result<void> systemctl(const std::string& verb, const std::string& cluster) {
  const std::string unit = paths::bootUnit(cluster) + ".service";
  CCTL_TRY(const SubprocessResult result, runQuick({"systemctl", verb, unit}));
  if (result.exit_status == 0) return {};
  return fail(Code::kError, "systemctl {} {}: {}", verb, unit,
              result.err.substr(0, result.err.find('\n')));
}

bool hostGoesDown() {
  const auto said = runQuick({"systemctl", "is-system-running"});
  return said && said->out == "stopping\n";
}

BootHook installBootHook(const std::string& root, const std::string& cluster) {
  if (underSystemd()) return installUnit(root, cluster);
  return ::geteuid() == 0 ? installCronFile(root, cluster) : installCrontab(root, cluster);
}

Result<void> removeBootHook(const std::string&, const std::string& cluster) {
  if (::geteuid() != 0) {
    const std::string before = ownCrontab();
    const std::string after = crontabWithout(before, cluster);
    return after == before ? Result<void>() : setCrontab(after);
  }
  if (underSystemd() && exists(unitPath(cluster))) CCTL_CHECK(systemctl("disable", cluster));
  for (const std::string& path : {unitPath(cluster), cronPath(cluster)})
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) return failErrno(errno, path);
  if (underSystemd()) CCTL_CHECK(runQuick({"systemctl", "daemon-reload"}));
  return {};
}

}  // namespace cctl::shim
