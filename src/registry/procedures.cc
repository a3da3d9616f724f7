#include "registry/procedures.h"

#include <algorithm>

namespace cctl::registry {

Error noQuorum(const std::string& why) {
  return {Code::kNoQuorum,
          fmt::format("the registry has no quorum: {}\n  Bring a majority of its hosts back "
                      "('clusterctl registry status' shows them); until then start, stop and "
                      "restart work with --without-quorum",
                      why)};
}

namespace {

constexpr int kMostReads = 20;

Error noOutcome(const Outcome& outcome, const std::string& what) {
  if (outcome.kind != Outcome::Kind::kUnknown) return noQuorum(outcome.why).context(what);
  return {Code::kUnknownOutcome, fmt::format("{}: {}", what, outcome.why)};
}

std::string namesOf(const std::vector<std::string>& hosts) {
  std::string text;
  for (const std::string& host : hosts) text += (text.empty() ? "" : ", ") + host;
  return text;
}

std::vector<Member> membersFrom(const std::vector<HostIdentity>& hosts) {
  std::vector<Member> members;
  for (const HostIdentity& host : hosts) members.push_back({host.host, host.reply->acceptor});
  return members;
}

// Holds something that a new registry must not begin over.
bool isInUse(const AcceptorReply& reply) {
  const bool only_founding = reply.registers <= 1 &&
                             (reply.uncommitted.empty() || reply.uncommitted.front() == kConfigKey);
  return reply.membership || (!only_founding && !reply.imported);
}

Result<void> checkAnswered(const std::vector<HostIdentity>& hosts, const char* what) {
  std::vector<std::string> silent;
  std::vector<std::string> sick;
  for (const HostIdentity& host : hosts) {
    if (!host.reply)
      silent.push_back(host.host);
    else if (host.reply->refusal != Refusal::kNone)
      sick.push_back(host.host + " (" + host.reply->why + ")");
  }
  if (!silent.empty())
    return fail(Code::kNoQuorum, "{} needs {}, which cannot be reached", what, namesOf(silent));
  if (!sick.empty())
    return fail(Code::kNoQuorum, "{} needs hosts whose registry cannot serve: {}", what,
                namesOf(sick));
  return {};
}

}  // namespace

Result<std::optional<Membership>> newestMembership(const std::vector<HostIdentity>& hosts) {
  std::optional<Membership> newest;
  std::string from;
  for (const HostIdentity& host : hosts) {
    if (!host.reply || !host.reply->membership) continue;
    const Membership& membership = *host.reply->membership;
    if (newest && newest->cluster != membership.cluster)
      return fail(Code::kCorrupt,
                  "{} and {} belong to different registries; take one of them out of "
                  "registry.hosts, or discard what it holds",
                  from, host.host);
    if (newest && newest->epoch >= membership.epoch) continue;
    newest = membership;
    from = host.host;
  }
  return newest;
}

Result<Beginning> planBirth(const std::vector<HostIdentity>& hosts, std::string cluster) {
  CCTL_CHECK(checkAnswered(hosts, "the founding of the registry"));
  std::vector<Member> imported;
  for (const HostIdentity& host : hosts) {
    if (isInUse(*host.reply))
      return fail(Code::kRefused,
                  "{} holds registers already; a new registry begins on empty hosts", host.host);
    if (host.reply->imported) imported.push_back({host.host, host.reply->acceptor});
  }
  if (imported.size() > 1)
    return fail(Code::kRefused,
                "{} and {} both hold registers of an earlier version; remove shim/acceptor on the "
                "one that was not in use",
                imported[0].host, imported[1].host);
  const std::vector<Member> members = membersFrom(hosts);
  Beginning beginning{foundingOf(1, members),
                      {std::move(cluster), Epoch{1, 1}, MemberSet{members, false}, std::nullopt}};
  if (!imported.empty()) beginning.first.old = MemberSet{imported, true};
  return beginning;
}

Result<Beginning> planRecovery(const std::vector<HostIdentity>& hosts,
                               const std::vector<HostIdentity>& fresh) {
  CCTL_TRY(const std::optional<Membership> newest, newestMembership(hosts));
  if (!newest)
    return fail(Code::kNotFound, "none of the hosts that answer holds a registry to recover");
  std::vector<HostIdentity> survivors;
  for (const HostIdentity& host : hosts) {
    // Of the newest members known: one that was replaced while it was away believes in an older
    // membership, and what it holds is of then.
    const bool holds = host.reply && host.reply->membership &&
                       host.reply->membership->epoch.incarnation == newest->epoch.incarnation &&
                       isMember(*host.reply->membership, host.reply->acceptor) &&
                       isMember(*newest, host.reply->acceptor);
    if (holds) survivors.push_back(host);
  }
  const std::vector<Member> old = membersFrom(survivors);
  const bool quorum = isQuorum(*newest, [&](const Member& member) {
    return isMember(MemberSet{old, false}, member.acceptor);
  });
  if (quorum)
    return fail(Code::kRefused,
                "a quorum of the registry answers: nothing is to be recovered; replace members "
                "with 'clusterctl registry members replace'");
  if (old.empty()) return fail(Code::kNotFound, "no member of the registry answers");
  std::vector<Member> members = old;
  for (const HostIdentity& host : fresh) {
    if (!host.reply || isInUse(*host.reply))
      return fail(Code::kRefused, "{} does not answer, or holds registers already", host.host);
    members.push_back({host.host, host.reply->acceptor});
  }
  const uint64_t incarnation = newest->epoch.incarnation + 1;
  return Beginning{
      foundingOf(incarnation, old),
      {newest->cluster, Epoch{incarnation, 1}, MemberSet{members, false}, MemberSet{old, true}}};
}

Result<Member> admissible(const HostIdentity& host, const Membership& membership) {
  CCTL_CHECK(checkAnswered({host}, "admitting a member to the registry"));
  const AcceptorReply& reply = *host.reply;
  const bool ours =
      !reply.membership || (reply.membership->cluster == membership.cluster &&
                            reply.membership->epoch.incarnation == membership.epoch.incarnation);
  const bool holds_other = !reply.membership && reply.registers > 0;
  if (!ours || holds_other)
    return fail(Code::kRefused,
                "{} holds registers of another registry, or of this one from before it was "
                "recovered; they must be discarded before it can be a member",
                host.host);
  return Member{host.host, reply.acceptor};
}

// ---- changing members ------------------------------------------------------------------------

MembershipChange::MembershipChange(View& view, Wanted wanted)
    : view_(view), wanted_(std::move(wanted)) {
  read();
}

MembershipChange::MembershipChange(View& view) : MembershipChange(view, Wanted()) {}

void MembershipChange::fail(Error error) {
  error_ = std::move(error);
  next_ = Next::kFailed;
}

void MembershipChange::read() {
  state_ = State::kRead;
  next_ = Next::kOperation;
  goal_ = Goal{Goal::Kind::kRead, kConfigKey, 0, {}, {}};
  if (++reads_ > kMostReads)
    fail({Code::kConflict, "others keep changing the members of the registry; try again"});
}

void MembershipChange::onOutcome(const Outcome& outcome) {
  switch (state_) {
    case State::kRead:
      onConfig(outcome);
      break;
    case State::kBegin:
    case State::kFinish:
      onSwapped(outcome);
      break;
    case State::kCarry:
      if (outcome.kind != Outcome::Kind::kDone) {
        fail(noOutcome(outcome, fmt::format("{} of {} registers carried over to the new members; "
                                            "the next changing command goes on",
                                            carried_, keys_.size())));
        break;
      }
      ++carried_;
      carryNext();
      break;
    case State::kScan:
      break;
  }
}

void MembershipChange::onConfig(const Outcome& outcome) {
  if (outcome.kind != Outcome::Kind::kDone)
    return fail(noOutcome(outcome, "reading who the registry's members are"));
  auto membership = decodeConfig(outcome.state.value);
  if (!membership) return fail(membership.error());
  current_ = std::move(*membership);
  revision_ = outcome.state.revision;
  (void)view_.adopt(current_);
  if (current_.old) {
    state_ = State::kScan;
    next_ = Next::kListing;
    return;
  }
  if (wanted_) return begin(current_);
  next_ = Next::kDone;
}

void MembershipChange::begin(const Membership& stable) {
  auto members = wanted_(stable.now.members);
  if (!members) return fail(members.error());
  if (*members == stable.now.members) {
    next_ = Next::kDone;
    return;
  }
  if (members->empty())
    return fail({Code::kRefused, "the last member of the registry cannot be removed"});
  swapConfig(State::kBegin, beginChange(stable, std::move(*members)));
}

void MembershipChange::swapConfig(State state, const Membership& to) {
  state_ = state;
  next_ = Next::kOperation;
  target_ = to;
  goal_ = Goal{Goal::Kind::kSwap, kConfigKey, revision_, encodeConfig(to), {}};
}

// Whether it was swapped, lost against another process, or is not known: what stands there now
// decides. Read under the new membership, which tells its members of it.
void MembershipChange::onSwapped(const Outcome& outcome) {
  if (outcome.kind == Outcome::Kind::kSurelyNot)
    return fail(noOutcome(outcome, "changing the registry's members"));
  if (outcome.kind == Outcome::Kind::kDone && outcome.swapped) (void)view_.adopt(target_);
  read();
}

// Under the membership of the change: it is asked of a quorum of both sets, none of which takes
// part in the epoch before any more, so that no register can come to be behind its back.
void MembershipChange::onListing(const Listing& listing) {
  if (listing.failed())
    return fail({Code::kNoQuorum,
                 "listing what must be carried over to the new members: " + listing.why()});
  keys_ = listing.all();
  carried_ = 0;
  state_ = State::kCarry;
  carryNext();
}

void MembershipChange::carryNext() {
  if (carried_ == keys_.size()) return finish();
  next_ = Next::kOperation;
  goal_ = Goal{Goal::Kind::kCarry, keys_[carried_], 0, {}, {}};
}

void MembershipChange::finish() { swapConfig(State::kFinish, finishChange(current_)); }

// ---- founding --------------------------------------------------------------------------------

Founding::Founding(View& view, Membership first) : view_(view), first_(std::move(first)) { read(); }

void Founding::read() {
  swapping_ = false;
  goal_ = Goal{Goal::Kind::kRead, kConfigKey, 0, {}, {}};
  if (++reads_ <= kMostReads) return;
  failed_ = true;
  error_ = {Code::kConflict, "others keep founding this registry; try again"};
}

Next Founding::next() const {
  if (change_) return change_->next();
  return failed_ ? Next::kFailed : Next::kOperation;
}

void Founding::onOutcome(const Outcome& outcome) {
  if (change_) return change_->onOutcome(outcome);
  if (outcome.kind == Outcome::Kind::kSurelyNot) {
    failed_ = true;
    error_ = noOutcome(outcome, "founding the registry");
  } else if (swapping_) {
    read();
  } else {
    onConfig(outcome);
  }
}

void Founding::onConfig(const Outcome& outcome) {
  const auto held = decodeConfig(outcome.state.value);
  if (held && held->epoch.incarnation >= first_.epoch.incarnation) {
    (void)view_.adopt(*held);
    view_.forced = false;
    change_.emplace(view_);
    return;
  }
  swapping_ = true;
  goal_ = Goal{Goal::Kind::kSwap, kConfigKey, outcome.state.revision, encodeConfig(first_), {}};
}

void Founding::onListing(const Listing& listing) {
  if (change_) change_->onListing(listing);
}

}  // namespace cctl::registry
