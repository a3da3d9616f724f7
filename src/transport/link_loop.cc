#include "transport/link_loop.h"

#include <libssh/callbacks.h>
#include <libssh/server.h>

#include <algorithm>
#include <array>

#include "transport/tcp_connect.h"

namespace cctl::ssh {
namespace {

constexpr size_t kChunk = 64u << 10;
constexpr Millis kRetry{20};  // of a session that sshd had no room for
constexpr Millis kJustEnded{2000};
constexpr int kChunksPerTurn = 8;  // then other channels and the network have their turn

}  // namespace

// A state machine over libssh's non-blocking calls.
class LinkLoop::Channel {
 public:
  Channel(ChannelSpec spec, std::shared_ptr<ChannelUser> user)
      : spec_(std::move(spec)), user_(std::move(user)) {}

  // Does what can be done now; false when the channel is finished and can be deleted.
  bool progress(LinkLoop& loop) {
    if (woken_) {
      woken_ = false;
      user_->onWake();
    }
    // Told at once; the channel is then brought to its end without the user.
    if (user_->aborted()) end({});
    if (state_ == State::kWaiting && !begin(loop)) return !ended_;
    if (state_ == State::kOpening) stepOpening(loop);
    if (state_ == State::kRequesting) stepRequesting(loop);
    if (state_ == State::kOpen) stepOpen(loop);
    if (state_ == State::kClosing) return stepClosing(loop);
    return true;
  }

  void end(const ChannelEnd& end) {
    if (ended_) return;
    ended_ = true;
    user_->onEnd(end);
  }

  // Gives the handle back; the session may be dead.
  void release() {
    if (handle_ == nullptr) return;
    ssh_remove_channel_callbacks(handle_, &callbacks_);
    ssh_channel_free(handle_);
    handle_ = nullptr;
  }

  bool needsTurn() const {
    return busy_ || woken_ || state_ == State::kOpening || state_ == State::kRequesting ||
           state_ == State::kClosing || state_ == State::kWaiting;
  }
  void wake() { woken_ = true; }
  void touch() { busy_ = true; }
  const ChannelUser* user() const { return user_.get(); }
  bool isOpen() const { return state_ == State::kOpen; }

 private:
  enum class State { kWaiting, kOpening, kRequesting, kOpen, kClosing };

  bool isSession() const { return spec_.kind == ChannelSpec::Kind::kExec; }

  bool begin(LinkLoop& loop) {
    if (ended_) return false;
    if (isSession() && !mayBegin(loop)) return false;
    handle_ = ssh_channel_new(loop.session_.get());
    if (handle_ == nullptr) {
      end({Error{Code::kError, "out of memory"}, {}, {}});
      return false;
    }
    if (isSession()) ++loop.sessions_;
    setCallbacks();
    state_ = State::kOpening;
    return true;
  }

  void setCallbacks() {
    ssh_callbacks_init(&callbacks_);
    callbacks_.userdata = this;
    callbacks_.channel_data_function = [](ssh_session, ssh_channel, void* data, uint32_t size,
                                          int is_stderr, void* self) {
      return static_cast<Channel*>(self)->onData(static_cast<const char*>(data), size, is_stderr);
    };
    callbacks_.channel_eof_function = [](ssh_session, ssh_channel, void* self) {
      static_cast<Channel*>(self)->eof_ = static_cast<Channel*>(self)->busy_ = true;
    };
    callbacks_.channel_close_function = [](ssh_session, ssh_channel, void* self) {
      static_cast<Channel*>(self)->closed_ = static_cast<Channel*>(self)->busy_ = true;
    };
    callbacks_.channel_exit_status_function = [](ssh_session, ssh_channel, int status, void* self) {
      static_cast<Channel*>(self)->result_.exit_status = status;
    };
    callbacks_.channel_exit_signal_function = [](ssh_session, ssh_channel, const char* signal, int,
                                                 const char*, const char*, void* self) {
      static_cast<Channel*>(self)->result_.signal = signal == nullptr ? "" : signal;
    };
    ssh_set_channel_callbacks(handle_, &callbacks_);
  }

  int onData(const char* data, size_t size, int is_stderr) {
    if (ended_) return static_cast<int>(size);
    const size_t take = std::min(size, user_->room());
    const size_t taken = take == 0 ? 0 : user_->onData({data, take}, is_stderr != 0);
    if (taken < size) left_ = unread_ = busy_ = true;
    return static_cast<int>(taken);
  }

  int callOpen() {
    switch (spec_.kind) {
      case ChannelSpec::Kind::kExec:
        return ssh_channel_open_session(handle_);
      case ChannelSpec::Kind::kUnix:
        return ssh_channel_open_forward_unix(handle_, spec_.what.c_str(), "localhost", 0);
      case ChannelSpec::Kind::kTcp:
        return ssh_channel_open_forward(handle_, spec_.what.c_str(), spec_.port, "127.0.0.1", 0);
    }
    return SSH_ERROR;
  }

  void stepOpening(LinkLoop& loop) {
    const int rc = callOpen();
    if (rc == SSH_AGAIN) return;
    if (rc == SSH_OK) {
      opened_ = true;
      state_ = State::kRequesting;
      if (!isSession()) accepted();
      return;
    }
    const bool shared = loop.sessions_ > 1 || loop.sessionJustEnded();
    if (isSession() && shared && !loop.lost()) return waitForSession(loop);
    refuse(loop);
  }

  // sshd allows only so many sessions on one connection (MaxSessions): wait for one of ours, or,
  // when one has just ended, for sshd to count it so.
  void waitForSession(LinkLoop& loop) {
    release();
    --loop.sessions_;
    loop.session_limit_ = std::max<size_t>(loop.sessions_, 1);
    not_before_ = std::chrono::steady_clock::now() + kRetry;
    loop.retry_ = true;
    state_ = State::kWaiting;
  }

  bool mayBegin(LinkLoop& loop) const {
    if (loop.sessions_ >= loop.session_limit_) return false;
    if (std::chrono::steady_clock::now() >= not_before_) return true;
    loop.retry_ = true;
    return false;
  }

  void stepRequesting(LinkLoop& loop) {
    const int rc = ssh_channel_request_exec(handle_, spec_.what.c_str());
    if (rc == SSH_AGAIN) return;
    if (rc != SSH_OK) return refuse(loop);
    accepted();
  }

  void accepted() {
    state_ = State::kOpen;
    busy_ = true;
    if (!ended_) user_->onOpen();
  }

  void refuse(LinkLoop& loop) {
    if (loop.lost()) return;  // the loop ends every channel with the reason
    state_ = State::kClosing;
    end({Error{Code::kFailed, ssh_get_error(loop.session_.get())}, {}, {}});
  }

  void stepOpen(LinkLoop& loop) {
    busy_ = false;
    if (ended_) return drop();
    if (unread_) readRest();
    if (!closed_) writeOutput(loop);
    // A socket's stream is over with its data; a command's with its exit status.
    const bool over = closed_ || (eof_ && !isSession());
    if (over && !unread_) {
      state_ = State::kClosing;
      end(result_);
    }
  }

  // sshd takes no other hint that a command is not wanted any more.
  void drop() {
    if (isSession() && !closed_) ssh_channel_request_send_signal(handle_, "TERM");
    state_ = State::kClosing;
  }

  // What onData left in libssh's buffers. New data comes after it, in order.
  void readRest() {
    do {
      left_ = false;
      for (const int is_stderr : {0, 1}) readBuffered(is_stderr);
      // Reading takes packets in, and onData may have left something of those.
    } while (left_ && user_->room() > 0);
    unread_ = left_ || user_->room() == 0;
  }

  void readBuffered(int is_stderr) {
    std::array<char, 32u << 10> buffer;
    while (const size_t room = std::min(user_->room(), buffer.size())) {
      const int got = ssh_channel_read_nonblocking(handle_, buffer.data(),
                                                   static_cast<uint32_t>(room), is_stderr);
      if (got <= 0) return;
      user_->onData({buffer.data(), static_cast<size_t>(got)}, is_stderr != 0);
    }
  }

  void writeOutput(LinkLoop& loop) {
    for (int chunk = 0; chunk < kChunksPerTurn; ++chunk) {
      const auto bytes = user_->output();
      if (user_->aborted()) break;
      if (bytes.empty()) return writeEnd();
      busy_ = true;
      // libssh queues without limit what the socket does not take.
      if (ssh_blocking_flush(loop.session_.get(), 0) != SSH_OK) return;
      const size_t window = ssh_channel_window_size(handle_);
      if (window == 0) return;
      const auto size = static_cast<uint32_t>(std::min({bytes.size(), window, kChunk}));
      const int sent = ssh_channel_write(handle_, bytes.data(), size);
      if (sent <= 0) return;
      user_->sent(static_cast<size_t>(sent));
    }
    loop.again_ = busy_ = true;
  }

  void writeEnd() {
    if (eof_sent_ || !user_->outputEnded()) return;
    eof_sent_ = true;
    ssh_channel_send_eof(handle_);
  }

  bool stepClosing(LinkLoop& loop) {
    // libssh gives up between EOF and CLOSE when the socket is full; without the CLOSE sshd would
    // keep its side, which counts towards MaxSessions, for ever.
    if (opened_ && !loop.lost() && ssh_channel_close(handle_) == SSH_AGAIN) return true;
    release();
    if (isSession()) {
      --loop.sessions_;
      loop.session_ended_ = std::chrono::steady_clock::now();
      loop.again_ = true;  // one that waits for a session may begin
    }
    return false;
  }

  const ChannelSpec spec_;
  const std::shared_ptr<ChannelUser> user_;
  ssh_channel handle_ = nullptr;
  ssh_channel_callbacks_struct callbacks_{};
  State state_ = State::kWaiting;
  ChannelEnd result_;
  SteadyTime not_before_{};
  bool busy_ = true;  // to be looked at in the next turn
  bool woken_ = false;
  bool unread_ = false;  // libssh holds data that the user had no room for
  bool left_ = false;    // the same, noted by onData
  bool opened_ = false;  // the server knows of it
  bool eof_ = false, closed_ = false, eof_sent_ = false, ended_ = false;
};

LinkLoop::LinkLoop(Session session, LoopOptions options)
    : session_(std::move(session)), options_(std::move(options)), event_(ssh_event_new()) {
  ssh_set_counters(session_.get(), &socket_counter_, &packet_counter_);
  ssh_event_add_session(event_, session_.get());
}

LinkLoop::~LinkLoop() {
  ssh_event_remove_session(event_, session_.get());
  ssh_event_free(event_);
}

void LinkLoop::start() {
  last_heard_ = std::chrono::steady_clock::now();
  thread_ = std::thread([this] { run(); });
}

void LinkLoop::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  signal_.set();
  if (thread_.joinable()) thread_.join();
}

void LinkLoop::open(ChannelSpec spec, std::shared_ptr<ChannelUser> user) {
  std::optional<Error> failure;
  {
    const std::lock_guard lock(mutex_);
    failure = failure_;
    if (!failure) new_channels_.push_back(std::make_unique<Channel>(std::move(spec), user));
  }
  if (failure) {
    user->onEnd({failure, {}, {}});
  } else {
    signal_.set();
  }
}

void LinkLoop::wake(const ChannelUser* user) {
  bool first = false;
  {
    const std::lock_guard lock(mutex_);
    first = woken_.empty();
    woken_.push_back(user);
  }
  if (first) signal_.set();
}

std::optional<Error> LinkLoop::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

void LinkLoop::run() {
  thread_id_.store(std::this_thread::get_id());
  while (takeOrders() && !lost()) {
    turn();
    if (lost()) break;
    waitForEvents();
    keepAlive();
  }
  shutDown();
}

bool LinkLoop::takeOrders() {
  std::vector<const ChannelUser*> woken;
  const std::lock_guard lock(mutex_);
  for (auto& channel : new_channels_) channels_.push_back(std::move(channel));
  new_channels_.clear();
  woken.swap(woken_);
  if (!woken.empty()) {
    std::sort(woken.begin(), woken.end());
    for (const auto& channel : channels_) {
      if (std::binary_search(woken.begin(), woken.end(), channel->user())) channel->wake();
    }
  }
  return !stopping_;
}

void LinkLoop::turn() {
  again_ = retry_ = false;
  packets_seen_ = packet_counter_.in_packets;
  for (auto it = channels_.begin(); it != channels_.end() && !lost();) {
    const bool keep = !(*it)->needsTurn() || (*it)->progress(*this);
    it = keep ? std::next(it) : channels_.erase(it);
  }
}

void LinkLoop::waitForEvents() {
  const bool unsent = ssh_blocking_flush(session_.get(), 0) == SSH_AGAIN;
  fds_.clear();
  fds_.push_back({session_.fd(), static_cast<short>(POLLIN | (unsent ? POLLOUT : 0)), 0});
  fds_.push_back({signal_.fd(), POLLIN, 0});
  watched_.clear();
  for (const auto& channel : channels_) {
    const int fd = channel->user()->pollFd();
    if (fd < 0 || !channel->isOpen()) continue;
    fds_.push_back({fd, channel->user()->pollEvents(), 0});
    watched_.push_back(channel.get());
  }
  // libssh takes packets in also while it sends: what they changed wants another turn first.
  if (packet_counter_.in_packets != packets_seen_) again_ = true;
  const Millis timeout = again_ ? Millis(0) : retry_ ? kRetry : options_.alive_interval;
  armQuickAck(session_.fd());
  if (::poll(fds_.data(), fds_.size(), static_cast<int>(timeout.count())) > 0) dispatch();
}

void LinkLoop::dispatch() {
  if (fds_[1].revents != 0) signal_.clear();
  for (size_t i = 0; i < watched_.size(); ++i) {
    if (fds_[i + 2].revents != 0) watched_[i]->touch();
  }
  if (fds_[0].revents == 0) return;
  if (ssh_event_dopoll(event_, 0) == SSH_ERROR) broken_ = true;
}

// A sign of life on the SSH level: TCP's own does not pass through jump hosts.
void LinkLoop::keepAlive() {
  const auto now = std::chrono::steady_clock::now();
  if (socket_counter_.in_bytes != bytes_heard_) {
    bytes_heard_ = socket_counter_.in_bytes;
    last_heard_ = now;
    asked_ = false;
  }
  if (now - last_heard_ < options_.alive_interval) return;
  if (!asked_) {
    asked_ = true;
    asked_at_ = now;
    // The first call may only take the answer to the last question.
    ssh_send_keepalive(session_.get());
    ssh_send_keepalive(session_.get());
  } else if (now - asked_at_ >= options_.dead_after) {
    broken_ = true;
    broken_reason_ =
        fmt::format("no sign of life for {} s",
                    std::chrono::duration_cast<std::chrono::seconds>(now - last_heard_).count());
  }
}

bool LinkLoop::sessionJustEnded() const {
  return session_ended_ != SteadyTime{} &&
         std::chrono::steady_clock::now() - session_ended_ < kJustEnded;
}

bool LinkLoop::lost() const {
  return broken_ || (ssh_get_status(session_.get()) & (SSH_CLOSED | SSH_CLOSED_ERROR)) != 0 ||
         ssh_is_connected(session_.get()) == 0;
}

Error LinkLoop::lossError() const {
  if (!lost()) return {Code::kUnreachable, options_.name + ": the SSH connection was closed"};
  const std::string why = broken_reason_.empty() ? ssh_get_error(session_.get()) : broken_reason_;
  return {Code::kUnreachable, fmt::format("{}: the SSH connection was lost{}{}", options_.name,
                                          why.empty() ? "" : ": ", why)};
}

void LinkLoop::shutDown() {
  const Error error = lossError();
  Channels ending;
  {
    const std::lock_guard lock(mutex_);
    failure_ = error;
    for (auto& channel : new_channels_) channels_.push_back(std::move(channel));
    new_channels_.clear();
  }
  for (const auto& channel : channels_) {
    channel->end({error, {}, {}});
    channel->release();
  }
  channels_.clear();
  // So that a command told to end hears of it.
  if (!broken_) ssh_blocking_flush(session_.get(), 0);
  // Jumped connections and the server see the end at once, not when the last stream is dropped.
  if (session_.fd() >= 0) ::shutdown(session_.fd(), SHUT_RDWR);
}

}  // namespace cctl::ssh
