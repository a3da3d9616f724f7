// The messages between a proposer (a clusterctl process) and an acceptor (the shim of a registry
// host), as plain values; what they mean is in docs/registry.md. One request, one reply.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "protocol/ballot.h"

namespace cctl::protocol {

// What a register holds. `recent` names the operations that made the last revisions, newest first:
// whether a write whose answer was lost took place can be told from it afterwards.
struct RegisterState {
  uint64_t revision = 0;  // 0: never written
  JsonText value;         // null: never written, or deleted
  std::vector<UniqueId> recent;
  bool operator==(const RegisterState&) const = default;
};

struct Member {
  std::string host;
  std::string acceptor;  // UUID in the acceptor's state, made when its disk was empty
  auto operator<=>(const Member&) const = default;
};

struct MemberSet {
  std::vector<Member> members;
  bool all = false;  // a quorum is every member; else a majority
  bool operator==(const MemberSet&) const = default;
};

// Who decides in one epoch. While a change is under way a quorum of `old` is needed as well.
struct Membership {
  std::string cluster;  // id decided at birth
  Epoch epoch;
  MemberSet now;
  std::optional<MemberSet> old;
  bool operator==(const Membership&) const = default;
};

enum class AcceptorAct {
  kIdentity,   // who are you, what do you hold: answered whatever else does not fit
  kRead,       // what was accepted last; promises nothing
  kPrepare,    // promise `ballot`
  kAccept,     // accept `state` under `ballot`, and promise `next` when it is given
  kCommitted,  // `ballot` was accepted by a quorum: a hint, not synced to the disk
  kList,       // keys that begin with `key`, behind `after`, tombstones and mere promises included
  kInstall,    // take part in `membership` from now on, and in none before it
  kDiscard,    // forget everything, go on under a new UUID; `forced`: for a host admitted anew
};

struct AcceptorRequest {
  AcceptorAct act = AcceptorAct::kIdentity;
  uint64_t id = 0;       // repeated in the reply
  std::string acceptor;  // UUID of who is meant; empty for kIdentity only
  Epoch epoch;           // of the membership that the sender counts quorums by
  bool forced = false;   // kDiscard, and the founding of a new incarnation after a lost quorum
  std::string key;       // for kList the prefix
  std::string after;
  Ballot ballot;
  Ballot next;
  std::optional<RegisterState> state;
  std::optional<Membership> membership;
};

enum class Refusal {
  kNone,
  kLowerBallot,    // promised or accepted a higher one: `promised`
  kWrongEpoch,     // not the epoch of this acceptor, which is `epoch`, as `membership` says
  kWrongAcceptor,  // another UUID: the disk was wiped or swapped, or it is another host
  kNotMember,      // removed, or never admitted
  kNotServing,     // its disk fails or its log is damaged: `why`
  kBadRequest,     // `why`
};

struct ListedKey {
  std::string key;
  Ballot accepted;       // none: only promised
  bool present = false;  // false: nothing accepted, or a tombstone
  bool operator==(const ListedKey&) const = default;
};

struct AcceptorReply {
  uint64_t id = 0;
  Refusal refusal = Refusal::kNone;
  std::string why;       // of a refusal; of kIdentity without one, why it can write nothing
  std::string acceptor;  // its UUID
  Epoch epoch;           // its own; none: blank, never admitted
  uint64_t counter = 0;  // the highest of any ballot it has seen
  Ballot promised;       // of the key asked for
  Ballot accepted;
  std::optional<RegisterState> state;  // what was accepted under it
  Millis age{0};                       // since this revision was accepted here, or since its start
  std::optional<Membership> membership;  // kIdentity, kInstall and kWrongEpoch
  std::vector<ListedKey> keys;           // kList
  bool more = false;                     // kList: ask again with `after` the last of them
  // kIdentity:
  uint64_t registers = 0;                // how many it holds anything of
  bool imported = false;                 // values of the single store of earlier versions
  std::vector<std::string> uncommitted;  // accepted, not known to be committed (at most 1,000)
};

}  // namespace cctl::protocol
