#include "net/stream.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "net/socket.h"

namespace sudoku {
namespace {

constexpr std::size_t kMostBeforeReset = 1024 * 1024;
constexpr Clock::duration kFlushLimit = std::chrono::seconds(5);  // for a peer that reads slowly

}  // namespace

std::shared_ptr<Stream> Stream::accepted(EventLoop& loop, Fd fd, Handlers handlers) {
  auto stream = std::make_shared<Stream>(loop, std::move(fd), std::move(handlers), false);
  stream->start();
  return stream;
}

std::shared_ptr<Stream> Stream::connecting(EventLoop& loop, Fd fd, Handlers handlers) {
  auto stream = std::make_shared<Stream>(loop, std::move(fd), std::move(handlers), true);
  stream->start();
  return stream;
}

Stream::Stream(EventLoop& loop, Fd fd, Handlers handlers, bool is_connecting)
    : loop_(loop), fd_(std::move(fd)), handlers_(std::move(handlers)), connecting_(is_connecting) {}

void Stream::start() {
  events_ = connecting_ ? EPOLLOUT : EPOLLIN;
  loop_.add(fd_.get(), events_, [weak = weak_from_this()](EventLoop::Events events) {
    if (const auto self = weak.lock()) self->onEvents(events);
  });
}

void Stream::close() {
  if (!fd_.valid()) return;
  loop_.cancel(linger_timer_);
  loop_.remove(fd_.get());
  fd_.reset();
}

void Stream::fail(int error) {
  if (!fd_.valid()) return;
  close();
  if (handlers_.on_closed) handlers_.on_closed(error);
}

void Stream::updateEvents() {
  if (!fd_.valid() || connecting_) return;
  EventLoop::Events wanted = 0;
  if (!saw_eof_ && wantsInput()) wanted |= EPOLLIN;
  if (unsent() > 0) wanted |= EPOLLOUT;
  if (wanted == events_) return;
  events_ = wanted;
  loop_.modify(fd_.get(), wanted);
}

void Stream::setReading(bool reading) {
  reading_ = reading;
  updateEvents();
}

void Stream::onEvents(EventLoop::Events events) {
  if (connecting_) return onConnectDecided();
  // Reading comes first: an answer that came before a reset still counts.
  if ((events & EPOLLERR) != 0) {
    readNow(kMostBeforeReset);
  } else if ((events & EPOLLIN) != 0 && wantsInput()) {
    readOnce();
  }
  if (fd_.valid() && (events & EPOLLOUT) != 0 && flush() && unsent() == 0) onFlushed();
  if (fd_.valid() && (events & EPOLLERR) != 0) return fail(pendingError(fd_.get()));
  // While reading is paused and nothing is to be sent, EPOLLHUP alone says that it is over.
  if (fd_.valid() && (events & (EPOLLHUP | EPOLLIN)) == EPOLLHUP) return fail(0);
  updateEvents();
}

void Stream::onConnectDecided() {
  if (const int error = pendingError(fd_.get()); error != 0) return fail(error);
  connecting_ = false;
  events_ = EPOLLOUT;
  updateEvents();
  if (handlers_.on_connected) handlers_.on_connected();
  if (fd_.valid() && unsent() > 0) flush();
  updateEvents();
}

bool Stream::readOnce() {
  auto& buffer = loop_.readBuffer();
  const ssize_t got = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
  if (got > 0) {
    if (!sent_fin_ && handlers_.on_data) {
      handlers_.on_data({buffer.data(), static_cast<std::size_t>(got)});
    }
    return true;
  }
  if (got < 0) {
    if (errno != EAGAIN && errno != EINTR) fail(errno);
    return false;
  }
  saw_eof_ = true;
  if (sent_fin_) {
    fail(0);
  } else if (handlers_.on_eof) {
    handlers_.on_eof();
  }
  return false;
}

void Stream::readNow(std::size_t most) {
  const auto self = shared_from_this();
  for (std::size_t calls = 0; calls * loop_.readBuffer().size() < most; ++calls) {
    if (!fd_.valid() || saw_eof_ || finishing_ || !readOnce()) break;
  }
  updateEvents();
}

void Stream::write(std::string_view bytes) {
  if (!fd_.valid() || sent_fin_) return;
  output_.append(bytes);
  if (connecting_ || unsent() > bytes.size()) return;  // EPOLLOUT is awaited already
  flush();
  updateEvents();
}

bool Stream::flush() {
  while (unsent() > 0) {
    const ssize_t count = ::send(fd_.get(), output_.data() + sent_, unsent(), MSG_NOSIGNAL);
    if (count < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return true;
      // The read side tells the owner: it may hold answers that came before the reset, and
      // a write must not destroy the caller.
      output_.clear();
      sent_ = 0;
      const int error = errno;
      loop_.post([weak = weak_from_this(), error] {
        if (const auto self = weak.lock()) self->fail(error);
      });
      return false;
    }
    sent_ += static_cast<std::size_t>(count);
  }
  output_.clear();
  sent_ = 0;
  return true;
}

void Stream::onFlushed() {
  if (!finishing_) {
    if (handlers_.on_flushed) handlers_.on_flushed();
    return;
  }
  if (sent_fin_) return;
  sent_fin_ = true;
  ::shutdown(fd_.get(), SHUT_WR);
  failAfter(saw_eof_ ? Clock::duration::zero() : kLinger);
}

void Stream::failAfter(Clock::duration delay) {
  loop_.cancel(linger_timer_);
  linger_timer_ = loop_.runAfter(delay, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->fail(0);
  });
}

void Stream::finish() {
  if (!fd_.valid() || finishing_) return;
  finishing_ = true;
  if (connecting_) output_.clear();
  failAfter(kFlushLimit);
  if (unsent() == 0) onFlushed();
  updateEvents();
}

}  // namespace sudoku
