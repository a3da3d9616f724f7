// One acceptor of the registry's consensus (CASPaxos), as a pure state machine: a request in; a
// reply, and records for the disk, out. docs/registry.md says why it is right.
//
// How to run one:
//   Acceptor acceptor(uuid, now);             // a new disk; or
//   for (record of the log) acceptor.replay(record, now);
//   step = acceptor.handle(request, now);     // at once, in memory
//   append step.records; when they are on the disk (fdatasync), send step.reply.
// The rule of its user: a reply leaves only when every record of this step *and of all steps
// before it* is durable, since it may show what they changed. Many steps may share one sync. When
// the disk fails the acceptor must not be used any more: its memory is ahead of its disk.
//
// Every step costs O(log n) in the number of registers.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "protocol/acceptor.h"
#include "registry/membership.h"

namespace cctl::registry {

using protocol::AcceptorAct;
using protocol::AcceptorReply;
using protocol::AcceptorRequest;
using protocol::Ballot;
using protocol::Refusal;
using protocol::RegisterState;
using protocol::UniqueId;

inline constexpr size_t kMostValue = 256u << 10;  // bytes of JSON in one register
inline constexpr size_t kMostKey = 200;
inline constexpr size_t kListPage = 2'000;

// One line of the acceptor's history. Replaying all of them in order gives the acceptor again.
struct AcceptorRecord {
  enum class Kind {
    kIdentity,   // uuid: everything before it belongs to another life
    kMember,     // membership
    kPromise,    // key, promised
    kAccept,     // key, accepted, promised, state
    kCommitted,  // key, accepted: a hint
  };
  Kind kind = Kind::kIdentity;
  std::string uuid;
  std::optional<Membership> membership;
  std::string key;
  Ballot promised;
  Ballot accepted;
  std::shared_ptr<const RegisterState> state;
};
// Compact JSON, and back. Decodes the records of the single store of earlier versions as values
// accepted under importBallot().
std::string encodeRecord(const AcceptorRecord& record);
[[nodiscard]] Result<AcceptorRecord> decodeRecord(const std::string& text);

// Lower than any ballot of a proposer, the same for nobody else: a registry is founded over at most
// one acceptor with imported values.
inline Ballot importBallot(uint64_t revision) { return {1, {0, revision + 1}}; }
inline bool isImport(const Ballot& ballot) {
  return ballot.counter == 1 && ballot.attempt.high == 0;
}

struct AcceptorStep {
  AcceptorReply reply;
  std::vector<AcceptorRecord> records;
  bool sync = false;  // the records must be durable before the reply leaves
};

// What safety stands on, apart from the machinery: the tests put wrong ones in its place and must
// see the difference.
struct AcceptorRules {
  static bool mayPromise(const Ballot& ballot, const Ballot& promised, const Ballot& accepted) {
    return ballot > promised && ballot > accepted;
  }
  static bool mayAccept(const Ballot& ballot, const Ballot& promised, const Ballot& accepted) {
    return ballot >= promised && ballot > accepted;
  }
  static bool isEpochOf(const Epoch& asked, const Epoch& own) { return asked == own; }
  static constexpr bool kRecordsPromises = true;
  static constexpr bool kRecordsValues = true;
};

template <typename Rules>
class BasicAcceptor {
 public:
  // `fresh_uuid` makes the identity that kDiscard goes on under.
  using MakeUuid = std::function<std::string()>;
  explicit BasicAcceptor(MakeUuid fresh_uuid) : fresh_uuid_(std::move(fresh_uuid)) {}

  // A new disk: the records that must be on it before anything is answered.
  [[nodiscard]] std::vector<AcceptorRecord> beginLife(SteadyTime now);
  // In the order of the log; a record older than what a snapshot before it said changes nothing.
  // Ages count from `now`, the start.
  void replay(const AcceptorRecord& record, SteadyTime now);
  // The whole state as the shortest log, for a snapshot.
  void snapshot(const std::function<void(const AcceptorRecord&)>& sink) const;

  AcceptorStep handle(const AcceptorRequest& request, SteadyTime now);

  const std::string& uuid() const { return uuid_; }
  const std::optional<Membership>& membership() const { return membership_; }
  size_t registers() const { return entries_.size(); }
  size_t liveBytes() const { return live_bytes_; }  // about the size of a snapshot

 private:
  struct Entry {
    Ballot promised;
    Ballot accepted;
    std::shared_ptr<const RegisterState> state;
    SteadyTime written{};  // when its revision was first accepted
    bool committed = false;
  };

  AcceptorReply replyTo(const AcceptorRequest& request) const;
  // What stands against serving this request at all.
  Refusal objectionTo(const AcceptorRequest& request, std::string& why) const;
  bool mayFound(const AcceptorRequest& request) const;
  void identity(AcceptorReply& reply) const;
  void show(const Entry& entry, SteadyTime now, AcceptorReply& reply) const;
  void read(const AcceptorRequest& request, SteadyTime now, AcceptorReply& reply) const;
  void list(const AcceptorRequest& request, AcceptorReply& reply) const;
  void prepare(const AcceptorRequest& request, SteadyTime now, AcceptorStep& step);
  void accept(const AcceptorRequest& request, SteadyTime now, AcceptorStep& step);
  void committed(const AcceptorRequest& request, AcceptorStep& step);
  void install(const AcceptorRequest& request, AcceptorStep& step);
  void discard(const AcceptorRequest& request, SteadyTime now, AcceptorStep& step);
  std::string whyNotInstall(const Membership& membership) const;
  void apply(const AcceptorRecord& record, SteadyTime now);
  void applyAccept(const AcceptorRecord& record, SteadyTime now);
  void saw(const Ballot& ballot) { counter_ = std::max(counter_, ballot.counter); }
  Entry& entryOf(const std::string& key);

  MakeUuid fresh_uuid_;
  std::string uuid_;
  std::optional<Membership> membership_;
  std::map<std::string, Entry> entries_;
  uint64_t counter_ = 0;
  size_t live_bytes_ = 0;
};

using Acceptor = BasicAcceptor<AcceptorRules>;
extern template class BasicAcceptor<AcceptorRules>;

}  // namespace cctl::registry
