// Who decides: quorums of a membership, the steps from one to the next, and how the register
// `config` says it. Pure.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "protocol/acceptor.h"

namespace cctl::registry {

using protocol::Epoch;
using protocol::Member;
using protocol::MemberSet;
using protocol::Membership;

inline constexpr const char* kConfigKey = "config";

using MemberTest = std::function<bool(const Member&)>;

// How many members of a set must say so.
size_t quorumSize(const MemberSet& set);
bool isQuorum(const MemberSet& set, const MemberTest& says);
// In every set that has a say: while members change, in the old and in the new one.
bool isQuorum(const Membership& membership, const MemberTest& says);

// Everyone who has a say, each once, those of `now` first.
std::vector<Member> membersOf(const Membership& membership);
bool isMember(const Membership& membership, const std::string& acceptor);
bool isMember(const MemberSet& set, const std::string& acceptor);

// The next step of a change: both sets decide together, then the new one alone.
Membership beginChange(const Membership& stable, std::vector<Member> members);
Membership finishChange(const Membership& joint);

// What a founding is decided by: all of `members`, in epoch INCARNATION.0.
Membership foundingOf(uint64_t incarnation, std::vector<Member> members);

// The value of `config`.
JsonText encodeConfig(const Membership& membership);
[[nodiscard]] Result<Membership> decodeConfig(const JsonText& value);

}  // namespace cctl::registry
