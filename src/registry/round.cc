#include <algorithm>

#include "registry/proposer.h"

namespace cctl::registry {
namespace {

std::string describe(const Member& member, const AcceptorReply& reply) {
  const char* what = "";
  switch (reply.refusal) {
    case Refusal::kNone:
      break;
    case Refusal::kLowerBallot:
      what = "another writer was faster";
      break;
    case Refusal::kWrongEpoch:
      what = "is of another membership";
      break;
    case Refusal::kWrongAcceptor:
      what =
          "lost its registry state, or is another host; admit it anew with 'registry members "
          "replace'";
      break;
    case Refusal::kNotMember:
      what = "is no member";
      break;
    case Refusal::kNotServing:
      what = "cannot serve the registry";
      break;
    case Refusal::kBadRequest:
      what = "refused";
      break;
  }
  return member.host + ": " + what + (reply.why.empty() ? "" : " (" + reply.why + ")");
}

}  // namespace

Round::Peer* Round::find(const std::string& acceptor) {
  const auto at = std::find_if(peers_.begin(), peers_.end(),
                               [&](const Peer& peer) { return peer.member.acceptor == acceptor; });
  return at == peers_.end() ? nullptr : &*at;
}

const Round::Peer* Round::find(const std::string& acceptor) const {
  return const_cast<Round*>(this)->find(acceptor);
}

Send Round::sendTo(Peer& peer, AcceptorRequest request, View& view) {
  request.id = view.nextRequest();
  request.acceptor = peer.member.acceptor;
  request.epoch = membership_.epoch;
  request.forced = view.forced;
  peer.id = request.id;
  return {peer.member, std::move(request), false};
}

std::vector<Send> Round::begin(View& view) {
  std::vector<Send> sends;
  peers_.clear();
  for (const Member& member : membersOf(membership_)) {
    peers_.emplace_back().member = member;
    sends.push_back(sendTo(peers_.back(), request_, view));
  }
  return sends;
}

void Round::ask(const std::string& acceptor, AcceptorRequest request, View& view,
                std::vector<Send>& sends) {
  Peer* peer = find(acceptor);
  if (!peer) return;
  peer->is = Peer::Is::kOpen;
  sends.push_back(sendTo(*peer, std::move(request), view));
}

Round::Took Round::take(const std::string& acceptor, const AcceptorReply& reply, View& view,
                        std::vector<Send>& sends) {
  Peer* peer = find(acceptor);
  const bool awaited = peer && peer->id == reply.id &&
                       (peer->is == Peer::Is::kOpen || peer->is == Peer::Is::kInstalling);
  if (!awaited) return Took::kIgnored;
  for (const uint64_t counter : {reply.counter, reply.promised.counter, reply.accepted.counter})
    view.saw(counter);
  if (reply.refusal != Refusal::kNone) return takeRefusal(*peer, reply, view, sends);
  if (peer->is == Peer::Is::kInstalling) {
    ask(acceptor, request_, view, sends);
    return Took::kInstalling;
  }
  peer->is = Peer::Is::kAnswered;
  peer->reply = reply;
  return Took::kAnswer;
}

Round::Took Round::takeRefusal(Peer& peer, const AcceptorReply& reply, View& view,
                               std::vector<Send>& sends) {
  if (reply.refusal == Refusal::kWrongEpoch) {
    if (reply.membership) view.adopt(*reply.membership);
    if (view.membership().epoch > membership_.epoch) return Took::kNewerEpoch;
    if (reply.epoch < membership_.epoch && !membership_.epoch.isFounding()) {
      AcceptorRequest install;
      install.act = AcceptorAct::kInstall;
      install.membership = membership_;
      peer.is = Peer::Is::kInstalling;
      sends.push_back(sendTo(peer, std::move(install), view));
      return Took::kInstalling;
    }
  }
  peer.is = Peer::Is::kRefused;
  peer.reply = reply;
  return Took::kRefused;
}

void Round::lose(const std::string& acceptor) {
  Peer* peer = find(acceptor);
  if (peer && (peer->is == Peer::Is::kOpen || peer->is == Peer::Is::kInstalling))
    peer->is = Peer::Is::kLost;
}

bool Round::hasQuorum(const std::function<bool(const AcceptorReply&)>& such) const {
  return isQuorum(membership_, [&](const Member& member) {
    const Peer* peer = find(member.acceptor);
    return peer && peer->is == Peer::Is::kAnswered && such(peer->reply);
  });
}

bool Round::hasQuorum() const {
  return hasQuorum([](const AcceptorReply&) { return true; });
}

bool Round::mayHaveQuorum() const {
  return isQuorum(membership_, [&](const Member& member) {
    const Peer* peer = find(member.acceptor);
    return peer && peer->is != Peer::Is::kRefused && peer->is != Peer::Is::kLost;
  });
}

bool Round::conflicted() const {
  return std::any_of(peers_.begin(), peers_.end(), [](const Peer& peer) {
    return peer.is == Peer::Is::kRefused && peer.reply.refusal == Refusal::kLowerBallot;
  });
}

std::vector<const AcceptorReply*> Round::answers() const {
  std::vector<const AcceptorReply*> replies;
  for (const Peer& peer : peers_)
    if (peer.is == Peer::Is::kAnswered) replies.push_back(&peer.reply);
  return replies;
}

// What at least a quorum says: the lowest of the highest ages that a quorum needs.
Millis Round::quorumAge(uint64_t revision) const {
  const auto ofSet = [&](const MemberSet& set) {
    std::vector<Millis> ages;
    for (const Member& member : set.members) {
      const Peer* peer = find(member.acceptor);
      const bool holds = peer && peer->is == Peer::Is::kAnswered && peer->reply.state &&
                         peer->reply.state->revision == revision;
      ages.push_back(holds ? peer->reply.age : Millis(0));
    }
    std::sort(ages.begin(), ages.end(), std::greater<>());
    return ages[quorumSize(set) - 1];
  };
  const Millis now = ofSet(membership_.now);
  return membership_.old ? std::min(now, ofSet(*membership_.old)) : now;
}

// Those that were not waited for, as no quorum was to be had any more, are not to blame.
std::string Round::missing() const {
  std::string text;
  const bool waited = mayHaveQuorum();
  for (const Peer& peer : peers_) {
    const bool open = peer.is == Peer::Is::kOpen || peer.is == Peer::Is::kInstalling;
    if (peer.is == Peer::Is::kAnswered || (open && !waited)) continue;
    if (!text.empty()) text += "; ";
    if (peer.is == Peer::Is::kRefused)
      text += describe(peer.member, peer.reply);
    else
      text += peer.member.host +
              (peer.is == Peer::Is::kLost ? ": cannot be reached" : ": has not answered");
  }
  return text;
}

}  // namespace cctl::registry
