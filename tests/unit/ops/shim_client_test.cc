#include "ops/shim_client.h"

#include <doctest/doctest.h>

#include <thread>

using namespace cctl;
using namespace cctl::ops;
using protocol::Frame;
using protocol::FrameKind;

namespace {

// The other end in memory: what was written is decoded, what it answers is called back at once.
class FakeStream final : public ssh::Stream {
 public:
  using Answer = std::function<void(FakeStream&, const Frame&)>;
  explicit FakeStream(Answer answer) : answer_(std::move(answer)) {}

  Result<void> write(std::string_view bytes, Deadline, const CancelToken*) override {
    for (const Frame& frame : decode(bytes)) answer_(*this, frame);
    return {};
  }
  Result<size_t> read(char*, size_t, Deadline, const CancelToken*) override { return 0; }
  void setOnData(std::function<void(std::string_view)> on_data) override {
    on_data_ = std::move(on_data);
  }
  void setOnClose(std::function<void(const Error&)> on_close) override {
    on_close_ = std::move(on_close);
  }
  void closeWrite() override {}
  void close() override {}

  void say(FrameKind kind, uint32_t id, std::string_view payload) {
    on_data_(protocol::encodeFrame(kind, id, payload));
  }
  void end() { on_close_({Code::kUnreachable, "cable pulled"}); }

 private:
  // As a real stream, it is written to by several threads.
  std::vector<Frame> decode(std::string_view bytes) {
    const std::lock_guard lock(mutex_);
    std::vector<Frame> frames;
    decoder_.feed(bytes);
    while (auto frame = decoder_.next().value()) frames.push_back(std::move(*frame));
    return frames;
  }

  Answer answer_;
  std::mutex mutex_;
  protocol::FrameDecoder decoder_;
  std::function<void(std::string_view)> on_data_;
  std::function<void(const Error&)> on_close_;
};

std::unique_ptr<ShimClient> clientOf(FakeStream::Answer answer) {
  return std::make_unique<ShimClient>(std::make_unique<FakeStream>(std::move(answer)), "host1");
}

Result<protocol::NamesReply> namesOf(ShimClient& client, Deadline deadline = Deadline::never(),
                                     const CancelToken* cancel = nullptr) {
  return client.call<protocol::NamesReply>(protocol::NamesRequest{}, deadline, cancel);
}

std::string numbered(uint32_t id) {
  return fmt::format(R"({{"generation":{},"services":[]}})", id);
}

}  // namespace

TEST_CASE("a reply reaches the request it belongs to, also when replies come in another order") {
  std::vector<uint32_t> waiting;
  std::mutex mutex;
  auto client = clientOf([&](FakeStream& stream, const Frame& frame) {
    const std::lock_guard lock(mutex);
    waiting.push_back(frame.id);
    if (waiting.size() < 2) return;
    for (auto id = waiting.rbegin(); id != waiting.rend(); ++id)
      stream.say(FrameKind::kReply, *id, numbered(*id));
  });
  uint64_t first = 0, second = 0;
  std::thread one([&] { first = namesOf(*client)->generation; });
  std::thread two([&] { second = namesOf(*client)->generation; });
  one.join(), two.join();
  CHECK(first != second);
}

TEST_CASE("the shim's error comes back with its code and the host in front") {
  auto client = clientOf([](FakeStream& stream, const Frame& frame) {
    stream.say(FrameKind::kReply, frame.id, protocol::encodeError({Code::kNoSpace, "disk full"}));
  });
  const auto reply = namesOf(*client);
  CHECK(reply.error().code == Code::kNoSpace);
  CHECK(reply.error().message == "host1: disk full");
}

TEST_CASE("a lost link ends what is under way and refuses what follows") {
  auto client = clientOf([](FakeStream& stream, const Frame&) { stream.end(); });
  CHECK(namesOf(*client).error().code == Code::kUnreachable);
  CHECK(namesOf(*client).error().message.find("cable pulled") != std::string::npos);
}

TEST_CASE("bytes that are no frames end the connection with a clear error") {
  auto client = clientOf([](FakeStream& stream, const Frame& frame) {
    stream.say(static_cast<FrameKind>(99), frame.id, "x");
  });
  CHECK(namesOf(*client).error().message.find("broken stream") != std::string::npos);
}

TEST_CASE("no answer: the deadline and Ctrl-C both end the wait, and the shim is told") {
  bool told = false;
  auto client = clientOf(
      [&](FakeStream&, const Frame& frame) { told = told || frame.kind == FrameKind::kCancel; });
  CHECK(namesOf(*client, Deadline::in(Millis(10))).error().code == Code::kUnreachable);
  CHECK(told);
  CancelToken cancel;
  cancel.cancel();
  CHECK(namesOf(*client, Deadline::never(), &cancel).error().code == Code::kCancelled);
}

TEST_CASE("items come before the reply, and an upload goes between them") {
  std::string received;
  auto client = clientOf([&](FakeStream& stream, const Frame& frame) {
    if (frame.kind == FrameKind::kRequest)
      stream.say(FrameKind::kItem, frame.id, R"({"files":[0]})");
    if (frame.kind == FrameKind::kData) received += frame.payload;
    if (frame.kind == FrameKind::kEnd)
      stream.say(FrameKind::kReply, frame.id, R"({"installed":true,"received":200000})");
  });
  const auto on_item = [](const Frame&, ShimClient::Upload& upload) -> Result<void> {
    CCTL_CHECK(upload.data(std::string(200'000, 'x')));
    return upload.end();
  };
  const auto reply = client->call<protocol::PushReply>(protocol::PushRequest{}, Deadline::never(),
                                                       nullptr, on_item);
  REQUIRE(reply);
  CHECK(reply->installed);
  CHECK(received.size() == 200'000);
}

TEST_CASE("a request that nobody waits for is answered by a call, exactly once whatever happens") {
  int answers = 0, failures = 0;
  const auto count = [&](const Result<protocol::NamesReply>& reply) {
    ++(reply ? answers : failures);
  };
  auto client = clientOf([](FakeStream& stream, const Frame& frame) {
    if (frame.id == 1) stream.say(FrameKind::kReply, frame.id, numbered(frame.id));
    if (frame.id == 3) stream.end();
  });
  client->send<protocol::NamesReply>(protocol::NamesRequest{}, count);
  CHECK(answers == 1);
  client->send<protocol::NamesReply>(protocol::NamesRequest{}, count);
  CHECK(failures == 0);
  client->send<protocol::NamesReply>(protocol::NamesRequest{}, count);
  CHECK(failures == 2);
  client->send<protocol::NamesReply>(protocol::NamesRequest{}, count);
  CHECK(failures == 3);
  auto silent = clientOf([](FakeStream&, const Frame&) {});
  silent->send<protocol::NamesReply>(protocol::NamesRequest{}, count);
  silent.reset();
  CHECK(failures == 4);
}
