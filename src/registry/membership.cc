#include "registry/membership.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "protocol/acceptor_fields.h"

namespace cctl::registry {
namespace {

constexpr int kFormat = 2;  // 1 was the single store's
constexpr size_t kMostMembers = 99;

Result<void> checkSet(const MemberSet& set) {
  std::set<std::string> acceptors;
  for (const Member& member : set.members) acceptors.insert(member.acceptor);
  const bool fits = !set.members.empty() && set.members.size() <= kMostMembers &&
                    acceptors.size() == set.members.size() && acceptors.count("") == 0;
  if (!fits) return fail(Code::kCorrupt, "the members of the registry are not distinct acceptors");
  return {};
}

}  // namespace

size_t quorumSize(const MemberSet& set) {
  return set.all ? set.members.size() : set.members.size() / 2 + 1;
}

bool isQuorum(const MemberSet& set, const MemberTest& says) {
  const auto count = std::count_if(set.members.begin(), set.members.end(), says);
  return !set.members.empty() && static_cast<size_t>(count) >= quorumSize(set);
}

bool isQuorum(const Membership& membership, const MemberTest& says) {
  return isQuorum(membership.now, says) && (!membership.old || isQuorum(*membership.old, says));
}

bool isMember(const MemberSet& set, const std::string& acceptor) {
  return std::any_of(set.members.begin(), set.members.end(),
                     [&](const Member& member) { return member.acceptor == acceptor; });
}

bool isMember(const Membership& membership, const std::string& acceptor) {
  return isMember(membership.now, acceptor) ||
         (membership.old && isMember(*membership.old, acceptor));
}

std::vector<Member> membersOf(const Membership& membership) {
  std::vector<Member> members = membership.now.members;
  if (!membership.old) return members;
  for (const Member& member : membership.old->members)
    if (!isMember(membership.now, member.acceptor)) members.push_back(member);
  return members;
}

Membership beginChange(const Membership& stable, std::vector<Member> members) {
  Membership joint = stable;
  ++joint.epoch.number;
  joint.old = stable.now;
  joint.now = MemberSet{std::move(members), false};
  return joint;
}

Membership finishChange(const Membership& joint) {
  Membership stable = joint;
  ++stable.epoch.number;
  stable.old.reset();
  return stable;
}

Membership foundingOf(uint64_t incarnation, std::vector<Member> members) {
  return Membership{"", Epoch{incarnation, 0}, MemberSet{std::move(members), true}, std::nullopt};
}

JsonText encodeConfig(const Membership& membership) {
  protocol::FieldWriter writer;
  writer("format", kFormat);
  describe(writer, membership);
  return {writer.take()};
}

Result<Membership> decodeConfig(const JsonText& value) {
  CCTL_TRY(const Json json, parseJson(value.text));
  const auto format = json.is_object() ? json.find("format") : json.end();
  if (format == json.end() || *format != kFormat)
    return fail(Code::kCorrupt,
                "the registry's config is of a format that this clusterctl does not know; use a "
                "newer one");
  CCTL_TRY(Membership membership, protocol::decodeFields<Membership>(json));
  CCTL_CHECK(checkSet(membership.now));
  if (membership.old) CCTL_CHECK(checkSet(*membership.old));
  return membership;
}

}  // namespace cctl::registry
