#include "cli/doctor_text.h"

#include <fmt/ranges.h>

#include "base/version.h"

namespace cctl::cli {
namespace {

using ops::Finding;
using ops::Trouble;

std::string joined(const std::vector<std::string>& names) {
  return fmt::format("{}", fmt::join(names, ", "));
}

// Errors name their host first, which stands before them already.
std::string withoutHost(const Finding& finding) {
  const std::string prefix = finding.host.str() + ": ";
  std::string text = finding.detail;
  while (text.starts_with(prefix)) text.erase(0, prefix.size());
  return text;
}

std::string oneLine(std::string text) {
  for (size_t at; (at = text.find('\n')) != std::string::npos;) text.replace(at, 1, " ");
  return text;
}

// Errors of the connection end with the way out, behind a line end or "; ".
FindingText unreachable(const Finding& finding) {
  const std::string text = withoutHost(finding);
  const size_t line = text.find("\n  If ");
  const size_t end = line != std::string::npos ? line : text.rfind("; ");
  std::string problem = text.substr(0, end);
  std::string mend;
  if (end != std::string::npos)
    mend = text.substr(end + (line != std::string::npos ? 3 : 2));
  else
    mend = fmt::format(
        "see that the host is up and that `ssh` to it works from here; then "
        "clusterctl -v ping -l {}",
        finding.host);
  return {"ssh", oneLine(std::move(problem)), oneLine(std::move(mend))};
}

FindingText room(const Finding& finding, const Inventory& inventory, bool inodes) {
  const uint64_t percent = finding.limit == 0 ? 0 : finding.amount * 100 / finding.limit;
  if (inodes)
    return {"inodes",
            fmt::format("{}% free of {} inodes ({}) on the file system of {}", percent,
                        finding.limit, finding.amount, inventory.root),
            "remove small files that nobody needs; new ones can soon not be made"};
  return {
      "disk",
      fmt::format("{}% free of {} ({}) on the file system of {}", percent, humanSize(finding.limit),
                  humanSize(finding.amount), inventory.root),
      fmt::format("make room: `clusterctl exec {} -- du -xsh {}/services/*` shows what is large",
                  finding.host, inventory.root)};
}

FindingText clockOff(const Finding& finding, const char* where) {
  return {"clock",
          fmt::format("its clock is {} {} ours",
                      humanDuration(Millis(static_cast<int64_t>(finding.amount))), where),
          fmt::format("let both follow NTP; `clusterctl exec {} -- timedatectl` says whether it "
                      "does",
                      finding.host)};
}

FindingText cores(const Finding& finding) {
  const std::string names = joined(finding.names);
  if (finding.trouble == Trouble::kCoresLost)
    return {"core",
            fmt::format("core_pattern \"{}\" keeps no cores, and {} asks for them", finding.detail,
                        names),
            "sysctl -w kernel.core_pattern=core.%p, and put it into /etc/sysctl.d"};
  if (finding.trouble == Trouble::kCoresOverwritten)
    return {"core",
            fmt::format("core_pattern \"{}\" has no pid: a core of {} replaces the one before, "
                        "unless it is collected in between",
                        finding.detail, names),
            "sysctl -w kernel.core_uses_pid=1, and put it into /etc/sysctl.d"};
  if (finding.detail.find("systemd-coredump") != std::string::npos)
    return {"core", fmt::format("cores of {} go to systemd-coredump, not to clusterctl", names),
            fmt::format("get them by: clusterctl exec {} -- sudo coredumpctl dump PID -o FILE",
                        finding.host)};
  if (finding.detail.find("apport") != std::string::npos)
    return {"core", fmt::format("cores of {} go to apport, not to clusterctl", names),
            "look in /var/crash there, or: systemctl disable --now apport; sysctl -w "
            "kernel.core_pattern=core.%p"};
  return {"core", fmt::format("cores of {} are given to \"{}\"", names, finding.detail),
          "look where that program puts them"};
}

FindingText portsOverlap(const Finding& finding, const Inventory& inventory) {
  const std::string pool = fmt::format("{}-{}", inventory.ports.first, inventory.ports.last);
  return {"ports",
          fmt::format("the pool {} overlaps the ports of outgoing connections, {}-{}: these may "
                      "take a service's port while it restarts",
                      pool, finding.amount, finding.limit),
          fmt::format("sysctl -w net.ipv4.ip_local_reserved_ports={}{}{}, and put it into "
                      "/etc/sysctl.d",
                      finding.detail, finding.detail.empty() ? "" : ",", pool)};
}

FindingText bootHook(const Finding& finding) {
  const std::string mend = fmt::format("clusterctl bootstrap {} --force", finding.host);
  if (finding.trouble == Trouble::kNoBootHook)
    return {"boot", fmt::format("nothing starts the shim at boot: {}", finding.detail), mend};
  const bool cron = finding.detail.find("does not run") != std::string::npos;
  return {
      "boot",
      fmt::format("{} would not start the shim at boot: {}", joined(finding.names), finding.detail),
      cron ? "start cron there, and have it started at boot" : mend};
}

FindingText shim(const Finding& finding) {
  const std::string bootstrap = fmt::format("clusterctl bootstrap {}", finding.host);
  if (finding.trouble == Trouble::kNoShim) {
    const std::string text = withoutHost(finding);
    const bool is_there = text.find("no shim answers") != std::string::npos;
    return {"shim", text.substr(0, text.rfind("; run ")),
            bootstrap + (is_there ? " (--force where one runs and does not answer)" : "")};
  }
  if (finding.trouble == Trouble::kShimRefuses) {
    const std::string text = withoutHost(finding);
    const size_t end = text.rfind("; ");
    return {"shim", text.substr(0, end),
            end == std::string::npos ? bootstrap : text.substr(end + 2)};
  }
  return {"shim", fmt::format("its shim is {}, this clusterctl is {}", finding.detail, kVersion),
          bootstrap + ", or any command that changes something"};
}

// What a shim says of itself ends with the way out, behind "; ", or goes without.
FindingText inItsWords(std::string check, const std::string& text, std::string otherwise) {
  const size_t end = text.rfind("; ");
  if (end == std::string::npos) return {std::move(check), text, std::move(otherwise)};
  return {std::move(check), text.substr(0, end), text.substr(end + 2)};
}

FindingText limits(const Finding& finding) {
  if (finding.trouble == Trouble::kLimitsIgnored)
    return {"limits",
            fmt::format("limits on memory and processors of {} cannot be applied: {}",
                        joined(finding.names), finding.detail),
            "let the shim run as root (become: sudo) under systemd, or take the limits out"};
  return {"limits",
          fmt::format("{} asks for {} open files, and {} is the most there", joined(finding.names),
                      finding.amount, finding.limit),
          "raise the hard limit (sysctl fs.nr_open, limits.conf for logins), or ask for fewer"};
}

FindingText user(const Finding& finding) {
  if (finding.trouble == Trouble::kCannotBecome)
    return {"user",
            fmt::format("{} is to run as another user, and the shim runs as {}, which cannot "
                        "become one",
                        joined(finding.names), finding.detail),
            fmt::format("set `become: sudo` and take it off and place it anew, or log in as that "
                        "user: clusterctl unbootstrap {}",
                        finding.host)};
  return {"user",
          fmt::format("the inventory says become: sudo, and the shim runs as {}", finding.detail),
          fmt::format("clusterctl unbootstrap {0}, then clusterctl bootstrap {0}", finding.host)};
}

}  // namespace

FindingText findingText(const Inventory& inventory, const Finding& finding) {
  switch (finding.trouble) {
    case Trouble::kUnreachable:
      return unreachable(finding);
    case Trouble::kNoShim:
    case Trouble::kShimRefuses:
    case Trouble::kOldShim:
      return shim(finding);
    case Trouble::kGivenUp:
      return {"service",
              fmt::format("{} is not started any more: {}", joined(finding.names),
                          oneLine(finding.detail)),
              fmt::format("see `clusterctl logs {0}`, and when it is mended: clusterctl start {0}",
                          joined(finding.names))};
    case Trouble::kBrokenLink:
      return {"shim", "nothing could start the shim again: " + finding.detail,
              fmt::format("clusterctl bootstrap {}", finding.host)};
    case Trouble::kNoRegistry:
      return inItsWords(
          "registry", "it keeps the registry: " + finding.detail,
          "mend this host: without a majority of the registry's hosts nothing can be changed");
    case Trouble::kOtherDisk:
      return {"registry", "its registry state was lost or is another's: it counts as absent",
              fmt::format("clusterctl registry members replace {}", finding.host)};
    case Trouble::kNoQuorum:
      return {"quorum", oneLine("nothing can be changed: " + finding.detail),
              "bring members back (`clusterctl registry status` says which); only when a majority "
              "is lost for ever: clusterctl registry recover"};
    case Trouble::kMembersChanging:
      return {"quorum",
              fmt::format("a change of its members was begun and has not ended, epoch {}",
                          finding.detail),
              "if no command is at it now, it was cut short; clusterctl sync ends it"};
    case Trouble::kNoBootHook:
    case Trouble::kBadBootHook:
      return bootHook(finding);
    case Trouble::kDiskFull:
    case Trouble::kInodesFull:
      return room(finding, inventory, finding.trouble == Trouble::kInodesFull);
    case Trouble::kClockAhead:
      return clockOff(finding, "ahead of");
    case Trouble::kClockBehind:
      return clockOff(finding, "behind");
    case Trouble::kCoresLost:
    case Trouble::kCoresOverwritten:
    case Trouble::kCoresPiped:
      return cores(finding);
    case Trouble::kCoresLimited:
      return {"core",
              fmt::format("cores of {} can have {} at most, the hard limit that the shim was "
                          "started with",
                          joined(finding.names), humanSize(finding.limit)),
              "raise it for the login (limits.conf) or the shim's unit (LimitCORE=infinity), and "
              "start the shim anew"};
    case Trouble::kPortsOverlap:
      return portsOverlap(finding, inventory);
    case Trouble::kLimitsIgnored:
    case Trouble::kTooManyFiles:
      return limits(finding);
    case Trouble::kCannotBecome:
    case Trouble::kNotRoot:
      return user(finding);
    case Trouble::kDamaged:
      break;
  }
  return inItsWords("files", finding.detail,
                    fmt::format("see `clusterctl events -l {}`", finding.host));
}

}  // namespace cctl::cli
