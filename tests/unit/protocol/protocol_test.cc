#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "protocol/frame.h"
#include "protocol/messages.h"

using namespace cctl;
using namespace cctl::protocol;

TEST_CASE("frames survive any cutting of the stream") {
  const std::string stream = encodeFrame(FrameKind::kRequest, 7, "{}") +
                             encodeFrame(FrameKind::kData, 8, std::string(3000, 'x')) +
                             encodeFrame(FrameKind::kEnd, 8, "");
  for (const size_t step : {size_t{1}, size_t{2}, size_t{9}, size_t{1000}, stream.size()}) {
    FrameDecoder decoder;
    std::vector<Frame> frames;
    for (size_t at = 0; at < stream.size(); at += step) {
      decoder.feed(std::string_view(stream).substr(at, step));
      while (true) {
        auto frame = decoder.next();
        REQUIRE(frame);
        if (!*frame) break;
        frames.push_back(**frame);
      }
    }
    REQUIRE(frames.size() == 3);
    CHECK(frames[0].id == 7);
    CHECK(frames[1].payload.size() == 3000);
    CHECK(frames[2].kind == FrameKind::kEnd);
  }
}

TEST_CASE("frames that break the rules are refused before any of their payload is awaited") {
  const auto refusal = [](std::string bytes) {
    FrameDecoder decoder;
    decoder.feed(bytes);
    return decoder.next().has_value() ? std::string() : decoder.next().error().message;
  };
  CHECK(refusal(std::string("\xff\xff\xff\xff\x01\0\0\0\1", 9)).find("4294967295") !=
        std::string::npos);
  CHECK(refusal(std::string("\0\0\0\0\x09\0\0\0\1", 9)).find("unknown kind") != std::string::npos);
  CHECK(refusal(std::string("\0\0\0\1\x05\0\0\0\1", 9)) != "");
  CHECK(refusal("GET / HTTP/1.1\r\n") != "");
}

TEST_CASE("a generation survives a round trip through JSON") {
  GenerationSpec spec;
  spec.service = "sudoku-solver";
  spec.generation = 4;
  spec.argv = {"bin/x", "--port", "21000"};
  spec.env = {{"A", "b"}};
  spec.ports = {{"main", 21000}};
  spec.config = {{"x.conf", "0640", "line\n"}};
  spec.ready = {ProbeKind::kHttp, "main", "/healthz", {}};
  spec.restart.when = RestartWhen::kOnFailure;
  spec.limit_core = UINT64_MAX;
  CHECK(decode<GenerationSpec>(encode(spec)).value() == spec);
}

TEST_CASE("what does not fit is said by field") {
  const auto problem = [](const char* text) {
    const auto decoded = decode<StopRequest>(parseJson(text).value());
    return decoded ? std::string() : decoded.error().message;
  };
  CHECK(
      problem(
          R"({"instance":{"service":"a","index":0},"hold":true,"caller":{"by":"x","reason":"y"}})") ==
      "");
  CHECK(problem("[]") == "not an object");
  CHECK(problem("{}") == "field \"instance\" is missing");
  CHECK(problem(R"({"instance":{"service":1,"index":0}})") ==
        "field \"instance\": field \"service\": not a string");
  CHECK(problem(R"({"instance":{"service":"a","index":99999999999}})").find("too large") !=
        std::string::npos);
  CHECK(problem(R"({"instance":{"service":"a","index":0.5}})").find("whole") != std::string::npos);
}

TEST_CASE("errors cross the wire with their code") {
  const auto reply = decodeReply<Empty>(encodeError({Code::kRefused, "no"}));
  REQUIRE_FALSE(reply);
  CHECK(reply.error().code == Code::kRefused);
  CHECK(reply.error().message == "no");
  CHECK(decodeReply<Empty>("{}"));
  CHECK(decodeReply<HelloReply>("garbage").error().code == Code::kCorrupt);
}

TEST_CASE("exit reports keep what is not known apart from zero") {
  ExitReport report;
  report.signal = 9;
  const auto back = decode<ExitReport>(encode(report)).value();
  CHECK_FALSE(back.exit_status);
  CHECK(back.signal == 9);
}

TEST_CASE("the acceptor's messages survive a round trip through JSON") {
  AcceptorRequest request;
  request.act = AcceptorAct::kAccept;
  request.id = 7;
  request.acceptor = "0123abcd";
  request.epoch = {2, 3};
  request.key = "endpoints/web";
  request.ballot = {5, {UINT64_MAX, 6}};
  request.next = {6, {7, 8}};
  request.state = RegisterState{4, {R"({"a":[1,2.5,null]})"}, {{9, 10}, {11, 12}}};
  request.membership =
      Membership{"c", {2, 3}, {{{"host1", "0123abcd"}}, false}, MemberSet{{{"host2", "45"}}, true}};
  const std::string sent = encodeRequest(request);
  const auto read = decode<AcceptorRequest>(parseJson(sent).value()).value();
  CHECK(encodeRequest(read) == sent);
  CHECK(read.state == request.state);
  CHECK(read.ballot == request.ballot);
  CHECK(read.membership == request.membership);

  AcceptorReply reply;
  reply.id = 7;
  reply.refusal = Refusal::kWrongEpoch;
  reply.why = "moved on";
  reply.acceptor = "0123abcd";
  reply.promised = {9, {1, 2}};
  reply.age = Millis(15'001);
  reply.keys = {{"lock/web", {3, {4, 5}}, true}, {"lock/x", {}, false}};
  reply.more = true;
  reply.uncommitted = {"lock/web"};
  const std::string answered = encodeReply(reply);
  CHECK(encodeReply(decodeReply<AcceptorReply>(answered).value()) == answered);
  CHECK_FALSE(decodeReply<AcceptorReply>(R"({"id":1,"acceptor":"x","refusal":"never"})"));
}

TEST_CASE("a shim's hello tells what its acceptor takes part in") {
  HelloReply hello;
  hello.acceptor = "0123abcd";
  hello.membership = Membership{"c", {1, 1}, {{{"host1", "0123abcd"}}, false}, std::nullopt};
  hello.registry_problem = "its disk fails";
  const auto back = decodeReply<HelloReply>(encodeReply(hello)).value();
  CHECK(back.membership == hello.membership);
  CHECK(back.registry_problem == hello.registry_problem);
  CHECK_FALSE(decodeReply<HelloReply>(encodeReply(HelloReply{})).value().membership);
}
