// Looking after the registry itself: how its members are, who they shall be, and going on after the
// loss of its quorum (docs/registry.md).
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "registry/quorum_registers.h"

namespace cctl::ops {

enum class MemberState {
  kOk,
  kBehind,       // takes part in an older membership: it missed a change
  kOtherDisk,    // its state was lost or replaced: must be admitted anew
  kNotServing,   // its disk fails or its log is damaged
  kCannotWrite,  // its disk is full, or read-only: decides nothing until that is mended
  kUnreachable,  // gives no answer
};
std::string memberStateName(MemberState state);

struct MemberReport {
  registry::Member member;
  std::string role;  // "member"; while members change also "joining" and "leaving"
  MemberState state = MemberState::kUnreachable;
  std::string why;
  protocol::Epoch epoch;       // its own
  uint64_t registers = 0;      // how many it holds anything of
  size_t uncommitted = 0;      // accepted, not known to be committed
  std::string other_acceptor;  // kOtherDisk: what it is by now
};

struct RegistryReport {
  std::optional<registry::Membership> membership;  // none: not founded yet
  std::vector<MemberReport> members;
  bool quorum = false;

  size_t usable() const;    // members that take part
  size_t majority() const;  // of `now`, that must; of `old` too while members change
};

// Asks every member. kNoQuorum when nobody who answers knows of a registry, and not all answer.
[[nodiscard]] Result<RegistryReport> examineRegistry(registry::QuorumRegisters& registers);
// Pure.
MemberReport judgeMember(const registry::Membership& membership, const registry::Member& member,
                         const Result<registry::AcceptorReply>& answer);

// Pure: the members among these hosts that do not serve, by what their shims said when they were
// greeted; the newest membership that one of them knows says who is one.
using Greetings = std::map<std::string, protocol::HelloReply>;
std::vector<MemberReport> membersNotServing(const Greetings& hosts);

struct MembersWish {
  std::vector<std::string> add;     // hosts
  std::vector<std::string> remove;  // a host in both is admitted anew
  bool discard = false;  // what hosts to be added hold of another registry is thrown away
};
// Pure: the members wanted. kBadInput: not 1, 3, 5 or 7 of them.
[[nodiscard]] Result<std::vector<registry::Member>> membersAfter(
    const std::vector<registry::Member>& members, const MembersWish& wish,
    const std::vector<registry::Member>& added);

// For dry runs: the hosts of the members after such a change. kNotFound, kBadInput as the change
// itself; whether the hosts to be added hold something is not looked at.
[[nodiscard]] Result<std::vector<std::string>> planMembers(registry::QuorumRegisters& registers,
                                                           const MembersWish& wish);

// Ends a change that was begun, then makes this one, every register carried over. May be run again
// after it was cut short. Returns the membership then.
[[nodiscard]] Result<registry::Membership> changeMembers(registry::QuorumRegisters& registers,
                                                         const MembersWish& wish);

// What a recovery would do, from what these hosts hold; `fresh` are to be added.
[[nodiscard]] Result<registry::Beginning> planRegistryRecovery(
    registry::QuorumRegisters& registers, const std::vector<std::string>& hosts,
    const std::vector<std::string>& fresh);

}  // namespace cctl::ops
