#include "ops/registry_care.h"

#include <doctest/doctest.h>

#include "ops/sync.h"

using namespace cctl;
using namespace cctl::ops;
using registry::Member;
using registry::Membership;

namespace {

const std::vector<Member> kThree = {{"h1", "a1"}, {"h2", "a2"}, {"h3", "a3"}};
const Membership kStable{"c", {1, 2}, {kThree, false}, std::nullopt};

Result<std::vector<Member>> after(MembersWish wish, const std::vector<Member>& added) {
  return membersAfter(kThree, wish, added);
}

protocol::InstanceStatus statusOf(protocol::InstanceState state, int port) {
  protocol::InstanceStatus status;
  status.service = "web";
  status.index = 1;
  status.state = state;
  status.ports = {{"main", port}};
  return status;
}

}  // namespace

TEST_CASE("the registry keeps an odd number of members, and a change may be asked for again") {
  CHECK(after({{"h4", "h5"}, {}, false}, {{"h4", "a4"}, {"h5", "a5"}})->size() == 5);
  CHECK(after({{"h4"}, {}, false}, {{"h4", "a4"}}).error().code == Code::kBadInput);
  CHECK(after({{}, {"h2", "h3"}, false}, {})->size() == 1);
  CHECK(after({{}, {"h1", "h2", "h3"}, false}, {}).error().code == Code::kBadInput);
  const MembersWish replace{{"h4"}, {"h3"}, false};
  const std::vector<Member> once = after(replace, {{"h4", "a4"}}).value();
  CHECK(once == std::vector<Member>{{"h1", "a1"}, {"h2", "a2"}, {"h4", "a4"}});
  CHECK(membersAfter(once, replace, {{"h4", "a4"}}).value() == once);
}

TEST_CASE("a wiped member is admitted anew only as a replacement of itself") {
  CHECK(after({{"h3"}, {}, false}, {{"h3", "b3"}}).error().message.find("replace") !=
        std::string::npos);
  const std::vector<Member> anew = after({{"h3"}, {"h3"}, false}, {{"h3", "b3"}}).value();
  CHECK(anew.back() == Member{"h3", "b3"});
  CHECK(membersAfter(anew, {{"h3"}, {"h3"}, false}, {{"h3", "b3"}}).value() == anew);
}

TEST_CASE("a member is judged by what it says of itself") {
  registry::AcceptorReply reply;
  reply.acceptor = "a1";
  reply.epoch = {1, 2};
  const auto state = [&] { return judgeMember(kStable, kThree[0], reply).state; };
  CHECK(state() == MemberState::kOk);
  reply.epoch = {1, 1};
  CHECK(state() == MemberState::kBehind);
  reply.why = "/srv/1.log: No space left on device";
  CHECK(state() == MemberState::kCannotWrite);
  CHECK(judgeMember(kStable, kThree[0], reply).why.find("No space left") != std::string::npos);
  reply.acceptor = "b1";
  CHECK(state() == MemberState::kOtherDisk);
  reply.refusal = registry::Refusal::kNotServing;
  CHECK(state() == MemberState::kNotServing);
  const Result<registry::AcceptorReply> silent = fail(Code::kUnreachable, "h1: no route");
  CHECK(judgeMember(kStable, kThree[0], silent).why == "h1: no route");
}

TEST_CASE("members that do not serve are found in what their shims said at the greeting") {
  const auto found = [](const Greetings& hosts) {
    std::vector<std::string> names;
    for (const MemberReport& one : membersNotServing(hosts)) names.push_back(one.member.host);
    return names;
  };
  Greetings hosts;
  for (const Member& member : kThree) {
    protocol::HelloReply hello;
    hello.acceptor = member.acceptor;
    hello.membership = kStable;
    hosts[member.host] = hello;
  }
  CHECK(found(hosts).empty());
  hosts["h2"].registry_problem = "its log is damaged";
  hosts["h3"] = {};  // wiped
  hosts["h3"].acceptor = "b3";
  CHECK(found(hosts) == std::vector<std::string>{"h2", "h3"});
  hosts.erase("h2");  // not reached
  CHECK(found(hosts) == std::vector<std::string>{"h3"});
  hosts.erase("h1");
  CHECK(found(hosts).empty());  // nobody knows of a registry
  // Admitted anew, or on its way out.
  hosts["h1"].acceptor = "a1";
  hosts["h1"].membership =
      registry::beginChange(kStable, {{"h1", "a1"}, {"h2", "a2"}, {"h3", "b3"}});
  CHECK(found(hosts).empty());
}

TEST_CASE("members that join and leave are told apart while they change") {
  Membership joint = registry::beginChange(kStable, {{"h1", "a1"}, {"h2", "a2"}, {"h4", "a4"}});
  const Result<registry::AcceptorReply> silent = fail(Code::kUnreachable, "?");
  CHECK(judgeMember(joint, {"h1", "a1"}, silent).role == "member");
  CHECK(judgeMember(joint, {"h3", "a3"}, silent).role == "leaving");
  CHECK(judgeMember(joint, {"h4", "a4"}, silent).role == "joining");
}

TEST_CASE("what its host says of an instance decides the state of its endpoint") {
  using S = protocol::InstanceState;
  Endpoint endpoint{{ServiceName("web"), 1}, HostName("h1"), "10.0.0.1",
                    {{"main", 21000}},       Version("1"),   EndpointState::kReady};
  CHECK_FALSE(healthOf(endpoint, {statusOf(S::kReady, 21000)}));
  CHECK(healthOf(endpoint, {statusOf(S::kUnhealthy, 21000)}) == EndpointState::kUnhealthy);
  CHECK(healthOf(endpoint, {statusOf(S::kFailed, 21000)}) == EndpointState::kUnhealthy);
  CHECK(healthOf(endpoint, {}) == EndpointState::kUnhealthy);
  // Another generation of it, on another port, says nothing of this one.
  CHECK(healthOf(endpoint, {statusOf(S::kReady, 21001)}) == EndpointState::kUnhealthy);
  endpoint.state = EndpointState::kUnhealthy;
  CHECK(healthOf(endpoint, {statusOf(S::kReady, 21000)}) == EndpointState::kReady);
  endpoint.state = EndpointState::kDraining;
  CHECK_FALSE(healthOf(endpoint, {}));
}

TEST_CASE("who holds an instance down is known by what its host says") {
  protocol::InstanceStatus status = statusOf(protocol::InstanceState::kStopped, 21000);
  status.current = true;
  status.note = "stopped by alice@ws1";
  CHECK(heldBy(status)->by == "alice@ws1");
  CHECK_FALSE(isStartedByHand(status));
  status.note = "backoff 3.2 s";
  CHECK_FALSE(heldBy(status));
  status.state = protocol::InstanceState::kReady;
  status.wanted = true;
  CHECK_FALSE(heldBy(status));
  CHECK(isStartedByHand(status));
}
