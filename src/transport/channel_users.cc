#include "transport/channel_users.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace cctl::ssh {
namespace {

constexpr size_t kStderrTail = 4096;

int signalNumber(const std::string& name) {
  static constexpr std::pair<std::string_view, int> kSignals[] = {
      {"ABRT", 6},  {"ALRM", 14}, {"FPE", 8},  {"HUP", 1},   {"ILL", 4},   {"INT", 2},
      {"KILL", 9},  {"PIPE", 13}, {"QUIT", 3}, {"SEGV", 11}, {"TERM", 15}, {"USR1", 10},
      {"USR2", 12}, {"BUS", 7},   {"TRAP", 5}, {"SYS", 31},  {"XCPU", 24}, {"XFSZ", 25}};
  for (const auto& [known, number] : kSignals) {
    if (name == known) return number;
  }
  return 127;  // 128 + 127 = 255, what ssh says of them all
}

}  // namespace

size_t ExecUser::onData(std::string_view bytes, bool is_stderr) {
  keep(is_stderr ? result_.err : result_.out, bytes);
  const auto& sink = is_stderr ? request_.on_err : request_.on_out;
  if (sink) sink(bytes);
  return bytes.size();
}

void ExecUser::keep(std::string& all, std::string_view bytes) {
  const size_t room = request_.output_limit - std::min(request_.output_limit, all.size());
  if (bytes.size() > room) result_.truncated = true;
  all += bytes.substr(0, room);
}

std::string_view ExecUser::output() {
  if (!rest_.empty() || input_ended_) return rest_;
  if (!request_.next_input) {
    input_ended_ = true;
    return {};
  }
  auto next = request_.next_input();
  if (!next) {
    // The command must not take what it has for the whole input.
    input_error_ = next.error();
    abort();
    return {};
  }
  rest_ = *next;
  input_ended_ = rest_.empty();
  return rest_;
}

void ExecUser::onEnd(const ChannelEnd& end) {
  end_ = end;
  done_.set();
}

Result<std::optional<ExecResult>> ExecUser::result() {
  if (input_error_) return fail(*input_error_);
  if (end_.error) return fail(*end_.error);
  if (end_.signal) {
    result_.signal = end_.signal;
    result_.exit_status = 128 + signalNumber(*end_.signal);
  } else if (end_.exit_status) {
    result_.exit_status = *end_.exit_status;
  } else if (aborted()) {
    return std::optional<ExecResult>();
  } else {
    return fail(Code::kUnreachable, "the server ended the command without an exit status");
  }
  return std::optional(std::move(result_));
}

void StreamUser::onOpen() {
  const std::lock_guard lock(mutex_);
  open_ = true;
  opened_.set();
}

Result<void> StreamUser::waitOpen(Deadline deadline, const CancelToken* cancel) {
  CCTL_CHECK(opened_.wait(deadline, cancel));
  const std::lock_guard lock(mutex_);
  if (!open_) return fail(*ended_);
  return {};
}

size_t StreamUser::room() {
  const std::lock_guard lock(mutex_);
  if (on_data_) return kQueueLimit;
  return kQueueLimit - std::min(kQueueLimit, inbox_.size() - inbox_taken_);
}

size_t StreamUser::onData(std::string_view bytes, bool is_stderr) {
  if (is_stderr) {
    const std::lock_guard lock(mutex_);
    stderr_tail_ += bytes;
    if (stderr_tail_.size() > kStderrTail) stderr_tail_.erase(0, stderr_tail_.size() - kStderrTail);
    return bytes.size();
  }
  const std::lock_guard delivering(delivery_);
  if (dataCallback()) deliver();  // what came before there was one
  if (const auto callback = dataCallback()) {
    (*callback)(bytes);
    return bytes.size();
  }
  const std::lock_guard lock(mutex_);
  inbox_ += bytes;
  readable_.set();
  return bytes.size();
}

std::string_view StreamUser::output() {
  if (sent_ == sending_.size()) {
    const std::lock_guard lock(mutex_);
    sending_.clear();
    sent_ = 0;
    sending_.swap(outbox_);
    if (!sending_.empty()) writable_.set();
  }
  return std::string_view(sending_).substr(sent_);
}

void StreamUser::sent(size_t bytes) { sent_ += bytes; }

bool StreamUser::outputEnded() {
  const std::lock_guard lock(mutex_);
  return write_ended_ && outbox_.empty();
}

StreamUser::DataCallback StreamUser::dataCallback() {
  const std::lock_guard lock(mutex_);
  return on_data_;
}

std::string StreamUser::takeInbox() {
  const std::lock_guard lock(mutex_);
  return std::exchange(inbox_, {}).substr(std::exchange(inbox_taken_, 0));
}

void StreamUser::deliver() {
  const std::lock_guard delivering(delivery_);
  while (const auto callback = dataCallback()) {
    const auto bytes = takeInbox();
    if (bytes.empty()) break;
    (*callback)(bytes);
  }
  tellClosed();
}

void StreamUser::tellClosed() {
  std::function<void(const Error&)> on_close;
  std::optional<Error> error;
  {
    const std::lock_guard lock(mutex_);
    if (!ended_ || !inbox_.empty() || !on_close_) return;
    on_close = std::exchange(on_close_, nullptr);
    error = ended_;
  }
  on_close(*error);
}

Error StreamUser::closeError(const ChannelEnd& end) const {
  if (end.error) return *end.error;
  if (end.signal) return {Code::kFailed, fmt::format("{}: ended by SIG{}", name_, *end.signal)};
  if (end.exit_status.value_or(0) != 0) {
    auto tail = stderr_tail_;
    while (!tail.empty() && tail.back() == '\n') tail.pop_back();
    return {Code::kFailed, fmt::format("{}: exit status {}{}{}", name_, *end.exit_status,
                                       tail.empty() ? "" : ": ", tail)};
  }
  return {Code::kUnreachable, name_ + ": closed by the other side"};
}

void StreamUser::onEnd(const ChannelEnd& end) {
  {
    const std::lock_guard lock(mutex_);
    clean_end_ = !end.error && !end.signal && end.exit_status.value_or(0) == 0;
    ended_ = closeError(end);
    outbox_.clear();
    opened_.set();
    readable_.set();
    writable_.set();
  }
  deliver();
}

Result<void> StreamUser::write(std::string_view bytes, Deadline deadline,
                               const CancelToken* cancel) {
  while (true) {
    bool wake = false;
    {
      const std::lock_guard lock(mutex_);
      if (ended_) return fail(*ended_);
      if (closed_ || write_ended_) return fail(Code::kError, "{}: written after close", name_);
      if (outbox_.size() < kQueueLimit || loop_->onLoopThread()) {
        wake = outbox_.empty();
        outbox_ += bytes;
        bytes = {};
      } else {
        writable_.clear();
      }
    }
    if (wake) loop_->wake(this);
    if (bytes.empty()) return {};
    CCTL_CHECK(writable_.wait(deadline, cancel));
  }
}

// Under mutex_.
size_t StreamUser::takeFromInbox(char* buffer, size_t size) {
  const size_t have = inbox_.size() - inbox_taken_;
  const size_t taken = std::min(size, have);
  std::memcpy(buffer, inbox_.data() + inbox_taken_, taken);
  inbox_taken_ += taken;
  if (inbox_taken_ == inbox_.size() || inbox_taken_ >= kQueueLimit) {
    inbox_.erase(0, inbox_taken_);
    inbox_taken_ = 0;
  }
  if (have >= kQueueLimit) loop_->wake(this);  // libssh may hold more
  return taken;
}

Result<size_t> StreamUser::read(char* buffer, size_t size, Deadline deadline,
                                const CancelToken* cancel) {
  while (true) {
    {
      const std::lock_guard lock(mutex_);
      if (!inbox_.empty()) return takeFromInbox(buffer, size);
      if (ended_ && clean_end_) return size_t{0};
      if (ended_) return fail(*ended_);
      if (closed_) return fail(Code::kError, "{}: read after close", name_);
      readable_.clear();
    }
    CCTL_CHECK(readable_.wait(deadline, cancel));
  }
}

void StreamUser::setOnData(std::function<void(std::string_view)> on_data) {
  const std::lock_guard delivering(delivery_);
  bool ended = false;
  {
    const std::lock_guard lock(mutex_);
    on_data_ =
        on_data ? std::make_shared<const std::function<void(std::string_view)>>(std::move(on_data))
                : nullptr;
    ended = ended_.has_value();
  }
  if (ended) {
    deliver();  // the loop does not know this channel any more
  } else {
    loop_->wake(this);
  }
}

void StreamUser::setOnClose(std::function<void(const Error&)> on_close) {
  const std::lock_guard delivering(delivery_);
  {
    const std::lock_guard lock(mutex_);
    on_close_ = std::move(on_close);
  }
  tellClosed();
}

void StreamUser::closeWrite() {
  {
    const std::lock_guard lock(mutex_);
    write_ended_ = true;
  }
  loop_->wake(this);
}

void StreamUser::close() {
  const std::lock_guard delivering(delivery_);
  {
    const std::lock_guard lock(mutex_);
    on_data_ = nullptr;
    on_close_ = nullptr;
    closed_ = true;
    readable_.set();
    writable_.set();
  }
  abort();
  loop_->wake(this);
}

size_t BridgeUser::room() {
  flushPending();
  return pending_.empty() ? kBuffer : 0;
}

void BridgeUser::flushPending() {
  while (!pending_.empty()) {
    const ssize_t sent = ::send(fd_.get(), pending_.data(), pending_.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) return;
    if (sent < 0) {
      pending_.clear();  // the session on the other end is gone; output() sees that too
      return;
    }
    pending_.erase(0, static_cast<size_t>(sent));
  }
}

size_t BridgeUser::onData(std::string_view bytes, bool is_stderr) {
  if (!is_stderr) pending_ += bytes;
  flushPending();
  return bytes.size();
}

std::string_view BridgeUser::output() {
  flushPending();
  if (sent_ == buffer_.size() && !ended_) {
    buffer_.resize(kBuffer);
    sent_ = 0;
    const ssize_t got = ::recv(fd_.get(), buffer_.data(), buffer_.size(), 0);
    buffer_.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)));
    ended_ = got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
  }
  return std::string_view(buffer_).substr(sent_);
}

short BridgeUser::pollEvents() const {
  const bool read = sent_ == buffer_.size() && !ended_;
  return static_cast<short>((read ? POLLIN : 0) | (pending_.empty() ? 0 : POLLOUT));
}

void BridgeUser::onEnd(const ChannelEnd& end) {
  {
    const std::lock_guard lock(mutex_);
    refused_ = end.error.value_or(Error{Code::kUnreachable, "closed"});
  }
  ::shutdown(fd_.get(), SHUT_RDWR);  // the session on the other end sees its connection end
  opened_.set();
}

Result<void> BridgeUser::waitOpen(Deadline deadline, const CancelToken* cancel) {
  CCTL_CHECK(opened_.wait(deadline, cancel));
  const std::lock_guard lock(mutex_);
  if (refused_) return fail(*refused_);
  return {};
}

}  // namespace cctl::ssh
