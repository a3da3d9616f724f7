// The proposer's side of the registry's consensus (CASPaxos), as pure state machines: what happened
// in; messages to send and a time to be woken out. docs/registry.md says why they are right.
//
//   View        what a process knows: the membership, ballots seen. Shared by its operations
//   Attempt     one attempt on one register, under one ballot
//   Operation   attempts with back-off until the outcome is known or the time is up
//   Listing     the keys, as the union over a quorum
//
// How to run an Operation (a Listing is run the same way):
//   actions = operation.start(now)
//   until operation.finished():
//     send actions.sends, each to the acceptor it names; then feed, in any order,
//       onReply(acceptor, reply, now)   an answer, however late or often
//       onLost(acceptor, now)           no session to it, or the session ended: no answer will come
//       onTimer(now)                    when actions.wake has come
//       giveUp(now)                     when the caller's deadline has passed
//     and do the actions that each returns; a `wake` replaces the one before
//   operation.outcome(); and actions.committed, when set, may be pushed to learners.
// A send with `notice` set needs no answer: feed none, wait for none.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
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

// Thread-safe where its users are.
class Randomness {
 public:
  virtual ~Randomness() = default;
  virtual uint64_t next() = 0;
  UniqueId id();
};
class SystemRandomness final : public Randomness {  // getrandom(2)
 public:
  uint64_t next() override;
};

// What one process knows of the registry. Not thread-safe: one lock around it and all operations
// that use it, or one View each.
class View {
 public:
  View(Membership membership, Randomness& randomness)
      : membership_(std::move(membership)),
        randomness_(randomness),
        request_(randomness.next() / 2) {}

  const Membership& membership() const { return membership_; }
  // Takes a newer membership of the same cluster; false when it is not newer.
  bool adopt(const Membership& membership);

  void saw(uint64_t counter) { counter_ = std::max(counter_, counter); }
  // Higher than every ballot seen, and never returned again.
  Ballot nextBallot();
  uint64_t nextRequest() { return ++request_; }
  Randomness& randomness() { return randomness_; }

  // The promise that came with the last accept of a register: the next attempt of this process on
  // it may begin with its accept. Each is good for one attempt in the same epoch.
  struct Ahead {
    Ballot ballot;
    Epoch epoch;
    RegisterState state;
  };
  void keepAhead(const std::string& key, Ahead ahead);
  std::optional<Ahead> takeAhead(const std::string& key);
  bool asks_ahead = true;  // whether promises are asked for in this way
  bool forced = false;     // set for the founding of a recovered registry only

 private:
  Membership membership_;
  Randomness& randomness_;
  std::map<std::string, Ahead> ahead_;
  uint64_t counter_ = 0;
  uint64_t request_;  // begins anywhere: a late reply to an earlier View means nothing to this one
};

// What is wanted of one register.
struct Goal {
  enum class Kind {
    kRead,
    kSwap,   // write `value` when the revision is `expected`
    kCarry,  // read, and have a quorum accept it anew: what a membership change does with each
  };
  Kind kind = Kind::kRead;
  std::string key;
  uint64_t expected = 0;
  JsonText value;
  UniqueId op;  // names this wish in the register; the same one when it is tried again
};

struct Outcome {
  enum class Kind {
    kDone,       // decided; for kSwap `swapped` says which way
    kSurelyNot,  // nothing was decided, and nothing of it can take effect later
    kUnknown,    // a write was sent; whether it takes effect is not known
  };
  Kind kind = Kind::kSurelyNot;
  bool swapped = false;
  RegisterState state;  // kDone: what the register holds by now
  Ballot ballot;        // under which a quorum accepted it
  Millis age{0};        // a quorum says that this revision is at least so old
  std::string why;      // not kDone: in words
  bool outrun = false;  // not kDone: others kept writing, `most_races` times
};

struct Send {
  Member to;
  AcceptorRequest request;
  bool notice = false;
};
struct Committed {
  std::string key;
  RegisterState state;
};
struct Actions {
  std::vector<Send> sends;
  std::optional<SteadyTime> wake;
  std::optional<Committed> committed;
};

// What safety stands on, apart from the machinery: the tests put wrong ones in its place and must
// see the difference.
struct ProposerRules {
  static constexpr bool kPreparesFirst = true;
  static constexpr bool kReadsThroughAccept = true;
  static constexpr bool kTellsOnlyCommitted = true;
};

// The members that one round of messages goes to, and what became of each.
class Round {
 public:
  Round() = default;
  Round(const Membership& membership, AcceptorRequest request)
      : membership_(membership), request_(std::move(request)) {}

  // To everyone.
  std::vector<Send> begin(View& view);
  enum class Took { kIgnored, kAnswer, kRefused, kInstalling, kNewerEpoch };
  // An acceptor that is behind is given the membership, then asked again: the sends are in `sends`.
  Took take(const std::string& acceptor, const AcceptorReply& reply, View& view,
            std::vector<Send>& sends);
  void lose(const std::string& acceptor);
  void ask(const std::string& acceptor, AcceptorRequest request, View& view,
           std::vector<Send>& sends);

  bool hasQuorum() const;      // of answers
  bool mayHaveQuorum() const;  // with those still open
  bool hasQuorum(const std::function<bool(const AcceptorReply&)>& such) const;
  bool conflicted() const;  // somebody promised a higher ballot
  std::vector<const AcceptorReply*> answers() const;
  Millis quorumAge(uint64_t revision) const;
  std::string missing() const;  // who did not answer, and why, in words
  const Membership& membership() const { return membership_; }

 private:
  struct Peer {
    enum class Is { kOpen, kInstalling, kAnswered, kRefused, kLost } is = Is::kOpen;
    Member member;
    uint64_t id = 0;
    AcceptorReply reply;
  };
  Peer* find(const std::string& acceptor);
  const Peer* find(const std::string& acceptor) const;
  Send sendTo(Peer& peer, AcceptorRequest request, View& view);
  Took takeRefusal(Peer& peer, const AcceptorReply& reply, View& view, std::vector<Send>& sends);

  Membership membership_;
  AcceptorRequest request_;
  std::vector<Peer> peers_;
};

template <typename Rules>
class BasicAttempt {
 public:
  enum class End { kRunning, kDecided, kConflict, kNewerEpoch, kNoQuorum };
  // `view` must outlive it.
  BasicAttempt(const Goal& goal, View& view, bool is_first)
      : goal_(goal), view_(view), is_first_(is_first) {}

  std::vector<Send> start();
  std::vector<Send> onReply(const std::string& acceptor, const AcceptorReply& reply);
  std::vector<Send> onLost(const std::string& acceptor);

  End end() const { return end_; }
  const std::string& why() const { return why_; }           // for kNoQuorum
  std::string missing() const { return round_.missing(); }  // of whom it waits for, in words
  bool hasSentValue() const { return sent_value_; }
  bool mayTell() const { return tell_; }
  bool hasAccepted() const { return phase_ == Phase::kAccept; }
  // When decided:
  bool swapped() const { return swapped_; }
  bool isTooOld() const { return too_old_; }  // whether this wish was granted before is forgotten
  const RegisterState& state() const { return target_; }
  const Ballot& ballot() const { return ballot_; }
  Millis age() const { return age_; }

 private:
  enum class Phase { kRead, kPrepare, kAccept };

  std::vector<Send> enterRead();
  std::vector<Send> enterPrepare();
  std::vector<Send> enterAccept(const Ballot& ballot);
  std::vector<Send> progress();
  std::vector<Send> afterRead();
  std::vector<Send> afterPrepare();
  void afterAccept();
  // Decides what to write over what stands there; true: a write of `goal`.
  bool choose(const RegisterState& current);
  const AcceptorReply* newest() const;
  void finish(End end) { end_ = end; }

  const Goal goal_;
  View& view_;
  const bool is_first_;
  Phase phase_ = Phase::kRead;
  End end_ = End::kRunning;
  Round round_;
  Ballot ballot_;
  Ballot next_;
  RegisterState target_;
  Millis age_{0};
  bool swapped_ = false;
  bool too_old_ = false;
  bool sent_value_ = false;
  bool tell_ = false;
  std::string why_;
};

struct Timing {
  Millis attempt{2'000};  // without an answer that brings it on
  Millis backoff_min{4};  // after a conflict; doubled each time, a random part of it is waited
  Millis backoff_max{500};
  int most_failures = 3;  // attempts without a quorum, or timed out
  int most_races = 0;     // lost to other writers; 0: as many as time allows
};

template <typename Rules>
class BasicOperation {
 public:
  // `view` must outlive it. A Goal without `op` is given one.
  BasicOperation(Goal goal, View& view, Timing timing);

  Actions start(SteadyTime now);
  Actions onReply(const std::string& acceptor, const AcceptorReply& reply, SteadyTime now);
  Actions onLost(const std::string& acceptor, SteadyTime now);
  Actions onTimer(SteadyTime now);
  Actions giveUp(SteadyTime now);

  bool finished() const { return finished_; }
  const Outcome& outcome() const { return outcome_; }
  int attempts() const { return attempts_; }
  const Goal& goal() const { return goal_; }

 private:
  Actions begin(SteadyTime now);
  Actions after(std::vector<Send> sends, SteadyTime now);
  Actions waitAndTry(SteadyTime now, std::string why, bool failed);
  void decided(Actions& actions);
  void noteValueSent();
  void finishWithout(std::string why);

  Goal goal_;
  View& view_;
  const Timing timing_;
  std::optional<BasicAttempt<Rules>> attempt_;
  SteadyTime wake_{};
  Outcome outcome_;
  std::string why_;
  int attempts_ = 0;
  int conflicts_ = 0;
  int failures_ = 0;
  int races_ = 0;
  bool finished_ = false;
  bool told_ = false;
  bool value_sent_ = false;
};

using Attempt = BasicAttempt<ProposerRules>;
using Operation = BasicOperation<ProposerRules>;
extern template class BasicAttempt<ProposerRules>;
extern template class BasicOperation<ProposerRules>;

// Keys under a prefix. A key whose newest value seen is a tombstone is `present` false; a key of a
// write in progress may be there or not: reading the register decides.
class Listing {
 public:
  Listing(std::string prefix, View& view, Timing timing)
      : prefix_(std::move(prefix)), view_(view), timing_(timing) {}

  Actions start(SteadyTime now);
  Actions onReply(const std::string& acceptor, const AcceptorReply& reply, SteadyTime now);
  Actions onLost(const std::string& acceptor, SteadyTime now);
  Actions onTimer(SteadyTime now);
  Actions giveUp(SteadyTime now);

  bool finished() const { return finished_; }
  bool failed() const { return failed_; }
  const std::string& why() const { return why_; }
  std::vector<std::string> present() const;
  std::vector<std::string> all() const;  // tombstones and mere promises too

 private:
  Actions progress(SteadyTime now, std::vector<Send> sends);
  void add(const AcceptorReply& reply);

  std::string prefix_;
  View& view_;
  const Timing timing_;
  Round round_;
  std::map<std::string, protocol::ListedKey> keys_;
  std::string why_;
  int tries_ = 0;
  bool finished_ = false;
  bool failed_ = false;
};

}  // namespace cctl::registry
