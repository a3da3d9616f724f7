// Acceptors and proposers together, with messages delivered at once: what each message does. What
// loss, crashes and rivals do to them is in simulator_test.cc.
#include <doctest/doctest.h>

#include <deque>
#include <nlohmann/json.hpp>
#include <set>

#include "protocol/acceptor_fields.h"
#include "registry/acceptor.h"
#include "registry/procedures.h"

using namespace cctl;
using namespace cctl::registry;

namespace {

class CountedRandomness final : public Randomness {
 public:
  uint64_t next() override { return ++count_ * 0x9e3779b97f4a7c15u; }

 private:
  uint64_t count_ = 0;
};

// N acceptors; a message to one that is `down` is lost and said so.
class Cluster {
 public:
  explicit Cluster(size_t size, bool founded = true) {
    for (size_t i = 0; i < size; ++i) add("host" + std::to_string(i + 1));
    if (!founded) return;
    Membership membership{"c", {1, 1}, {members, false}, std::nullopt};
    view = std::make_unique<View>(membership, random);
  }
  void add(const std::string& host, const std::string& life = "") {
    const std::string uuid = "uuid-" + host + life;
    acceptors.push_back(std::make_unique<Acceptor>([uuid] { return uuid; }));
    (void)acceptors.back()->beginLife(now());
    members.push_back({host, uuid});
  }
  SteadyTime now() const { return clock.steady(); }
  Acceptor& at(const std::string& uuid) {
    for (auto& acceptor : acceptors)
      if (acceptor->uuid() == uuid) return *acceptor;
    FAIL("no such acceptor: ", uuid);
    return *acceptors.front();
  }

  Acceptor& atHost(const std::string& host) {
    for (size_t i = 0; i < members.size(); ++i)
      if (members[i].host == host) return *acceptors[i];
    FAIL("no such host: ", host);
    return *acceptors.front();
  }

  template <typename Machine>
  void run(Machine& machine) {
    Actions actions = machine.start(now());
    std::deque<Send> sends;
    const auto take = [&](Actions more) {
      for (Send& send : more.sends) sends.push_back(std::move(send));
      if (more.committed) told.push_back(*more.committed);
      actions.wake = more.wake;
    };
    take(std::move(actions));
    while (!machine.finished() || !sends.empty()) {
      if (sends.empty()) {
        REQUIRE(actions.wake);
        clock.advance(Millis(1'000));
        take(machine.onTimer(now()));
        continue;
      }
      const Send send = sends.front();
      sends.pop_front();
      if (down.count(send.to.host) != 0) {
        if (!send.notice) take(machine.onLost(send.to.acceptor, now()));
        continue;
      }
      AcceptorStep step = atHost(send.to.host).handle(send.request, now());
      acts.push_back(send.request.act);
      if (!send.notice) take(machine.onReply(send.to.acceptor, step.reply, now()));
    }
  }
  // An empty disk under the same host name.
  void wipe(const std::string& host, const std::string& life) {
    for (size_t i = 0; i < members.size(); ++i) {
      if (members[i].host != host) continue;
      members.erase(members.begin() + static_cast<long>(i));
      acceptors.erase(acceptors.begin() + static_cast<long>(i));
      break;
    }
    add(host, life);
  }
  HostIdentity identity(const std::string& host) {
    for (const Member& member : members)
      if (member.host == host && down.count(host) == 0)
        return {host, at(member.acceptor).handle({}, now()).reply};
    return {host, std::nullopt};
  }
  std::vector<HostIdentity> identities() {
    std::vector<HostIdentity> all;
    for (const Member& member : members) all.push_back(identity(member.host));
    return all;
  }
  // False: it stopped after `most` operations.
  template <typename Procedure>
  bool runProcedure(Procedure& procedure, int most = 1'000'000) {
    while (procedure.next() == Next::kOperation || procedure.next() == Next::kListing) {
      if (most-- == 0) return false;
      if (procedure.next() == Next::kListing) {
        Listing listing("", *view, timing);
        run(listing);
        procedure.onListing(listing);
      } else {
        Operation operation(procedure.goal(), *view, timing);
        run(operation);
        procedure.onOutcome(operation.outcome());
      }
    }
    return true;
  }
  void found() {
    const Beginning beginning = planBirth(identities(), "c").value();
    view = std::make_unique<View>(beginning.council, random);
    Founding founding(*view, beginning.first);
    CHECK(runProcedure(founding));
    REQUIRE_MESSAGE(founding.next() == Next::kDone, founding.error().message);
  }
  MembershipChange::Wanted wanting(std::vector<std::string> hosts) {
    return [this, hosts](const std::vector<Member>&) -> Result<std::vector<Member>> {
      std::vector<Member> wanted;
      for (const std::string& host : hosts)
        wanted.push_back({host, identity(host).reply->acceptor});
      return wanted;
    };
  }
  Outcome read(const std::string& key) {
    Operation operation({Goal::Kind::kRead, key, 0, {}, {}}, *view, timing);
    run(operation);
    return operation.outcome();
  }
  Outcome swap(const std::string& key, uint64_t expected, const std::string& value) {
    Operation operation({Goal::Kind::kSwap, key, expected, {value}, {}}, *view, timing);
    run(operation);
    return operation.outcome();
  }

  ManualClock clock;
  CountedRandomness random;
  Timing timing;
  std::vector<std::unique_ptr<Acceptor>> acceptors;
  std::vector<Member> members;
  std::unique_ptr<View> view;
  std::set<std::string> down;
  std::vector<Committed> told;
  std::vector<AcceptorAct> acts;
};

}  // namespace

TEST_CASE("a register is written by compare-and-set and read back, by a majority alone") {
  Cluster cluster(3);
  CHECK(cluster.read("a").state.revision == 0);
  Outcome outcome = cluster.swap("a", 0, "1");
  CHECK(outcome.kind == Outcome::Kind::kDone);
  CHECK(outcome.swapped);
  cluster.down = {"host2"};
  outcome = cluster.swap("a", 1, "2");
  CHECK(outcome.swapped);
  cluster.down = {"host3"};
  CHECK(cluster.read("a").state.value.text == "2");
  outcome = cluster.swap("a", 1, "3");
  CHECK(outcome.kind == Outcome::Kind::kDone);
  CHECK_FALSE(outcome.swapped);
  CHECK(outcome.state.revision == 2);
}

TEST_CASE("without a quorum nothing is done, and who is missing is said") {
  Cluster cluster(3);
  cluster.down = {"host1", "host2"};
  const Outcome outcome = cluster.swap("a", 0, "1");
  CHECK(outcome.kind == Outcome::Kind::kSurelyNot);
  CHECK(outcome.why.find("host1: cannot be reached; host2: cannot be reached") == 0);
}

TEST_CASE("a read that finds a quorum of one mind writes nothing") {
  Cluster cluster(3);
  REQUIRE(cluster.swap("a", 0, "1").swapped);
  cluster.acts.clear();
  CHECK(cluster.read("a").state.revision == 1);
  CHECK(std::set<AcceptorAct>(cluster.acts.begin(), cluster.acts.end()) ==
        std::set<AcceptorAct>{AcceptorAct::kRead});
}

TEST_CASE("the second write of a register by one process begins with its accept") {
  Cluster cluster(3);
  REQUIRE(cluster.swap("a", 0, "1").swapped);
  cluster.acts.clear();
  REQUIRE(cluster.swap("a", 1, "2").swapped);
  CHECK(std::count(cluster.acts.begin(), cluster.acts.end(), AcceptorAct::kPrepare) == 0);
  // Another process in between takes the promise away; the first notices and prepares.
  auto other = std::make_unique<View>(cluster.view->membership(), cluster.random);
  std::swap(cluster.view, other);
  REQUIRE(cluster.swap("a", 2, "3").swapped);
  std::swap(cluster.view, other);
  CHECK(cluster.swap("a", 2, "4").state.revision == 3);
}

TEST_CASE("a value that one acceptor alone accepted is brought to its end by the next reader") {
  Cluster cluster(3);
  REQUIRE(cluster.swap("a", 0, "1").swapped);
  AcceptorRequest request;
  request.act = AcceptorAct::kAccept;
  request.acceptor = "uuid-host1";
  request.epoch = {1, 1};
  request.key = "a";
  request.ballot = cluster.view->nextBallot();
  request.state = RegisterState{2, {"\"lone\""}, {{7, 7}}};
  REQUIRE(cluster.at("uuid-host1").handle(request, cluster.now()).reply.refusal == Refusal::kNone);
  cluster.down = {"host3"};
  CHECK(cluster.read("a").state.value.text == "\"lone\"");
  cluster.down = {"host1"};
  CHECK(cluster.read("a").state.value.text == "\"lone\"");
}

TEST_CASE("a wish that was granted is known again after others wrote") {
  Cluster cluster(3);
  const UniqueId op{1, 2};
  Operation first({Goal::Kind::kSwap, "a", 0, {"1"}, op}, *cluster.view, {});
  cluster.run(first);
  REQUIRE(cluster.swap("a", 1, "2").swapped);
  Operation again({Goal::Kind::kSwap, "a", 0, {"1"}, op}, *cluster.view, {});
  cluster.run(again);
  CHECK(again.outcome().swapped);
  CHECK(again.outcome().state.revision == 2);
  CHECK_FALSE(cluster.swap("a", 0, "1").swapped);  // somebody else's wish for the same
}

TEST_CASE("age counts from the revision, not from reads, and a quorum must say it") {
  Cluster cluster(3);
  REQUIRE(cluster.swap("a", 0, "1").swapped);
  cluster.clock.advance(Millis(5'000));
  CHECK(cluster.read("a").age == Millis(5'000));
  Operation carry({Goal::Kind::kCarry, "a", 0, {}, {}}, *cluster.view, {});
  cluster.run(carry);
  CHECK(cluster.read("a").age == Millis(5'000));
  REQUIRE(cluster.swap("a", 1, "2").swapped);
  CHECK(cluster.read("a").age == Millis(0));
}

TEST_CASE("another epoch, another acceptor, a stranger's cluster: each refused by name") {
  Cluster cluster(1);
  AcceptorRequest request;
  request.act = AcceptorAct::kPrepare;
  request.key = "a";
  request.ballot = {1, {1, 1}};
  request.acceptor = "someone";
  Acceptor& acceptor = *cluster.acceptors.front();
  CHECK(acceptor.handle(request, cluster.now()).reply.refusal == Refusal::kWrongAcceptor);
  request.acceptor = acceptor.uuid();
  request.epoch = {1, 1};
  CHECK(acceptor.handle(request, cluster.now()).reply.refusal == Refusal::kWrongEpoch);
  REQUIRE(cluster.read("a").kind == Outcome::Kind::kDone);  // installs the membership
  CHECK(acceptor.handle(request, cluster.now()).reply.refusal == Refusal::kNone);
  CHECK(acceptor.handle(request, cluster.now()).reply.refusal == Refusal::kLowerBallot);
  request.epoch = {1, 2};
  CHECK(acceptor.handle(request, cluster.now()).reply.refusal == Refusal::kWrongEpoch);
}

TEST_CASE("keys are listed as the union of a quorum, page by page, tombstones apart") {
  Cluster cluster(3);
  for (int i = 0; i < 4'500; ++i) REQUIRE(cluster.swap(fmt::format("k/{:05}", i), 0, "1").swapped);
  REQUIRE(cluster.swap("k/00007", 1, "null").swapped);
  REQUIRE(cluster.swap("l", 0, "1").swapped);
  cluster.down = {"host2"};
  Listing listing("k/", *cluster.view, {});
  cluster.run(listing);
  CHECK_FALSE(listing.failed());
  CHECK(listing.all().size() == 4'500);
  CHECK(listing.present().size() == 4'499);
}

TEST_CASE("records and snapshots give the acceptor again, the single store's values included") {
  Cluster cluster(1);
  Acceptor& acceptor = *cluster.acceptors.front();
  REQUIRE(cluster.swap("a", 0, "{\"x\":1}").swapped);
  REQUIRE(cluster.swap("b", 0, "1").swapped);
  REQUIRE(cluster.swap("b", 1, "null").swapped);
  std::vector<std::string> lines;
  const auto keep = [&](const AcceptorRecord& record) { lines.push_back(encodeRecord(record)); };
  acceptor.snapshot(keep);
  const std::vector<std::string> before = lines;
  Acceptor copy([] { return std::string("other"); });
  for (const std::string& line : before) copy.replay(decodeRecord(line).value(), cluster.now());
  CHECK(copy.uuid() == acceptor.uuid());
  CHECK(copy.membership() == acceptor.membership());
  lines.clear();
  copy.snapshot(keep);
  CHECK(lines == before);

  const auto old = decodeRecord(R"({"key":"desired/s","revision":7,"value":{"v":1}})").value();
  CHECK(old.state->revision == 7);
  CHECK(isImport(old.accepted));
  CHECK(decodeRecord(encodeRecord(old))->accepted == old.accepted);
  CHECK_FALSE(decodeRecord("[]"));
  CHECK_FALSE(decodeRecord(R"({"kind":"promise","key":"a"})"));
}

TEST_CASE("messages survive the way to text and back") {
  AcceptorRequest request;
  request.act = AcceptorAct::kAccept;
  request.id = 7;
  request.acceptor = "u";
  request.epoch = {2, 5};
  request.key = "k";
  request.ballot = {3, {0xabcdef, 1}};
  request.state = RegisterState{4, {"{\"a\":[1,2]}"}, {{1, 2}, {3, 4}}};
  request.membership = Membership{"c", {2, 5}, {{{"h", "u"}}, true}, MemberSet{}};
  const auto back =
      protocol::decodeFields<AcceptorRequest>(Json::parse(protocol::encodeFields(request))).value();
  CHECK(back.ballot == request.ballot);
  CHECK(back.epoch == request.epoch);
  CHECK(back.state == request.state);
  CHECK(back.membership == request.membership);
  for (const char* wrong : {":", "0:", "x:00", "1:12", "18446744073709551616:"})
    CHECK_FALSE(Ballot::fromText(wrong));
}

// ---- members ---------------------------------------------------------------------------------

TEST_CASE("a registry is born when all hosts answer and hold nothing, and only then") {
  Cluster cluster(3, false);
  cluster.down = {"host2"};
  CHECK(planBirth(cluster.identities(), "c").error().code == Code::kNoQuorum);
  cluster.down.clear();
  cluster.found();
  CHECK(cluster.view->membership().epoch == Epoch{1, 1});
  REQUIRE(cluster.swap("a", 0, "1").swapped);
  CHECK(planBirth(cluster.identities(), "d").error().code == Code::kRefused);
  CHECK(newestMembership(cluster.identities()).value()->cluster == "c");
}

TEST_CASE("two first runs at once yield one registry") {
  Cluster cluster(3, false);
  const Beginning mine = planBirth(cluster.identities(), "mine").value();
  const Beginning other = planBirth(cluster.identities(), "other").value();
  View second(other.council, cluster.random);
  cluster.view = std::make_unique<View>(mine.council, cluster.random);
  Founding first(*cluster.view, mine.first);
  CHECK_FALSE(cluster.runProcedure(first, 2));  // read and swapped, then killed
  cluster.view = std::make_unique<View>(other.council, cluster.random);
  Founding founding(*cluster.view, other.first);
  CHECK(cluster.runProcedure(founding));
  CHECK(founding.next() == Next::kDone);
  CHECK(cluster.view->membership().cluster == "mine");
}

TEST_CASE("the single store's values are carried over to the first quorum") {
  Cluster cluster(3, false);
  Acceptor& old = *cluster.acceptors[1];
  for (int i = 0; i < 5; ++i) {
    const auto line =
        fmt::format(R"({{"key":"desired/s{}","revision":{},"value":{{"v":{}}}}})", i, i + 3, i);
    old.replay(decodeRecord(line).value(), cluster.now());
  }
  old.replay(decodeRecord(R"({"key":"config","revision":4,"value":{"format":1}})").value(),
             cluster.now());
  cluster.found();
  CHECK(cluster.view->membership().epoch == Epoch{1, 2});
  cluster.down = {"host2"};
  CHECK(cluster.read("desired/s4").state.value.text == R"({"v":4})");
  CHECK(cluster.swap("desired/s4", 7, "1").swapped);
}

TEST_CASE("members are changed while old and new decide together; killed anywhere, it is resumed") {
  for (int stop = 0;; ++stop) {
    Cluster cluster(3, false);
    cluster.found();
    for (const char* key : {"a", "b", "c"}) REQUIRE(cluster.swap(key, 0, "1").swapped);
    for (const char* host : {"host4", "host5", "host6"}) cluster.add(host);
    MembershipChange change(*cluster.view, cluster.wanting({"host4", "host5", "host6"}));
    const bool ended = cluster.runProcedure(change, stop);
    CHECK(cluster.swap("b", 1, "2").swapped);
    auto stale = std::make_unique<View>(Membership{"c", {1, 1}, {cluster.members, false}, {}},
                                        cluster.random);
    if (!ended) {
      MembershipChange resumed(*cluster.view);
      CHECK(cluster.runProcedure(resumed));
      CHECK(resumed.next() == Next::kDone);
    }
    const bool begun = cluster.view->membership().epoch == Epoch{1, 3};
    CHECK((begun || stop < 2));
    if (begun) cluster.down = {"host1", "host2", "host3"};
    CHECK(cluster.read("a").state.value.text == "1");
    CHECK(cluster.read("b").state.value.text == "2");
    // Who knows only the members of before learns of those of now, or decides nothing.
    cluster.down.clear();
    std::swap(cluster.view, stale);
    cluster.view = std::make_unique<View>(
        Membership{
            "c", {1, 1}, {{cluster.members.begin(), cluster.members.begin() + 3}, false}, {}},
        cluster.random);
    const Outcome outcome = cluster.swap("b", 2, "3");
    CHECK((outcome.swapped || outcome.kind == Outcome::Kind::kSurelyNot));
    if (ended) break;
  }
}

TEST_CASE("a wiped disk takes no part until it is admitted anew") {
  Cluster cluster(3, false);
  cluster.found();
  REQUIRE(cluster.swap("a", 0, "1").swapped);
  cluster.wipe("host3", "-again");
  cluster.down = {"host2"};
  CHECK(cluster.swap("b", 0, "2").kind == Outcome::Kind::kSurelyNot);
  CHECK(cluster.swap("a", 1, "2").kind == Outcome::Kind::kUnknown);  // it began with its accept
  cluster.down.clear();
  MembershipChange change(*cluster.view, cluster.wanting({"host1", "host2", "host3"}));
  CHECK(cluster.runProcedure(change));
  CHECK(change.next() == Next::kDone);
  cluster.down = {"host2"};
  CHECK(cluster.swap("b", 0, "2").swapped);
  CHECK(cluster.read("a").state.revision == 2);
}

TEST_CASE("over a lost quorum the survivors go on in a new incarnation, and who was away may not") {
  Cluster cluster(3, false);
  cluster.found();
  REQUIRE(cluster.swap("a", 0, "1").swapped);
  CHECK(planRecovery(cluster.identities(), {}).error().code == Code::kRefused);
  cluster.down = {"host1", "host2"};
  cluster.add("host4");
  std::vector<HostIdentity> hosts{cluster.identity("host1"), cluster.identity("host2"),
                                  cluster.identity("host3")};
  const Beginning beginning = planRecovery(hosts, {cluster.identity("host4")}).value();
  cluster.view = std::make_unique<View>(beginning.council, cluster.random);
  cluster.view->forced = true;
  Founding founding(*cluster.view, beginning.first);
  CHECK(cluster.runProcedure(founding));
  REQUIRE_MESSAGE(founding.next() == Next::kDone, founding.error().message);
  CHECK(cluster.view->membership().epoch == Epoch{2, 2});
  CHECK(cluster.read("a").state.value.text == "1");
  REQUIRE(cluster.swap("a", 1, "2").swapped);
  // host1 comes back with what it knew: it is refused until its state is discarded.
  cluster.down = {"host2"};
  CHECK(admissible(cluster.identity("host1"), cluster.view->membership()).error().code ==
        Code::kRefused);
  CHECK(admissible(cluster.identity("host4"), cluster.view->membership()));
  cluster.down = {"host2"};
  MembershipChange change(*cluster.view, cluster.wanting({"host3", "host4", "host1"}));
  CHECK(cluster.runProcedure(change));
  CHECK(change.next() == Next::kDone);  // host3 and host4 are a quorum of three
  cluster.down = {"host2", "host4"};
  CHECK(cluster.read("a").kind == Outcome::Kind::kSurelyNot);
}

TEST_CASE("a member that was replaced while it was away is no survivor") {
  Cluster cluster(3, false);
  cluster.found();
  REQUIRE(cluster.swap("a", 0, "1").swapped);
  cluster.down = {"host1"};
  cluster.add("host4");
  MembershipChange change(*cluster.view, cluster.wanting({"host2", "host3", "host4"}));
  REQUIRE(cluster.runProcedure(change));
  REQUIRE(cluster.swap("a", 1, "2").swapped);
  cluster.down = {"host2", "host3"};  // and host1 is back, with what it knew
  const std::vector<HostIdentity> hosts{cluster.identity("host1"), cluster.identity("host4")};
  const Beginning beginning = planRecovery(hosts, {}).value();
  REQUIRE(beginning.first.now.members.size() == 1);
  CHECK(beginning.first.now.members.front().host == "host4");
  CHECK(beginning.first.old->members == beginning.first.now.members);
}

TEST_CASE("hosts of two registries in one inventory are said") {
  Cluster one(1, false);
  one.found();
  Cluster two(1, false);
  const Beginning beginning = planBirth(two.identities(), "d").value();
  two.view = std::make_unique<View>(beginning.council, two.random);
  Founding founding(*two.view, beginning.first);
  CHECK(two.runProcedure(founding));
  CHECK(newestMembership({one.identity("host1"), two.identity("host1")}).error().code ==
        Code::kCorrupt);
}
