#include "ops/shim_client.h"

#include <poll.h>
#include <sys/eventfd.h>

#include <array>
#include <cerrno>
#include <deque>

#include "base/fd.h"

namespace cctl::ops {

using protocol::Frame;
using protocol::FrameKind;

namespace {

// What the transport says names the host, too.
std::string endedText(const std::string& host, std::string_view why) {
  if (why.starts_with(host + ": ")) why.remove_prefix(host.size() + 2);
  return fmt::format("{}: the connection to the shim ended: {}", host, why);
}

}  // namespace

// The frames that have arrived for one request; an eventfd, so that its thread can wait for them
// and for the cancel token in one poll.
struct ShimClient::Waiter {
  Waiter() : event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

  void put(Frame frame) {
    {
      const std::lock_guard lock(mutex);
      frames.push_back(std::move(frame));
    }
    signal();
  }
  void end(const Error& error) {
    {
      const std::lock_guard lock(mutex);
      failure = error;
    }
    signal();
  }
  // Frames first: a reply that came before the link was lost still counts.
  std::optional<Result<Frame>> take() {
    const std::lock_guard lock(mutex);
    if (!frames.empty()) {
      Frame frame = std::move(frames.front());
      frames.pop_front();
      return Result<Frame>(std::move(frame));
    }
    if (failure) return Result<Frame>(fail(*failure));
    eventfd_t drained = 0;
    (void)::eventfd_read(event.get(), &drained);  // nothing to read is fine: the poll will wait
    return std::nullopt;
  }
  void signal() { (void)::eventfd_write(event.get(), 1); }

  Fd event;
  std::mutex mutex;
  std::deque<Frame> frames;
  std::optional<Error> failure;
};

namespace {

Result<void> waitFor(int event, Deadline deadline, const CancelToken* cancel,
                     const std::string& host) {
  if (cancel && cancel->cancelled()) return fail(Code::kCancelled, "{}: interrupted", host);
  if (deadline.passed())
    return fail(Code::kUnreachable, "{}: no answer from the shim in time", host);
  std::array<pollfd, 2> fds = {pollfd{event, POLLIN, 0},
                               pollfd{cancel ? cancel->fd() : -1, POLLIN, 0}};
  if (::poll(fds.data(), fds.size(), deadline.pollTimeout()) < 0 && errno != EINTR)
    return failErrno(errno, "poll");
  return {};
}

}  // namespace

ShimClient::ShimClient(std::unique_ptr<ssh::Stream> stream, std::string host)
    : stream_(std::move(stream)), host_(std::move(host)) {
  stream_->setOnData([this](std::string_view bytes) { onData(bytes); });
  stream_->setOnClose([this](const Error& error) { onClose(error); });
}

// close() returns only when no callback runs any more, so members may go afterwards.
ShimClient::~ShimClient() {
  stream_->close();
  onClose({Code::kUnreachable, "it was closed"});
}

std::optional<Error> ShimClient::failure() const {
  const std::lock_guard lock(mutex_);
  return broken_;
}

void ShimClient::begin(const std::string& payload, const OnPayload& on_payload) {
  uint32_t id = 0;
  std::optional<Error> broken;
  {
    const std::lock_guard lock(mutex_);
    broken = broken_;
    if (!broken) sent_.emplace(id = next_id_++, on_payload);
  }
  if (broken) return on_payload(fail(*broken));
  // Never waits: a queue that is full is that of a host which takes nothing.
  const auto written = stream_->write(protocol::encodeFrame(FrameKind::kRequest, id, payload),
                                      Deadline::in(Millis(0)));
  if (!written) tell(id, fail(Code::kUnreachable, "{}: {}", host_, written.error().message));
}

// Once: whoever takes it out of the map tells.
void ShimClient::tell(uint32_t id, const Result<std::string>& payload) {
  OnPayload on_payload;
  {
    const std::lock_guard lock(mutex_);
    auto node = sent_.extract(id);
    if (!node) return;
    on_payload = std::move(node.mapped());
  }
  on_payload(payload);
}

void ShimClient::onData(std::string_view bytes) {
  decoder_.feed(bytes);
  for (;;) {
    auto next = decoder_.next();
    if (!next) return onClose(next.error());
    if (!*next) return;
    std::shared_ptr<Waiter> waiter;
    {
      const std::lock_guard lock(mutex_);
      const auto found = waiters_.find((*next)->id);
      if (found != waiters_.end()) waiter = found->second;
    }
    if (waiter)
      waiter->put(std::move(**next));
    else if ((*next)->kind == FrameKind::kReply)  // or of a request that was given up
      tell((*next)->id, (*next)->payload);
  }
}

void ShimClient::onClose(const Error& error) {
  std::map<uint32_t, OnPayload> sent;
  {
    const std::lock_guard lock(mutex_);
    if (broken_) return;
    broken_ = Error{Code::kUnreachable, endedText(host_, error.message)};
    for (const auto& [id, waiter] : waiters_) waiter->end(*broken_);
    sent.swap(sent_);
  }
  for (const auto& [id, on_payload] : sent) on_payload(fail(*failure()));
}

std::shared_ptr<ShimClient::Waiter> ShimClient::add(uint32_t& id) {
  auto waiter = std::make_shared<Waiter>();
  const std::lock_guard lock(mutex_);
  id = next_id_++;
  if (broken_) waiter->end(*broken_);
  waiters_[id] = waiter;
  return waiter;
}

void ShimClient::remove(uint32_t id) {
  const std::lock_guard lock(mutex_);
  waiters_.erase(id);
}

Result<std::string> ShimClient::exchange(const std::string& payload, Deadline deadline,
                                         const CancelToken* cancel, const OnItem& on_item) {
  uint32_t id = 0;
  const std::shared_ptr<Waiter> waiter = add(id);
  const auto run = [&]() -> Result<std::string> {
    CCTL_CHECK(send(protocol::encodeFrame(FrameKind::kRequest, id, payload), deadline, cancel));
    Upload upload(*this, id, deadline, cancel);
    for (;;) {
      auto frame = waiter->take();
      if (!frame) {
        CCTL_CHECK(waitFor(waiter->event.get(), deadline, cancel, host_));
        continue;
      }
      if (!*frame) return fail(frame->error());
      if ((*frame)->kind == FrameKind::kReply) return std::move((*frame)->payload);
      if (on_item) CCTL_CHECK(on_item(**frame, upload));
    }
  };
  auto outcome = run();
  remove(id);
  // The shim may still be at work on it; an error to say so changes nothing any more.
  if (!outcome)
    (void)stream_->write(protocol::encodeFrame(FrameKind::kCancel, id, ""),
                         Deadline::in(Millis(100)));
  return outcome;
}

// A stream that has ended says how its far end did, e.g. by the exit status of the relay: to us
// that is a lost connection.
Result<void> ShimClient::send(const std::string& frame, Deadline deadline,
                              const CancelToken* cancel) {
  auto written = stream_->write(frame, deadline, cancel);
  if (written || written.error().code != Code::kFailed) return written;
  return fail(Code::kUnreachable, "{}", endedText(host_, written.error().message));
}

Result<void> ShimClient::Upload::data(std::string_view bytes) {
  while (!bytes.empty()) {
    const std::string_view part = bytes.substr(0, 64 * 1024);
    CCTL_CHECK(
        client_.send(protocol::encodeFrame(FrameKind::kData, id_, part), deadline_, cancel_));
    bytes.remove_prefix(part.size());
  }
  return {};
}

Result<void> ShimClient::Upload::end() {
  return client_.send(protocol::encodeFrame(FrameKind::kEnd, id_, ""), deadline_, cancel_);
}

}  // namespace cctl::ops
