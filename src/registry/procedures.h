// What takes more than one operation: finding out whether there is a registry, founding it,
// changing its members, and going on after its quorum is lost. Pure: each says which operation or
// listing to run next, and is given what became of it (docs/registry.md, "Members").
//
//   while (procedure.next() != Next::kDone && procedure.next() != Next::kFailed)
//     kOperation: run Operation(procedure.goal(), view, timing); procedure.onOutcome(outcome)
//     kListing:   run Listing("", view, timing);  procedure.onListing(listing)
// Each may be abandoned at any moment: the next command goes on where it stopped.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "registry/proposer.h"

namespace cctl::registry {

// kNoQuorum, with what to do; `why`: what each host said or did not.
Error noQuorum(const std::string& why);

// What a host said of itself (AcceptorAct::kIdentity); no reply: it did not answer.
struct HostIdentity {
  std::string host;
  std::optional<AcceptorReply> reply;
};

// The newest membership that any of these hosts knows; none: nobody knows of any. kCorrupt: they
// belong to different registries.
[[nodiscard]] Result<std::optional<Membership>> newestMembership(
    const std::vector<HostIdentity>& hosts);

// How a registry begins: what decides about it (`council`, for the View), and what `config` shall
// hold first.
struct Beginning {
  Membership council;
  Membership first;
};
// Of a new registry on these hosts, all of which must have answered and hold nothing; one of them
// may hold the values of the single store of earlier versions.
[[nodiscard]] Result<Beginning> planBirth(const std::vector<HostIdentity>& hosts,
                                          std::string cluster);
// Over the loss of the quorum, for ever: those of `hosts` that still hold the registry's newest
// incarnation decide, and what only others held is lost. `fresh` are hosts to add, blank ones.
// kRefused: a quorum is there. Set View::forced while it runs.
[[nodiscard]] Result<Beginning> planRecovery(const std::vector<HostIdentity>& hosts,
                                             const std::vector<HostIdentity>& fresh);

// What a host would be as a member. kRefused: it holds what another registry, or this one before it
// was recovered without it, left there, which must be discarded first (AcceptorAct::kDiscard).
[[nodiscard]] Result<Member> admissible(const HostIdentity& host, const Membership& membership);

enum class Next { kOperation, kListing, kDone, kFailed };

// Changes who the members are, or only brings to its end a change that was begun.
class MembershipChange {
 public:
  // From the members of today to those wanted; an error ends it. Called again on what came of it,
  // and when another change came first: what is as wanted already is returned as it is.
  using Wanted = std::function<Result<std::vector<Member>>(const std::vector<Member>&)>;
  // `view` must outlive it.
  MembershipChange(View& view, Wanted wanted);
  explicit MembershipChange(View& view);

  Next next() const { return next_; }
  const Goal& goal() const { return goal_; }
  void onOutcome(const Outcome& outcome);
  void onListing(const Listing& listing);
  const Error& error() const { return error_; }

  size_t registers() const { return keys_.size(); }
  size_t carried() const { return carried_; }

 private:
  enum class State { kRead, kBegin, kScan, kCarry, kFinish };

  void read();
  void onConfig(const Outcome& outcome);
  void begin(const Membership& stable);
  void onSwapped(const Outcome& outcome);
  void carryNext();
  void finish();
  void swapConfig(State state, const Membership& to);
  void fail(Error error);

  View& view_;
  Wanted wanted_;
  State state_ = State::kRead;
  Next next_ = Next::kOperation;
  Goal goal_;
  Error error_;
  Membership current_;
  Membership target_;
  uint64_t revision_ = 0;
  std::vector<std::string> keys_;
  size_t carried_ = 0;
  int reads_ = 0;
};

// Decides `config` by the council, takes over what another process decided first, and carries over
// what there is to carry.
class Founding {
 public:
  // `view` must hold the council and outlive it.
  Founding(View& view, Membership first);

  Next next() const;
  const Goal& goal() const { return change_ ? change_->goal() : goal_; }
  void onOutcome(const Outcome& outcome);
  void onListing(const Listing& listing);
  const Error& error() const { return change_ ? change_->error() : error_; }

 private:
  void read();
  void onConfig(const Outcome& outcome);

  View& view_;
  Membership first_;
  Goal goal_;
  bool swapping_ = false;
  bool failed_ = false;
  int reads_ = 0;
  Error error_;
  std::optional<MembershipChange> change_;
};

}  // namespace cctl::registry
