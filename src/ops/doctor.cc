#include "ops/doctor.h"

#include <algorithm>
#include <functional>

#include "base/version.h"
#include "model/placement.h"
#include "model/reader.h"
#include "model/release_info.h"
#include "model/schema.h"
#include "ops/probe.h"
#include "transport/fan_out.h"

namespace cctl::ops {
namespace {

Result<void> askDoctor(HostConnection& connection, HostExam& exam, const CancelToken* cancel) {
  SystemClock clock;
  const WallTime asked = clock.wall();
  const auto reply = connection.shim->call<protocol::DoctorReply>(
      protocol::DoctorRequest{}, Deadline::in(kRequestTimeout), cancel);
  const WallTime answered = clock.wall();
  if (!reply && reply.error().code == Code::kBadInput) return {};  // it knows no such request
  if (!reply) return fail(reply.error());
  exam.clock_doubt = (answered - asked) / 2;
  exam.clock_ahead = reply->now - (asked + exam.clock_doubt);
  exam.reply = *reply;
  return {};
}

HostExam examine(Fleet& fleet, const HostName& host, const CancelToken* cancel) {
  HostExam exam;
  exam.host = host;
  const auto connection = fleet.await(host);
  if (!connection) {
    exam.error = connection.error();
    return exam;
  }
  exam.hello = (*connection)->hello;
  if (auto asked = askDoctor(**connection, exam, cancel); !asked) exam.error = asked.error();
  if (exam.error) return exam;
  auto report = probeHostStatus(**connection, "", cancel);
  if (report)
    exam.instances = std::move(report->instances);
  else
    exam.error = report.error();
  return exam;
}

// "8080,21000-29999", as the kernel shows it.
bool isReserved(std::string_view reserved, int first, int last) {
  while (!reserved.empty()) {
    const std::string_view part = reserved.substr(0, reserved.find(','));
    reserved.remove_prefix(std::min(part.size() + 1, reserved.size()));
    const size_t dash = part.find('-');
    const auto low = parseInteger(part.substr(0, dash));
    const auto high = dash == std::string_view::npos ? low : parseInteger(part.substr(dash + 1));
    if (low && high && *low <= first && last <= *high) return true;
  }
  return false;
}

class Judge {
 public:
  Judge(const Inventory& inventory, const HostExam& exam, const std::string& version)
      : inventory_(inventory), exam_(exam), version_(version) {
    for (const auto& [name, manifest] : inventory.services) {
      const auto hosts = eligibleHosts(inventory, manifest);
      if (std::find(hosts.begin(), hosts.end(), exam.host) != hosts.end())
        services_.push_back(&manifest);
    }
  }

  std::vector<Finding> judge() {
    if (exam_.error) {
      judgeError(*exam_.error);
      return std::move(findings_);
    }
    judgeShim();
    judgeInstances();
    judgeUser();
    if (exam_.reply) judgeReply(*exam_.reply);
    std::stable_sort(findings_.begin(), findings_.end(),
                     [](const Finding& a, const Finding& b) { return a.trouble < b.trouble; });
    return std::move(findings_);
  }

 private:
  Finding& add(Trouble trouble, Level level, std::string detail = {}) {
    findings_.push_back({exam_.host, trouble, level, std::move(detail), {}, 0, 0});
    return findings_.back();
  }

  bool keepsRegistry() const {
    const auto& members = inventory_.registry_hosts;
    return std::find(members.begin(), members.end(), exam_.host) != members.end();
  }

  std::vector<std::string> servicesWith(const std::function<bool(const Manifest&)>& wanted) const {
    std::vector<std::string> names;
    for (const Manifest* manifest : services_)
      if (wanted(*manifest)) names.push_back(manifest->service.str());
    return names;
  }

  void judgeError(const Error& error) {
    if (error.code == Code::kNotFound)
      add(Trouble::kNoShim, Level::kBad, error.message);
    else if (error.code == Code::kUnreachable || error.code == Code::kTimeout)
      add(Trouble::kUnreachable, Level::kBad, error.message);
    else
      add(Trouble::kShimRefuses, Level::kBad, error.message);
    if (keepsRegistry())
      add(Trouble::kNoRegistry, Level::kBad,
          error.code == Code::kNotFound ? "no shim answers there" : "it cannot be used");
  }

  void judgeShim() {
    if (const std::string& broken = exam_.hello.link_problem; !broken.empty())
      add(Trouble::kBrokenLink, Level::kBad, broken);
    const std::string& theirs = exam_.hello.version;
    if (!exam_.reply || (theirs != version_ && compareDotted(theirs, version_) < 0))
      add(Trouble::kOldShim, Level::kWarning, theirs);
  }

  // What failed beside a generation that is current is a roll-out's, and was told by it.
  void judgeInstances() {
    for (const protocol::InstanceStatus& one : exam_.instances)
      if (one.current && one.state == protocol::InstanceState::kFailed)
        add(Trouble::kGivenUp, Level::kBad, one.note).names = {
            InstanceId{ServiceName(one.service), one.index}.text()};
  }

  void judgeUser() {
    if (exam_.hello.uid == 0) return;
    const std::string& login = exam_.hello.user;
    auto names =
        servicesWith([&](const Manifest& one) { return !one.user.empty() && one.user != login; });
    if (!names.empty()) add(Trouble::kCannotBecome, Level::kBad, login).names = std::move(names);
    const Host* host = inventory_.findHost(exam_.host);
    if (host != nullptr && host->ssh.become == Become::kSudo)
      add(Trouble::kNotRoot, Level::kWarning, login);
  }

  void judgeReply(const protocol::DoctorReply& reply) {
    if (keepsRegistry() && !reply.registry_problem.empty())
      add(Trouble::kNoRegistry, Level::kBad, reply.registry_problem);
    judgeBootHook(reply);
    judgeRoom(Trouble::kDiskFull, reply.disk_free, reply.disk_total, kLowBytes, kFullBytes);
    judgeRoom(Trouble::kInodesFull, reply.inodes_free, reply.inodes_total, 0, 0);
    judgeClock();
    judgeCores(reply);
    judgeCoreSize(reply);
    judgePorts(reply);
    judgeLimits(reply);
    for (const std::string& problem : reply.problems)
      add(Trouble::kDamaged, Level::kWarning, problem);
  }

  void judgeBootHook(const protocol::DoctorReply& reply) {
    if (reply.boot_hook.empty())
      add(Trouble::kNoBootHook, Level::kBad, reply.boot_hook_problem);
    else if (!reply.boot_hook_problem.empty())
      add(Trouble::kBadBootHook, Level::kBad, reply.boot_hook_problem).names = {reply.boot_hook};
  }

  void judgeRoom(Trouble trouble, uint64_t free, uint64_t total, uint64_t low, uint64_t full) {
    if (total == 0) return;  // not known, or a file system without such a number
    const auto below = [&](uint64_t percent, uint64_t amount) {
      return free < amount || free < total / 100 * percent;
    };
    if (!below(kLowPercent, low)) return;
    Finding& finding = add(trouble, below(kFullPercent, full) ? Level::kBad : Level::kWarning);
    finding.amount = free;
    finding.limit = total;
  }

  void judgeClock() {
    const bool ahead = exam_.clock_ahead > Millis(0);
    const Millis off = (ahead ? exam_.clock_ahead : -exam_.clock_ahead) - exam_.clock_doubt;
    if (off <= kClockWarn) return;
    add(ahead ? Trouble::kClockAhead : Trouble::kClockBehind,
        off > kClockBad ? Level::kBad : Level::kWarning)
        .amount = static_cast<uint64_t>(off.count());
  }

  // Only where a service asks for cores: others have no use for them.
  void judgeCores(const protocol::DoctorReply& reply) {
    auto names = servicesWith([](const Manifest& one) { return one.limits.core.value_or(0) > 0; });
    if (names.empty()) return;
    const std::string& pattern = reply.core_pattern;
    const auto has = [&](const char* part) { return pattern.find(part) != std::string::npos; };
    const bool piped = pattern.starts_with('|') || pattern.starts_with('@');
    const bool distinct =
        reply.core_uses_pid || has("%p") || has("%P") || has("%i") || has("%I") || has("%t");
    std::optional<Trouble> trouble;
    if (pattern == "/dev/null" || (pattern.empty() && !reply.core_uses_pid))
      trouble = Trouble::kCoresLost;
    else if (piped)
      trouble = Trouble::kCoresPiped;
    else if (!distinct)
      trouble = Trouble::kCoresOverwritten;
    if (trouble) add(*trouble, Level::kWarning, pattern).names = std::move(names);
  }

  void judgeCoreSize(const protocol::DoctorReply& reply) {
    if (!reply.core_hard) return;
    auto names = servicesWith(
        [&](const Manifest& one) { return one.limits.core.value_or(0) > *reply.core_hard; });
    if (names.empty()) return;
    Finding& finding = add(Trouble::kCoresLimited, Level::kWarning);
    finding.names = std::move(names);
    finding.limit = *reply.core_hard;
  }

  void judgePorts(const protocol::DoctorReply& reply) {
    const int first = std::max<int>(inventory_.ports.first, reply.local_port_low);
    const int last = std::min<int>(inventory_.ports.last, reply.local_port_high);
    if (reply.local_port_high == 0 || first > last ||
        isReserved(reply.local_ports_reserved, first, last))
      return;
    Finding& finding = add(Trouble::kPortsOverlap, Level::kWarning, reply.local_ports_reserved);
    finding.amount = static_cast<uint64_t>(reply.local_port_low);
    finding.limit = static_cast<uint64_t>(reply.local_port_high);
  }

  void judgeLimits(const protocol::DoctorReply& reply) {
    auto limited =
        servicesWith([](const Manifest& one) { return one.limits.memory || one.limits.cpu; });
    if (reply.cgroup.empty() && !limited.empty())
      add(Trouble::kLimitsIgnored, Level::kWarning, reply.cgroup_problem).names =
          std::move(limited);
    if (reply.nofile_hard == 0) return;
    uint64_t most = 0;
    auto greedy = servicesWith([&](const Manifest& one) {
      most = std::max(most, one.limits.nofile.value_or(0));
      return one.limits.nofile.value_or(0) > reply.nofile_hard;
    });
    if (greedy.empty()) return;
    Finding& finding = add(Trouble::kTooManyFiles, Level::kBad);
    finding.names = std::move(greedy);
    finding.amount = most;
    finding.limit = reply.nofile_hard;
  }

  const Inventory& inventory_;
  const HostExam& exam_;
  const std::string& version_;
  std::vector<const Manifest*> services_;  // that may run there
  std::vector<Finding> findings_;
};

}  // namespace

std::vector<HostExam> examineHosts(Fleet& fleet, const std::vector<HostName>& hosts,
                                   const CancelToken* cancel) {
  fleet.begin(hosts, Need::kShim);
  (void)fleet.awaitAll(hosts);  // tells of those that are late; each is asked for again below
  ssh::FanOutOptions options;
  options.forks = fleet.forks();
  std::vector<HostExam> exams(hosts.size());
  ssh::fanOut(hosts.size(), options,
              [&](size_t i) { exams[i] = examine(fleet, hosts[i], cancel); });
  return exams;
}

std::vector<Finding> findRegistryTroubles(const Result<RegistryReport>& registry,
                                          const std::vector<HostName>& hosts) {
  const auto of = [](const std::string& host, Trouble trouble, Level level, std::string detail) {
    return Finding{HostName(host), trouble, level, std::move(detail), {}, 0, 0};
  };
  if (!registry) return {of("", Trouble::kNoQuorum, Level::kBad, registry.error().message)};
  std::vector<Finding> findings;
  if (!registry->membership) return findings;
  if (!registry->quorum)
    findings.push_back(
        of("", Trouble::kNoQuorum, Level::kBad,
           fmt::format("{} of {} members usable, {} are a majority", registry->usable(),
                       registry->members.size(), registry->majority())));
  if (registry->membership->old)
    findings.push_back(
        of("", Trouble::kMembersChanging, Level::kWarning, registry->membership->epoch.text()));
  for (const MemberReport& member : registry->members)
    if (member.state == MemberState::kOtherDisk &&
        std::find(hosts.begin(), hosts.end(), HostName(member.member.host)) != hosts.end())
      findings.push_back(of(member.member.host, Trouble::kOtherDisk, Level::kBad, member.why));
  return findings;
}

std::vector<Finding> findTroubles(const Inventory& inventory, const HostExam& exam,
                                  const std::string& version) {
  return Judge(inventory, exam, version).judge();
}

}  // namespace cctl::ops
