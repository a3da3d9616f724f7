#include "registry/quorum_registers.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <set>

#include "base/digest.h"
#include "registry/acceptor.h"

namespace cctl::registry {
namespace {

// Whoever is faster so often is at work on the register, and finishes what it finds there.
constexpr int kSettleRaces = 6;
constexpr Millis kLook{200};  // between looks at who is late

SteadyTime now() { return std::chrono::steady_clock::now(); }

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::vector<std::string> hostsOf(const MemberSet& set) {
  std::vector<std::string> hosts;
  for (const Member& member : set.members) hosts.push_back(member.host);
  return hosts;
}

std::set<std::string> asSet(const std::vector<std::string>& names) {
  return {names.begin(), names.end()};
}

protocol::RegisterValue valueOf(const Outcome& outcome) {
  return {outcome.state.revision, outcome.state.value, outcome.age};
}

Result<void> checkWrite(const std::string& key, const JsonText& value) {
  if (key.empty() || key.size() > kMostKey)
    return fail(Code::kBadInput, "a register's key has 1 to {} bytes, this one {}", kMostKey,
                key.size());
  if (value.text.size() > kMostValue)
    return fail(Code::kBadInput, "{}: {} bytes of value, {} allowed", key, value.text.size(),
                kMostValue);
  return {};
}

// A host answers with an error, or says that it cannot serve.
std::string silenceOf(const Result<AcceptorReply>& answer) {
  if (!answer) return answer.error().message;
  return answer->refusal == Refusal::kNone ? "" : answer->why;
}

}  // namespace

// What came back for one operation, from any thread. Late answers find nobody who reads them.
class QuorumRegisters::Inbox {
 public:
  struct Letter {
    std::string from;  // an acceptor's UUID, or a host's name
    Result<AcceptorReply> answer;
  };

  void put(Letter letter) {
    {
      const std::lock_guard lock(mutex_);
      letters_.push_back(std::move(letter));
    }
    arrived_.notify_one();
  }
  // Nothing when `until` has come.
  std::optional<Letter> take(AcceptorLinks& links, SteadyTime until = SteadyTime::max()) {
    std::unique_lock lock(mutex_);
    const auto any = [this] { return !letters_.empty(); };
    while (!arrived_.wait_until(lock, std::min(until, now() + kLook), any)) {
      if (now() >= until) return std::nullopt;
      lock.unlock();
      links.tellLate();
      lock.lock();
    }
    Letter letter = std::move(letters_.front());
    letters_.pop_front();
    return letter;
  }

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<Letter> letters_;
};

// Of commits, for acceptors. They need not know: it saves the next proposer to finish what is
// finished already. So they go out with the next operation, or at the end: what comes of a commit
// (whoever is told of the new value) does not queue behind them.
class QuorumRegisters::Notices {
 public:
  void hold(Send send) {
    const std::lock_guard lock(mutex_);
    held_.push_back(std::move(send));
  }
  std::vector<Send> takeHeld() {
    const std::lock_guard lock(mutex_);
    return std::exchange(held_, {});
  }
  // How many acceptors have not yet said that they heard.
  void begin() {
    const std::lock_guard lock(mutex_);
    ++open_;
  }
  void end() {
    const std::lock_guard lock(mutex_);
    if (--open_ == 0) none_.notify_all();
  }
  void waitForAll(Millis most) {
    std::unique_lock lock(mutex_);
    none_.wait_for(lock, most, [this] { return open_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable none_;
  std::vector<Send> held_;
  int open_ = 0;
};

QuorumRegisters::QuorumRegisters(AcceptorLinks& links, QuorumOptions options)
    : links_(links),
      options_(std::move(options)),
      notices_(std::make_shared<Notices>()),
      view_(Membership{}, randomness_) {}

QuorumRegisters::~QuorumRegisters() {
  sendNotices(notices_->takeHeld());
  notices_->waitForAll(Millis(100));
}

// ---- running the machines ----------------------------------------------------------------------

void QuorumRegisters::sendNotices(const std::vector<Send>& sends) {
  for (const Send& send : sends) {
    notices_->begin();
    links_.send(send.to.host, send.request,
                [notices = notices_](const Result<AcceptorReply>&) { notices->end(); });
  }
}

void QuorumRegisters::perform(const std::vector<Send>& sends, const std::shared_ptr<Inbox>& inbox) {
  for (const Send& send : sends) {
    if (send.notice) {
      notices_->hold(send);
      continue;
    }
    links_.send(send.to.host, send.request,
                [inbox, from = send.to.acceptor](Result<AcceptorReply> answer) {
                  inbox->put({from, std::move(answer)});
                });
  }
}

// The machine is this thread's own; what it shares with others is the view.
template <typename Machine>
QuorumRegisters::Losses QuorumRegisters::drive(Machine& machine) {
  const auto inbox = std::make_shared<Inbox>();
  const SteadyTime deadline = now() + options_.operation;
  std::optional<SteadyTime> wake;
  Losses losses;
  const auto act = [&](const auto& step) {
    Actions actions;
    {
      const std::lock_guard lock(mutex_);
      actions = step();
    }
    if (actions.wake) wake = actions.wake;
    perform(actions.sends, inbox);
  };
  sendNotices(notices_->takeHeld());
  act([&] { return machine.start(now()); });
  while (!machine.finished()) {
    auto letter = inbox->take(links_, std::min(deadline, wake.value_or(deadline)));
    if (!letter && now() >= deadline)
      act([&] { return machine.giveUp(now()); });
    else if (!letter)
      act([&] { return machine.onTimer(now()); });
    else if (letter->answer)
      act([&] { return machine.onReply(letter->from, *letter->answer, now()); });
    else {
      losses[letter->from] = letter->answer.error().message;
      act([&] { return machine.onLost(letter->from, now()); });
    }
  }
  return losses;
}

Outcome QuorumRegisters::run(Goal goal, View& view) {
  return run(std::move(goal), view, options_.timing);
}

Outcome QuorumRegisters::run(Goal goal, View& view, Timing timing) {
  std::unique_lock lock(mutex_);
  Operation operation(std::move(goal), view, timing);
  lock.unlock();
  const Losses losses = drive(operation);
  Outcome outcome = operation.outcome();
  if (outcome.kind != Outcome::Kind::kDone)
    for (const auto& [acceptor, why] : losses) outcome.why += "\n  " + why;
  return outcome;
}

Listing QuorumRegisters::listAll(std::string prefix, View& view) {
  Listing listing(std::move(prefix), view, options_.timing);
  drive(listing);
  return listing;
}

// ---- where the registry is ---------------------------------------------------------------------

// True once no more answers are needed: what is known makes a quorum.
bool QuorumRegisters::isEnough(const Identities& answers) {
  const std::lock_guard lock(mutex_);
  if (view_.membership().epoch.isNone()) return false;
  return isQuorum(view_.membership(), [&](const Member& member) {
    const auto at = answers.find(member.host);
    return at != answers.end() && at->second.has_value();
  });
}

// Asks the hosts of the inventory, and those that these name as members, until a quorum has
// answered or nobody is left to ask.
Result<void> QuorumRegisters::locateOnce() {
  const auto inbox = std::make_shared<Inbox>();
  std::set<std::string> asked;
  const auto ask = [&](const std::string& host) {
    if (!asked.insert(host).second) return;
    links_.identify(host, [inbox, host](Result<AcceptorReply> answer) {
      inbox->put({host, std::move(answer)});
    });
  };
  for (const std::string& host : options_.hosts) ask(host);
  Identities answers;
  while (answers.size() < asked.size() && !isEnough(answers)) {
    auto letter = inbox->take(links_);
    std::vector<Member> members;
    if (letter->answer && letter->answer->membership) {
      const std::lock_guard lock(mutex_);
      (void)view_.adopt(*letter->answer->membership);
      members = membersOf(view_.membership());
    }
    for (const Member& member : members) ask(member.host);
    answers.emplace(letter->from, std::move(letter->answer));
  }
  return judge(answers);
}

Result<void> QuorumRegisters::judge(const Identities& answers) {
  std::string silent;
  std::vector<HostIdentity> said;
  for (const auto& [host, answer] : answers) {
    said.push_back({host, answer ? std::optional(*answer) : std::nullopt});
    if (!answer && answer.error().code == Code::kCancelled) return fail(answer.error());
    if (const std::string why = silenceOf(answer); !why.empty()) silent += "\n  " + why;
  }
  CCTL_TRY([[maybe_unused]] const auto one_registry, newestMembership(said));
  const std::lock_guard lock(mutex_);
  if (!view_.membership().epoch.isNone()) {
    known_ = Known::kMembership;
  } else if (silent.empty()) {
    known_ = Known::kUnborn;
  } else {
    return fail(Code::kNoQuorum,
                "no host that answers knows of a registry; that there is none yet can be told only "
                "when all of {} answer:{}",
                joined(options_.hosts), silent);
  }
  return {};
}

Result<void> QuorumRegisters::locate() {
  return known_ == Known::kNothing ? locateOnce() : Result<void>();
}

// While a change is under way the inventory may already be the new one, or still the old one.
Result<void> QuorumRegisters::checkHosts() {
  const std::lock_guard lock(mutex_);
  const Membership& membership = view_.membership();
  const std::set<std::string> wanted = asSet(options_.hosts);
  if (wanted == asSet(hostsOf(membership.now))) return {};
  if (membership.old && wanted == asSet(hostsOf(*membership.old))) return {};
  return fail(Code::kBadInput,
              "registry.hosts in the inventory of {} is {}, but the registry of this cluster is "
              "kept by {}; put that back, or change the members with 'clusterctl registry "
              "members' (an edit changes nothing by itself)",
              options_.cluster, joined(options_.hosts), joined(hostsOf(membership.now)));
}

Result<void> QuorumRegisters::begin(bool to_write) {
  const std::lock_guard lock(locating_);
  CCTL_CHECK(locate());
  if (known_ == Known::kUnborn && to_write) CCTL_CHECK(found());
  if (known_ != Known::kMembership || hosts_agreed_) return {};
  CCTL_CHECK(checkHosts());
  hosts_agreed_ = true;
  return {};
}

// ---- the beginning -----------------------------------------------------------------------------

Identities QuorumRegisters::identities(const std::vector<std::string>& hosts) {
  sendNotices(notices_->takeHeld());  // else they would name our own writes as open
  const auto inbox = std::make_shared<Inbox>();
  const std::set<std::string> asked = asSet(hosts);
  for (const std::string& host : asked)
    links_.send(host, AcceptorRequest{}, [inbox, host](Result<AcceptorReply> answer) {
      inbox->put({host, std::move(answer)});
    });
  Identities answers;
  while (answers.size() < asked.size()) {
    auto letter = inbox->take(links_);
    answers.emplace(letter->from, std::move(letter->answer));
  }
  return answers;
}

// registry.hosts that were all replaced by others would found a second registry beside the first.
Result<void> QuorumRegisters::refuseSecond() {
  for (const auto& [host, answer] : identities(options_.others)) {
    if (!answer || !answer->membership) continue;
    return fail(Code::kBadInput,
                "registry.hosts in the inventory of {} is {}, and these hold nothing, but the "
                "registry of this cluster is kept by {} ({} says so); put that back, or change "
                "the members with 'clusterctl registry members'",
                options_.cluster, joined(options_.hosts), joined(hostsOf(answer->membership->now)),
                host);
  }
  return {};
}

// Runs a procedure to its end, what it asks for outside of the lock.
template <typename Procedure>
Result<void> QuorumRegisters::follow(Procedure& procedure, View& view,
                                     std::unique_lock<std::mutex>& lock) {
  while (procedure.next() != Next::kDone) {
    if (procedure.next() == Next::kFailed) return fail(procedure.error());
    const bool is_listing = procedure.next() == Next::kListing;
    const Goal goal = procedure.goal();
    lock.unlock();
    if (is_listing) {
      const Listing listing = listAll("", view);
      lock.lock();
      procedure.onListing(listing);
    } else {
      const Outcome outcome = run(goal, view);
      lock.lock();
      procedure.onOutcome(outcome);
    }
  }
  return {};
}

// The council has a view of its own: it counts other quorums than the registry that comes of it.
Result<void> QuorumRegisters::conduct(const Beginning& beginning, bool forced) {
  std::unique_lock lock(mutex_);
  View council(beginning.council, randomness_);
  council.forced = forced;
  Founding founding(council, beginning.first);
  CCTL_CHECK(follow(founding, council, lock));
  (void)view_.adopt(council.membership());
  known_ = Known::kMembership;
  tellMembers();
  return {};
}

Result<void> QuorumRegisters::found() {
  CCTL_CHECK(refuseSecond());
  std::vector<HostIdentity> hosts;
  const Identities answers = identities(options_.hosts);
  for (const std::string& host : options_.hosts) {
    const Result<AcceptorReply>& answer = answers.at(host);
    hosts.push_back({host, answer ? std::optional(*answer) : std::nullopt});
  }
  CCTL_TRY(const std::optional<Membership> already, newestMembership(hosts));
  if (already) {
    const std::lock_guard lock(mutex_);
    (void)view_.adopt(*already);
    known_ = Known::kMembership;
    return {};
  }
  CCTL_TRY(const Beginning beginning, planBirth(hosts, randomHex(16)));
  return conduct(beginning, false);
}

Result<void> QuorumRegisters::ensureFounded() { return begin(true); }

// ---- the registers -----------------------------------------------------------------------------

Result<Outcome> QuorumRegisters::decide(Goal goal) {
  const std::string key = goal.key;
  return judged(key, run(std::move(goal), view_));
}

Result<Outcome> QuorumRegisters::judged(const std::string& key, const Outcome& outcome) {
  if (outcome.kind == Outcome::Kind::kSurelyNot) return fail(noQuorum(outcome.why));
  if (outcome.kind == Outcome::Kind::kUnknown)
    return fail(Code::kUnknownOutcome, "register {}: whether it was written is unknown: {}", key,
                outcome.why);
  return outcome;
}

Result<protocol::RegisterValue> QuorumRegisters::read(const std::string& key) {
  CCTL_CHECK(begin(false));
  if (known_ == Known::kUnborn) return protocol::RegisterValue{};
  CCTL_TRY(const Outcome outcome, decide(Goal{Goal::Kind::kRead, key, 0, {}, {}}));
  return valueOf(outcome);
}

Result<protocol::RegisterWriteReply> QuorumRegisters::write(const std::string& key,
                                                            uint64_t expected, JsonText value) {
  CCTL_CHECK(checkWrite(key, value));
  CCTL_CHECK(begin(true));
  Goal goal{Goal::Kind::kSwap, key, expected, value, {}};
  CCTL_TRY(const Outcome outcome, decide(std::move(goal)));
  if (!outcome.swapped) return protocol::RegisterWriteReply{false, valueOf(outcome)};
  // Others may have written since, which says nothing about this write.
  return protocol::RegisterWriteReply{true, {expected + 1, std::move(value), Millis(0)}};
}

Result<std::vector<std::string>> QuorumRegisters::list(const std::string& prefix) {
  CCTL_CHECK(begin(false));
  if (known_ == Known::kUnborn) return std::vector<std::string>{};
  const Listing listing = listAll(prefix, view_);
  if (listing.failed()) return fail(noQuorum(listing.why()));
  return listing.present();
}

// ---- looking after it --------------------------------------------------------------------------

Result<std::optional<Membership>> QuorumRegisters::membership() {
  const std::lock_guard locating(locating_);
  CCTL_CHECK(locate());
  const std::lock_guard lock(mutex_);
  if (known_ == Known::kUnborn) return std::optional<Membership>();
  return std::optional(view_.membership());
}

// A quorum knows it; the others would only learn it from the next operation.
void QuorumRegisters::tellMembers() {
  std::vector<Send> sends;
  const Membership& membership = view_.membership();
  for (const Member& member : membersOf(membership)) {
    AcceptorRequest request;
    request.act = AcceptorAct::kInstall;
    request.id = view_.nextRequest();
    request.acceptor = member.acceptor;
    request.membership = membership;
    sends.push_back({member, std::move(request), true});
  }
  sendNotices(sends);
}

Result<void> QuorumRegisters::changeMembers(const MembershipChange::Wanted& wanted) {
  std::unique_lock lock(mutex_);
  const protocol::Epoch before = view_.membership().epoch;
  MembershipChange change(view_, wanted);
  CCTL_CHECK(follow(change, view_, lock));
  if (view_.membership().epoch != before) tellMembers();
  return {};
}

Result<void> QuorumRegisters::recover(const Beginning& beginning) {
  const std::lock_guard locating(locating_);
  return conduct(beginning, true);
}

Result<AcceptorReply> QuorumRegisters::discard(const std::string& host,
                                               const std::string& acceptor) {
  AcceptorRequest request;
  request.act = AcceptorAct::kDiscard;
  request.acceptor = acceptor;
  request.forced = true;
  const auto inbox = std::make_shared<Inbox>();
  links_.send(host, request, [inbox, host](Result<AcceptorReply> answer) {
    inbox->put({host, std::move(answer)});
  });
  auto letter = inbox->take(links_);
  CCTL_TRY(AcceptorReply reply, std::move(letter->answer));
  if (reply.refusal != Refusal::kNone) return fail(Code::kRefused, "{}: {}", host, reply.why);
  return reply;
}

Result<size_t> QuorumRegisters::settle() {
  CCTL_CHECK(begin(false));
  if (known_ == Known::kUnborn) return size_t{0};
  std::vector<std::string> members;
  {
    const std::lock_guard lock(mutex_);
    for (const Member& member : membersOf(view_.membership())) members.push_back(member.host);
  }
  std::set<std::string> open;
  for (const auto& [host, answer] : identities(members))
    if (answer) open.insert(answer->uncommitted.begin(), answer->uncommitted.end());
  Timing timing = options_.timing;
  timing.most_races = kSettleRaces;
  for (const std::string& key : open) {
    const Outcome outcome = run(Goal{Goal::Kind::kCarry, key, 0, {}, {}}, view_, timing);
    if (!outcome.outrun) CCTL_CHECK(judged(key, outcome));
  }
  return open.size();
}

}  // namespace cctl::registry
