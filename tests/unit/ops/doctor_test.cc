#include "ops/doctor.h"

#include <doctest/doctest.h>

#include "unit/model/inventory_fixture.h"

using namespace cctl;
using namespace cctl::ops;

namespace {

constexpr uint64_t kGiB = uint64_t{1} << 30;

// host4 keeps no registry; the service runs on host1 and host4.
Inventory inventoryWith(const std::string& lines = "") {
  return fixture::mustLoad(fixture::kCluster,
                           "service: s\nplace: {hosts: [host1, host4]}\nrun: [bin/s]\n" + lines);
}

// A host with which nothing is wrong.
HostExam healthy(const char* host = "host4") {
  HostExam exam;
  exam.host = HostName(host);
  exam.hello.version = "0.1.0";
  exam.hello.user = "root";
  protocol::DoctorReply reply;
  reply.boot_hook = "systemd";
  reply.core_pattern = "core.%p";
  reply.local_port_low = 32768;
  reply.local_port_high = 60999;
  reply.disk_total = 100 * kGiB;
  reply.disk_free = 50 * kGiB;
  reply.inodes_total = 1'000'000;
  reply.inodes_free = 900'000;
  reply.nofile_hard = 1'048'576;
  reply.cgroup = "v2";
  exam.reply = reply;
  return exam;
}

std::vector<Finding> judged(const HostExam& exam, const std::string& lines = "") {
  return findTroubles(inventoryWith(lines), exam, "0.1.0");
}

Finding only(const HostExam& exam, const std::string& lines = "") {
  const auto findings = judged(exam, lines);
  REQUIRE(findings.size() == 1);
  CHECK(findings[0].host == exam.host);
  return findings[0];
}

const char kWantsCores[] = "limits: {core: unlimited}\n";
const char kLimited[] = "limits: {memory: 512M}\n";

}  // namespace

TEST_CASE("doctor: nothing is found on a healthy host") {
  CHECK(judged(healthy()).empty());
  CHECK(judged(healthy("host1"), std::string(kWantsCores)).empty());
  CHECK(judged(healthy(), kLimited).empty());
}

TEST_CASE("doctor: instances that were given up, but not the failures of a roll-out") {
  HostExam exam = healthy();
  protocol::InstanceStatus status;
  status.service = "s";
  status.index = 3;
  status.state = protocol::InstanceState::kFailed;
  status.note = "crash loop: more than 3 restarts in 1m; last: signal 11 (SEGV) after 2 s";
  exam.instances = {status};
  CHECK(judged(exam).empty());
  exam.instances[0].current = true;
  const Finding finding = only(exam);
  CHECK(finding.trouble == Trouble::kGivenUp);
  CHECK(finding.level == Level::kBad);
  CHECK(finding.names == std::vector<std::string>{"s/3"});
  CHECK(finding.detail == status.note);
  exam.instances[0].state = protocol::InstanceState::kBackoff;
  CHECK(judged(exam).empty());
}

TEST_CASE("doctor: a shim that nothing could start again") {
  HostExam exam = healthy();
  exam.hello.link_problem = "/r/shim/current is missing";
  CHECK(only(exam).trouble == Trouble::kBrokenLink);
  CHECK(only(exam).detail == "/r/shim/current is missing");
}

TEST_CASE("doctor: a host that cannot be used, and what it keeps") {
  HostExam exam;
  exam.host = HostName("host4");
  exam.error = Error{Code::kUnreachable, "host4: no answer"};
  CHECK(only(exam).trouble == Trouble::kUnreachable);
  exam.error = Error{Code::kNotFound, "host4: no shim answers in /r"};
  CHECK(only(exam).trouble == Trouble::kNoShim);
  exam.error = Error{Code::kRefused, "host4: belongs to another cluster"};
  CHECK(only(exam).trouble == Trouble::kShimRefuses);
  exam.host = HostName("host1");
  exam.error = Error{Code::kUnreachable, "host1: no answer"};
  const auto findings = judged(exam);
  REQUIRE(findings.size() == 2);
  CHECK(findings[1].trouble == Trouble::kNoRegistry);
  CHECK(findings[1].level == Level::kBad);
}

TEST_CASE("doctor: the registry as a whole") {
  const std::vector<HostName> hosts{HostName("h1"), HostName("h2"), HostName("h3")};
  RegistryReport report;
  CHECK(findRegistryTroubles(report, hosts).empty());  // not founded yet
  registry::Membership membership;
  membership.epoch = {1, 1};
  for (const char* host : {"h1", "h2", "h3"}) {
    membership.now.members.push_back({host, std::string("of-") + host});
    report.members.push_back(
        {membership.now.members.back(), "member", MemberState::kOk, "", {}, 0, 0, ""});
  }
  report.membership = membership;
  report.quorum = true;
  CHECK(findRegistryTroubles(report, hosts).empty());
  CHECK(report.usable() == 3);
  CHECK(report.majority() == 2);

  report.members[2].state = MemberState::kOtherDisk;
  auto findings = findRegistryTroubles(report, hosts);
  REQUIRE(findings.size() == 1);
  CHECK(findings[0].trouble == Trouble::kOtherDisk);
  CHECK(findings[0].host == HostName("h3"));
  CHECK(findRegistryTroubles(report, {HostName("h1")}).empty());

  report.members[1].state = MemberState::kUnreachable;
  report.quorum = false;
  report.membership->old = membership.now;
  findings = findRegistryTroubles(report, {});
  REQUIRE(findings.size() == 2);
  CHECK(findings[0].trouble == Trouble::kNoQuorum);
  CHECK(findings[0].level == Level::kBad);
  CHECK(findings[0].detail == "1 of 3 members usable, 2 are a majority");
  CHECK(findings[1].trouble == Trouble::kMembersChanging);
  findings = findRegistryTroubles(fail(Code::kNoQuorum, "nobody answers"), {});
  REQUIRE(findings.size() == 1);
  CHECK(findings[0].detail == "nobody answers");
}

TEST_CASE("doctor: an older shim, by version or because it knows no doctor") {
  HostExam exam = healthy();
  exam.hello.version = "0.0.9";
  CHECK(only(exam).trouble == Trouble::kOldShim);
  CHECK(only(exam).level == Level::kWarning);
  exam.hello.version = "0.2.0";
  CHECK(judged(exam).empty());  // newer is fine
  exam.hello.version = "0.1.0";
  exam.reply.reset();
  CHECK(only(exam).trouble == Trouble::kOldShim);
}

TEST_CASE("doctor: the boot hook") {
  HostExam exam = healthy();
  exam.reply->boot_hook_problem = "cron does not run";
  CHECK(only(exam).trouble == Trouble::kBadBootHook);
  exam.reply->boot_hook.clear();
  CHECK(only(exam).trouble == Trouble::kNoBootHook);
  CHECK(only(exam).level == Level::kBad);
}

TEST_CASE("doctor: room on the disk, by share and by amount") {
  HostExam exam = healthy();
  const auto disk = [&](uint64_t free, uint64_t total) {
    exam.reply->disk_free = free;
    exam.reply->disk_total = total;
    return judged(exam);
  };
  CHECK(disk(11 * kGiB, 100 * kGiB).empty());
  CHECK(disk(9 * kGiB, 100 * kGiB).at(0).level == Level::kWarning);
  CHECK(disk(2 * kGiB, 100 * kGiB).at(0).level == Level::kBad);
  CHECK(disk(kGiB / 2, kGiB).at(0).level == Level::kWarning);  // half, but little
  CHECK(disk(50u << 20, 64u << 20).at(0).level == Level::kBad);
  CHECK(disk(0, 0).empty());  // not known
  exam.reply->inodes_free = 50'000;
  CHECK(only(exam).trouble == Trouble::kInodesFull);
  exam.reply->inodes_free = 0;
  CHECK(only(exam).level == Level::kBad);
  exam.reply->inodes_total = 0;  // a file system without such a number
  CHECK(judged(exam).empty());
}

TEST_CASE("doctor: a clock is off only as far as the round trip leaves no doubt") {
  HostExam exam = healthy();
  exam.clock_ahead = Millis(1'400);
  exam.clock_doubt = Millis(500);
  CHECK(judged(exam).empty());
  exam.clock_doubt = Millis(10);
  CHECK(only(exam).trouble == Trouble::kClockAhead);
  CHECK(only(exam).level == Level::kWarning);
  CHECK(only(exam).amount == 1'390);
  exam.clock_ahead = Millis(-6'000);
  CHECK(only(exam).trouble == Trouble::kClockBehind);
  CHECK(only(exam).level == Level::kBad);
}

TEST_CASE("doctor: core_pattern, where somebody wants cores") {
  HostExam exam = healthy();
  const auto with = [&](const char* pattern, bool uses_pid = false) {
    exam.reply->core_pattern = pattern;
    exam.reply->core_uses_pid = uses_pid;
    return judged(exam, kWantsCores);
  };
  CHECK(with("core", true).empty());
  CHECK(with("/var/cores/%e.%t").empty());
  CHECK(with("core").at(0).trouble == Trouble::kCoresOverwritten);
  CHECK(with("").at(0).trouble == Trouble::kCoresLost);
  CHECK(with("/dev/null").at(0).trouble == Trouble::kCoresLost);
  CHECK(with("|/usr/lib/systemd/systemd-coredump %P").at(0).trouble == Trouble::kCoresPiped);
  CHECK(with("|/x").at(0).names == std::vector<std::string>{"s"});
  CHECK(judged(exam).empty());
  CHECK(judged(exam, "limits: {core: 0}\n").empty());
  exam.host = HostName("host2");  // where that service does not run
  CHECK(judged(exam, kWantsCores).empty());
}

TEST_CASE("doctor: the pool of ports against those of outgoing connections") {
  HostExam exam = healthy();
  exam.reply->local_port_low = 29'000;
  CHECK(only(exam).trouble == Trouble::kPortsOverlap);
  exam.reply->local_ports_reserved = "80,29500-29600";
  CHECK(only(exam).detail == "80,29500-29600");
  for (const char* reserved : {"21000-29999", "80,29000-30000", "1-65535,x"}) {
    exam.reply->local_ports_reserved = reserved;
    CHECK_MESSAGE(judged(exam).empty(), reserved);
  }
}

TEST_CASE("doctor: limits that this host cannot apply") {
  HostExam exam = healthy();
  exam.reply->cgroup.clear();
  exam.reply->cgroup_problem = "no cgroup of its own";
  CHECK(judged(exam).empty());
  CHECK(only(exam, kLimited).trouble == Trouble::kLimitsIgnored);
  CHECK(only(exam, "limits: {cpu: 2}\n").detail == "no cgroup of its own");
  exam.reply->nofile_hard = 1024;
  const Finding files = only(exam, "limits: {nofile: 65536}\n");
  CHECK(files.trouble == Trouble::kTooManyFiles);
  CHECK(files.amount == 65'536);
  CHECK(files.limit == 1024);
}

TEST_CASE("doctor: cores that cannot be as large as wanted") {
  HostExam exam = healthy();
  CHECK(judged(exam, kWantsCores).empty());
  exam.reply->core_hard = 0;
  const Finding finding = only(exam, kWantsCores);
  CHECK(finding.trouble == Trouble::kCoresLimited);
  CHECK(finding.names == std::vector<std::string>{"s"});
  CHECK(finding.limit == 0);
  CHECK(judged(exam, "limits: {core: 0}\n").empty());
}

TEST_CASE("doctor: users that a shim without root cannot become") {
  HostExam exam = healthy();
  exam.hello.uid = 1000;
  exam.hello.user = "app";
  CHECK(judged(exam).empty());
  CHECK(judged(exam, "user: app\n").empty());
  CHECK(only(exam, "user: nobody\n").trouble == Trouble::kCannotBecome);
  exam.hello.uid = 0;
  CHECK(judged(exam, "user: nobody\n").empty());
}

TEST_CASE("doctor: what the shim itself complains of") {
  HostExam exam = healthy();
  exam.reply->problems = {"a: torn", "b: damaged"};
  CHECK(judged(exam).size() == 2);
  exam.reply->problems.clear();
  exam.reply->registry_problem = "registers.log: damaged";
  CHECK(judged(exam).empty());  // host4 keeps none
  exam.host = HostName("host1");
  CHECK(only(exam).trouble == Trouble::kNoRegistry);
}
