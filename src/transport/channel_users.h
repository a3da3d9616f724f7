// What channels are used for: a command run to its end, a stream, a bridge to a descriptor.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "base/fd.h"
#include "transport/host_link.h"
#include "transport/link_loop.h"
#include "transport/wait.h"

namespace cctl::ssh {

// A command run to its end. Everything but wait() happens on the loop's thread.
class ExecUser final : public ChannelUser {
 public:
  // `request` must outlive this channel's use, that is, until wait() has returned.
  explicit ExecUser(const ExecRequest& request) : request_(request), rest_(request.input) {}

  size_t room() override { return kUnlimited; }
  size_t onData(std::string_view bytes, bool is_stderr) override;
  std::string_view output() override;
  void sent(size_t bytes) override { rest_.remove_prefix(bytes); }
  bool outputEnded() override { return input_ended_; }
  void onEnd(const ChannelEnd& end) override;

  [[nodiscard]] Result<void> wait(Deadline deadline, const CancelToken* cancel) {
    return done_.wait(deadline, cancel);
  }
  // After wait(); nullopt when it was aborted.
  [[nodiscard]] Result<std::optional<ExecResult>> result();

 private:
  static constexpr size_t kUnlimited = 1u << 30;
  void keep(std::string& all, std::string_view bytes);

  const ExecRequest& request_;
  std::string_view rest_;  // input read and not yet sent
  bool input_ended_ = false;
  std::optional<Error> input_error_;
  ExecResult result_;
  ChannelEnd end_;
  Signal done_;
};

// One channel as a Stream.
class StreamUser final : public ChannelUser {
 public:
  StreamUser(std::shared_ptr<LinkLoop> loop, std::string name)
      : loop_(std::move(loop)), name_(std::move(name)) {}

  void onOpen() override;
  size_t room() override;
  size_t onData(std::string_view bytes, bool is_stderr) override;
  std::string_view output() override;
  void sent(size_t bytes) override;
  bool outputEnded() override;
  void onWake() override { deliver(); }
  void onEnd(const ChannelEnd& end) override;

  // Blocks until the channel is open, or says why it is not.
  Result<void> waitOpen(Deadline deadline, const CancelToken* cancel);

  Result<void> write(std::string_view bytes, Deadline deadline, const CancelToken* cancel);
  Result<size_t> read(char* buffer, size_t size, Deadline deadline, const CancelToken* cancel);
  void setOnData(std::function<void(std::string_view)> on_data);
  void setOnClose(std::function<void(const Error&)> on_close);
  void closeWrite();
  void close();

 private:
  using DataCallback = std::shared_ptr<const std::function<void(std::string_view)>>;
  static constexpr size_t kQueueLimit = 4u << 20;

  void deliver();
  DataCallback dataCallback();
  std::string takeInbox();
  size_t takeFromInbox(char* buffer, size_t size);
  void tellClosed();
  Error closeError(const ChannelEnd& end) const;

  const std::shared_ptr<LinkLoop> loop_;
  const std::string name_;

  // Held while a callback runs, so that none runs once it was taken away; a callback may itself
  // change them. Taken before mutex_.
  std::recursive_mutex delivery_;
  std::mutex mutex_;
  DataCallback on_data_;
  std::function<void(const Error&)> on_close_;
  std::string inbox_;  // arrived; of it, `inbox_taken_` bytes were read
  size_t inbox_taken_ = 0;
  std::string outbox_;  // written, not yet seen by the loop
  std::string stderr_tail_;
  bool open_ = false, write_ended_ = false, closed_ = false, clean_end_ = false;
  std::optional<Error> ended_;
  Signal opened_, readable_, writable_;

  std::string sending_;  // of the loop's thread: being sent
  size_t sent_ = 0;
};

// Moves bytes between a channel and one end of a socket pair, the other end of which another
// session uses as its connection.
class BridgeUser final : public ChannelUser {
 public:
  explicit BridgeUser(Fd fd) : fd_(std::move(fd)) {}

  void onOpen() override { opened_.set(); }
  size_t room() override;
  size_t onData(std::string_view bytes, bool is_stderr) override;
  std::string_view output() override;
  void sent(size_t bytes) override { sent_ += bytes; }
  bool outputEnded() override { return ended_; }
  void onEnd(const ChannelEnd& end) override;
  int pollFd() const override { return ended_ && pending_.empty() ? -1 : fd_.get(); }
  short pollEvents() const override;

  Result<void> waitOpen(Deadline deadline, const CancelToken* cancel);

 private:
  static constexpr size_t kBuffer = 64u << 10;
  void flushPending();

  Fd fd_;
  std::string pending_;  // from the channel, to the descriptor
  std::string buffer_;   // the other way
  size_t sent_ = 0;
  bool ended_ = false;
  Signal opened_;
  std::mutex mutex_;
  std::optional<Error> refused_;
};

}  // namespace cctl::ssh
