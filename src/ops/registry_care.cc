#include "ops/registry_care.h"

#include <algorithm>

#include "ops/fleet_acceptors.h"

namespace cctl::ops {
namespace {

using registry::Member;
using registry::Membership;
using registry::Refusal;

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string roleOf(const Membership& membership, const Member& member) {
  if (!membership.old) return "member";
  if (!registry::isMember(membership.now, member.acceptor)) return "leaving";
  return registry::isMember(*membership.old, member.acceptor) ? "member" : "joining";
}

bool mayCount(size_t members) {
  return members == 1 || members == 3 || members == 5 || members == 7;
}

registry::HostIdentity identityOf(const std::string& host,
                                  const Result<registry::AcceptorReply>& answer) {
  return {host, answer ? std::optional(*answer) : std::nullopt};
}

// Each host to be added as the member it will be.
Result<std::vector<Member>> admit(registry::QuorumRegisters& registers, const MembersWish& wish,
                                  const Membership& membership) {
  std::vector<Member> added;
  for (auto& [host, answer] : registers.identities(wish.add)) {
    if (!answer) return fail(answer.error());
    auto member = registry::admissible(identityOf(host, answer), membership);
    if (!member && member.error().code == Code::kRefused && wish.discard) {
      CCTL_TRY(const registry::AcceptorReply fresh, registers.discard(host, answer->acceptor));
      member = Member{host, fresh.acceptor};
    }
    if (!member) return fail(member.error());
    added.push_back(std::move(*member));
  }
  return added;
}

Result<Membership> membershipOf(registry::QuorumRegisters& registers) {
  CCTL_TRY(const std::optional<Membership> membership, registers.membership());
  if (membership) return *membership;
  return fail(Code::kNotFound,
              "this cluster has no registry yet: the first changing command founds it on "
              "registry.hosts");
}

Error wrongCount(size_t count) {
  return {Code::kBadInput,
          fmt::format("the registry has 1, 3, 5 or 7 members, and this would make {}: add or "
                      "remove more at once",
                      count)};
}

Result<void> checkRemoved(const Membership& membership, const MembersWish& wish) {
  const std::vector<Member> all = registry::membersOf(membership);
  for (const std::string& host : wish.remove) {
    const auto is = [&](const Member& member) { return member.host == host; };
    if (std::none_of(all.begin(), all.end(), is))
      return fail(Code::kNotFound, "{} is no member of the registry", host);
  }
  return {};
}

}  // namespace

std::string memberStateName(MemberState state) {
  switch (state) {
    case MemberState::kOk:
      return "ok";
    case MemberState::kBehind:
      return "behind";
    case MemberState::kOtherDisk:
      return "other-disk";
    case MemberState::kNotServing:
      return "not-serving";
    case MemberState::kCannotWrite:
      return "cannot-write";
    case MemberState::kUnreachable:
      break;
  }
  return "unreachable";
}

MemberReport judgeMember(const Membership& membership, const Member& member,
                         const Result<registry::AcceptorReply>& answer) {
  MemberReport report;
  report.member = member;
  report.role = roleOf(membership, member);
  if (!answer) {
    report.why = answer.error().message;
    return report;
  }
  report.epoch = answer->epoch;
  report.registers = answer->registers;
  report.uncommitted = answer->uncommitted.size();
  if (answer->refusal != Refusal::kNone) {
    report.state = MemberState::kNotServing;
    report.why = answer->why;
  } else if (answer->acceptor != member.acceptor) {
    report.state = MemberState::kOtherDisk;
    report.other_acceptor = answer->acceptor;
    report.why = fmt::format(
        "its registry state was lost or is another's; admit it anew with 'clusterctl registry "
        "members replace {}'",
        member.host);
  } else if (!answer->why.empty()) {
    report.state = MemberState::kCannotWrite;
    report.why = fmt::format(
        "it cannot write ({}): make room on its disk, and it takes part again by itself",
        answer->why);
  } else if (answer->epoch < membership.epoch) {
    report.state = MemberState::kBehind;
    report.why = "it missed a change of members; the next operation tells it";
  } else {
    report.state = MemberState::kOk;
  }
  return report;
}

std::vector<MemberReport> membersNotServing(const Greetings& hosts) {
  std::vector<MemberReport> found;
  std::optional<Membership> newest;
  for (const auto& [host, hello] : hosts)
    if (hello.membership && (!newest || hello.membership->epoch > newest->epoch))
      newest = hello.membership;
  if (!newest) return found;
  for (const Member& member : registry::membersOf(*newest)) {
    const auto host = hosts.find(member.host);
    if (host == hosts.end()) continue;
    MemberReport report = judgeMember(*newest, member, acceptorOf(host->second));
    if (report.role == "leaving") continue;
    if (report.state == MemberState::kNotServing || report.state == MemberState::kOtherDisk)
      found.push_back(std::move(report));
  }
  return found;
}

namespace {

bool takesPart(const MemberReport& member) {
  return member.state == MemberState::kOk || member.state == MemberState::kBehind;
}

}  // namespace

size_t RegistryReport::usable() const {
  return static_cast<size_t>(std::count_if(members.begin(), members.end(), takesPart));
}

size_t RegistryReport::majority() const {
  return membership ? registry::quorumSize(membership->now) : 0;
}

Result<RegistryReport> examineRegistry(registry::QuorumRegisters& registers) {
  RegistryReport report;
  CCTL_TRY(report.membership, registers.membership());
  if (!report.membership) return report;
  const std::vector<Member> members = registry::membersOf(*report.membership);
  std::vector<std::string> hosts;
  for (const Member& member : members) hosts.push_back(member.host);
  const registry::Identities answers = registers.identities(hosts);
  for (const Member& member : members)
    report.members.push_back(judgeMember(*report.membership, member, answers.at(member.host)));
  report.quorum = registry::isQuorum(*report.membership, [&](const Member& member) {
    const auto at = std::find_if(report.members.begin(), report.members.end(),
                                 [&](const MemberReport& one) { return one.member == member; });
    return takesPart(*at);
  });
  return report;
}

Result<std::vector<Member>> membersAfter(const std::vector<Member>& members,
                                         const MembersWish& wish,
                                         const std::vector<Member>& added) {
  std::vector<Member> wanted;
  for (const Member& member : members) {
    const auto isNew = [&](const Member& one) { return one == member; };
    if (!contains(wish.remove, member.host) || std::any_of(added.begin(), added.end(), isNew))
      wanted.push_back(member);
  }
  for (const Member& member : added) {
    const auto same = [&](const Member& one) { return one.host == member.host; };
    const auto at = std::find_if(wanted.begin(), wanted.end(), same);
    if (at == wanted.end())
      wanted.push_back(member);
    else if (*at != member)
      return fail(Code::kBadInput,
                  "{} is a member already, with a state that it has lost; admit it anew with "
                  "'clusterctl registry members replace {}'",
                  member.host, member.host);
  }
  if (mayCount(wanted.size())) return wanted;
  return fail(wrongCount(wanted.size()));
}

Result<std::vector<std::string>> planMembers(registry::QuorumRegisters& registers,
                                             const MembersWish& wish) {
  CCTL_TRY(const Membership now, membershipOf(registers));
  CCTL_CHECK(checkRemoved(now, wish));
  std::vector<std::string> hosts;
  for (const Member& member : now.now.members)
    if (!contains(wish.remove, member.host)) hosts.push_back(member.host);
  for (const std::string& host : wish.add)
    if (!contains(hosts, host)) hosts.push_back(host);
  if (!mayCount(hosts.size())) return fail(wrongCount(hosts.size()));
  return hosts;
}

Result<Membership> changeMembers(registry::QuorumRegisters& registers, const MembersWish& wish) {
  CCTL_TRY(const Membership before, membershipOf(registers));
  CCTL_CHECK(checkRemoved(before, wish));
  CCTL_CHECK(registers.changeMembers({}));  // what somebody else began
  CCTL_TRY(const Membership stable, membershipOf(registers));
  CCTL_TRY(const std::vector<Member> added, admit(registers, wish, stable));
  const auto wanted = [&](const std::vector<Member>& members) {
    return membersAfter(members, wish, added);
  };
  CCTL_CHECK(registers.changeMembers(wanted));
  return membershipOf(registers);
}

Result<registry::Beginning> planRegistryRecovery(registry::QuorumRegisters& registers,
                                                 const std::vector<std::string>& hosts,
                                                 const std::vector<std::string>& fresh) {
  std::vector<registry::HostIdentity> held, added;
  for (const auto& [host, answer] : registers.identities(hosts))
    if (!contains(fresh, host)) held.push_back(identityOf(host, answer));
  for (const auto& [host, answer] : registers.identities(fresh))
    added.push_back(identityOf(host, answer));
  CCTL_TRY(registry::Beginning beginning, registry::planRecovery(held, added));
  // Every survivor decides and is carried over from, but the members are to be an odd number.
  std::vector<Member>& members = beginning.first.now.members;
  while (!mayCount(members.size()) && members.size() > 1) members.pop_back();
  return beginning;
}

}  // namespace cctl::ops
