// The body of BasicAcceptor: included by acceptor.cc, and by tests that put wrong rules in.
#pragma once

#include <algorithm>

#include "registry/acceptor.h"

namespace cctl::registry {

template <typename Rules>
std::vector<AcceptorRecord> BasicAcceptor<Rules>::beginLife(SteadyTime now) {
  AcceptorRecord record;
  record.uuid = fresh_uuid_();
  apply(record, now);
  return {record};
}

template <typename Rules>
void BasicAcceptor<Rules>::replay(const AcceptorRecord& record, SteadyTime now) {
  using Kind = AcceptorRecord::Kind;
  const auto found = entries_.find(record.key);
  const bool older = found != entries_.end() &&
                     ((record.kind == Kind::kPromise && record.promised < found->second.promised) ||
                      (record.kind == Kind::kAccept && record.accepted < found->second.accepted));
  const bool older_member =
      record.kind == Kind::kMember && membership_ && record.membership->epoch < membership_->epoch;
  if (!older && !older_member) apply(record, now);
}

template <typename Rules>
typename BasicAcceptor<Rules>::Entry& BasicAcceptor<Rules>::entryOf(const std::string& key) {
  constexpr size_t kOverhead = 160;  // of one record in a snapshot
  const auto [at, added] = entries_.try_emplace(key);
  if (added) live_bytes_ += key.size() + kOverhead;
  return at->second;
}

template <typename Rules>
void BasicAcceptor<Rules>::apply(const AcceptorRecord& record, SteadyTime now) {
  using Kind = AcceptorRecord::Kind;
  // The single store's `config` only named the hosts of that store.
  if (isImport(record.accepted) && record.key == kConfigKey) return;
  switch (record.kind) {
    case Kind::kIdentity:
      uuid_ = record.uuid;
      membership_.reset();
      entries_.clear();
      live_bytes_ = 0;
      break;
    case Kind::kMember:
      membership_ = record.membership;
      break;
    case Kind::kPromise:
      entryOf(record.key).promised = record.promised;
      break;
    case Kind::kAccept:
      applyAccept(record, now);
      break;
    case Kind::kCommitted: {
      Entry& entry = entryOf(record.key);
      entry.committed = entry.committed || entry.accepted == record.accepted;
      break;
    }
  }
  saw(record.promised);
  saw(record.accepted);
}

template <typename Rules>
void BasicAcceptor<Rules>::applyAccept(const AcceptorRecord& record, SteadyTime now) {
  Entry& entry = entryOf(record.key);
  // Accepting what stands there again, as reads do, makes it no younger.
  const bool same = entry.state && entry.state->revision == record.state->revision &&
                    entry.state->recent == record.state->recent;
  if (!same) entry.written = now;
  if (entry.state) live_bytes_ -= entry.state->value.text.size();
  live_bytes_ += record.state->value.text.size();
  entry.state = record.state;
  entry.accepted = record.accepted;
  entry.promised = std::max({entry.promised, record.promised, record.accepted});
  entry.committed = false;
}

template <typename Rules>
void BasicAcceptor<Rules>::snapshot(const std::function<void(const AcceptorRecord&)>& sink) const {
  AcceptorRecord record;
  record.uuid = uuid_;
  sink(record);
  for (const auto& [key, entry] : entries_) {
    const auto kind = entry.state ? AcceptorRecord::Kind::kAccept : AcceptorRecord::Kind::kPromise;
    sink({kind, "", std::nullopt, key, entry.promised, entry.accepted, entry.state});
    if (entry.committed)
      sink({AcceptorRecord::Kind::kCommitted, "", std::nullopt, key, {}, entry.accepted, nullptr});
  }
  if (!membership_) return;
  record.kind = AcceptorRecord::Kind::kMember;
  record.membership = membership_;
  sink(record);
}

template <typename Rules>
AcceptorReply BasicAcceptor<Rules>::replyTo(const AcceptorRequest& request) const {
  AcceptorReply reply;
  reply.id = request.id;
  reply.acceptor = uuid_;
  reply.counter = counter_;
  if (membership_) reply.epoch = membership_->epoch;
  return reply;
}

// Before there is a registry, and when one is founded anew over the loss of its quorum: `config`
// alone is decided, by all hosts concerned, in the founding epoch of the next incarnation.
template <typename Rules>
bool BasicAcceptor<Rules>::mayFound(const AcceptorRequest& request) const {
  const uint64_t incarnation = membership_ ? membership_->epoch.incarnation : 0;
  return request.key == kConfigKey && request.epoch == Epoch{incarnation + 1, 0} &&
         (incarnation == 0 || request.forced);
}

template <typename Rules>
Refusal BasicAcceptor<Rules>::objectionTo(const AcceptorRequest& request, std::string& why) const {
  if (request.acceptor != uuid_) return Refusal::kWrongAcceptor;
  if (request.key.size() > kMostKey) {
    why = fmt::format("a register's key has at most {} bytes", kMostKey);
    return Refusal::kBadRequest;
  }
  if (request.act == AcceptorAct::kInstall || request.act == AcceptorAct::kDiscard)
    return Refusal::kNone;
  if (request.epoch.isFounding() && mayFound(request)) return Refusal::kNone;
  const Epoch own = membership_ ? membership_->epoch : Epoch{};
  if (!Rules::isEpochOf(request.epoch, own)) return Refusal::kWrongEpoch;
  if (!membership_ || !isMember(*membership_, uuid_)) return Refusal::kNotMember;
  return Refusal::kNone;
}

template <typename Rules>
AcceptorStep BasicAcceptor<Rules>::handle(const AcceptorRequest& request, SteadyTime now) {
  AcceptorStep step;
  step.reply = replyTo(request);
  if (request.act == AcceptorAct::kIdentity) {
    identity(step.reply);
    return step;
  }
  step.reply.refusal = objectionTo(request, step.reply.why);
  if (step.reply.refusal == Refusal::kWrongEpoch) step.reply.membership = membership_;
  if (step.reply.refusal != Refusal::kNone) return step;
  switch (request.act) {
    case AcceptorAct::kIdentity:
      break;
    case AcceptorAct::kRead:
      read(request, now, step.reply);
      break;
    case AcceptorAct::kPrepare:
      prepare(request, now, step);
      break;
    case AcceptorAct::kAccept:
      accept(request, now, step);
      break;
    case AcceptorAct::kCommitted:
      committed(request, step);
      break;
    case AcceptorAct::kList:
      list(request, step.reply);
      break;
    case AcceptorAct::kInstall:
      install(request, step);
      break;
    case AcceptorAct::kDiscard:
      discard(request, now, step);
      break;
  }
  return step;
}

template <typename Rules>
void BasicAcceptor<Rules>::identity(AcceptorReply& reply) const {
  constexpr size_t kMost = 1'000;
  reply.membership = membership_;
  reply.registers = entries_.size();
  for (const auto& [key, entry] : entries_) {
    reply.imported = reply.imported || (!membership_ && isImport(entry.accepted));
    if (reply.uncommitted.size() == kMost) break;
    if (entry.state && !entry.committed) reply.uncommitted.push_back(key);
  }
}

template <typename Rules>
void BasicAcceptor<Rules>::show(const Entry& entry, SteadyTime now, AcceptorReply& reply) const {
  reply.promised = entry.promised;
  reply.accepted = entry.accepted;
  if (!entry.state) return;
  reply.state = *entry.state;
  reply.age = std::chrono::duration_cast<Millis>(now - entry.written);
}

template <typename Rules>
void BasicAcceptor<Rules>::read(const AcceptorRequest& request, SteadyTime now,
                                AcceptorReply& reply) const {
  const auto found = entries_.find(request.key);
  if (found != entries_.end()) show(found->second, now, reply);
}

template <typename Rules>
void BasicAcceptor<Rules>::list(const AcceptorRequest& request, AcceptorReply& reply) const {
  const std::string& prefix = request.key;
  auto at = request.after.empty() ? entries_.lower_bound(prefix)
                                  : entries_.upper_bound(std::max(request.after, prefix));
  for (; at != entries_.end() && at->first.compare(0, prefix.size(), prefix) == 0; ++at) {
    if (reply.keys.size() == kListPage) {
      reply.more = true;
      return;
    }
    const Entry& entry = at->second;
    reply.keys.push_back({at->first, entry.accepted, entry.state && !entry.state->value.isNull()});
  }
}

template <typename Rules>
void BasicAcceptor<Rules>::prepare(const AcceptorRequest& request, SteadyTime now,
                                   AcceptorStep& step) {
  read(request, now, step.reply);
  if (request.ballot.isNone() ||
      !Rules::mayPromise(request.ballot, step.reply.promised, step.reply.accepted)) {
    step.reply.refusal = Refusal::kLowerBallot;
    step.reply.state.reset();
    return;
  }
  AcceptorRecord record;
  record.kind = AcceptorRecord::Kind::kPromise;
  record.key = request.key;
  record.promised = request.ballot;
  apply(record, now);
  step.reply.promised = request.ballot;
  step.reply.counter = counter_;
  if (!Rules::kRecordsPromises) return;
  step.records.push_back(std::move(record));
  step.sync = true;
}

template <typename Rules>
void BasicAcceptor<Rules>::accept(const AcceptorRequest& request, SteadyTime now,
                                  AcceptorStep& step) {
  if (!request.state || request.state->value.text.size() > kMostValue) {
    step.reply.refusal = Refusal::kBadRequest;
    step.reply.why = fmt::format("{}: a value has at most {} bytes", request.key, kMostValue);
    return;
  }
  const auto found = entries_.find(request.key);
  const Entry none;
  const Entry& entry = found == entries_.end() ? none : found->second;
  if (request.ballot.isNone() ||
      !Rules::mayAccept(request.ballot, entry.promised, entry.accepted)) {
    step.reply.refusal = Refusal::kLowerBallot;
    step.reply.promised = entry.promised;
    step.reply.accepted = entry.accepted;
    return;
  }
  AcceptorRecord record;
  record.kind = AcceptorRecord::Kind::kAccept;
  record.key = request.key;
  record.accepted = request.ballot;
  record.promised = std::max(request.ballot, request.next);
  record.state = std::make_shared<const RegisterState>(*request.state);
  apply(record, now);
  step.reply.promised = record.promised;
  step.reply.accepted = record.accepted;
  step.reply.counter = counter_;
  if (!Rules::kRecordsValues) return;
  step.records.push_back(std::move(record));
  step.sync = true;
}

template <typename Rules>
void BasicAcceptor<Rules>::committed(const AcceptorRequest& request, AcceptorStep& step) {
  const auto found = entries_.find(request.key);
  if (found == entries_.end() || found->second.accepted != request.ballot ||
      found->second.committed)
    return;
  found->second.committed = true;
  step.records.push_back({AcceptorRecord::Kind::kCommitted,
                          "",
                          std::nullopt,
                          request.key,
                          {},
                          request.ballot,
                          nullptr});
}

// Memberships are decided by consensus before anyone installs them, so a higher epoch is simply
// the newer one. Over incarnations that is not enough: what this acceptor accepted after the
// survivors of a lost quorum went on without it must not count; only a survivor goes on.
template <typename Rules>
std::string BasicAcceptor<Rules>::whyNotInstall(const Membership& membership) const {
  if (membership.epoch.isFounding() || membership.epoch.isNone())
    return "not a membership that can be installed";
  if (!membership_) return isMember(membership, uuid_) ? "" : "it does not name this acceptor";
  if (membership.cluster != membership_->cluster) return "it is another cluster's";
  const bool anew = membership.epoch.incarnation != membership_->epoch.incarnation;
  const bool survivor = membership.old && membership.old->all && isMember(*membership.old, uuid_) &&
                        membership.epoch.number == 1;
  if (anew && !survivor)
    return "the registry was recovered without this acceptor, which must be admitted anew";
  return "";
}

template <typename Rules>
void BasicAcceptor<Rules>::install(const AcceptorRequest& request, AcceptorStep& step) {
  step.reply.membership = membership_;
  if (!request.membership) {
    step.reply.refusal = Refusal::kBadRequest;
    step.reply.why = "no membership to install";
    return;
  }
  const Membership& membership = *request.membership;
  if (membership_ && membership.epoch == membership_->epoch) return;  // done before
  if (membership_ && membership.epoch < membership_->epoch) {
    step.reply.refusal = Refusal::kWrongEpoch;
    return;
  }
  step.reply.why = whyNotInstall(membership);
  if (!step.reply.why.empty()) {
    step.reply.refusal = Refusal::kNotMember;
    return;
  }
  AcceptorRecord record;
  record.kind = AcceptorRecord::Kind::kMember;
  record.membership = membership;
  apply(record, {});
  step.reply.epoch = membership.epoch;
  step.reply.membership = membership;
  step.records.push_back(std::move(record));
  step.sync = true;
}

template <typename Rules>
void BasicAcceptor<Rules>::discard(const AcceptorRequest& request, SteadyTime now,
                                   AcceptorStep& step) {
  if (!request.forced) {
    step.reply.refusal = Refusal::kBadRequest;
    step.reply.why = "discarding a registry's state must be forced";
    return;
  }
  step.records = beginLife(now);
  step.sync = true;
  step.reply.acceptor = uuid_;
  step.reply.epoch = {};
}

}  // namespace cctl::registry
