#include "shim/relay.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace cctl::shim {
namespace {

// One direction: bytes that were read and not yet written.
class Pump {
 public:
  Pump(int from, int to) : from_(from), to_(to) {}

  bool wantsRead() const { return begin_ == end_; }
  bool wantsWrite() const { return begin_ < end_; }
  int from() const { return from_; }
  int to() const { return to_; }

  // False at the end of the input, or an error.
  bool fill() {
    const ssize_t got = ::read(from_, buffer_.data(), buffer_.size());
    if (got < 0) return errno == EINTR || errno == EAGAIN;
    begin_ = 0;
    end_ = static_cast<size_t>(got);
    return got > 0;
  }
  bool drain() {
    const ssize_t put = ::write(to_, buffer_.data() + begin_, end_ - begin_);
    if (put < 0) return errno == EINTR || errno == EAGAIN;
    begin_ += static_cast<size_t>(put);
    return true;
  }

 private:
  int from_;
  int to_;
  std::array<char, 64u << 10> buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
};

bool step(Pump& pump, const pollfd& source, const pollfd& sink) {
  if (pump.wantsWrite() && (sink.revents & (POLLOUT | POLLERR | POLLHUP)) && !pump.drain())
    return false;
  return !pump.wantsRead() || !(source.revents & (POLLIN | POLLHUP | POLLERR)) || pump.fill();
}

}  // namespace

Result<void> relay(Fd fd) {
  ::signal(SIGPIPE, SIG_IGN);
  ::fcntl(fd.get(), F_SETFL, O_NONBLOCK);
  Pump up(0, fd.get());
  Pump down(fd.get(), 1);
  for (;;) {
    std::array<pollfd, 3> waiting{};
    waiting[0] = {up.wantsRead() ? 0 : -1, POLLIN, 0};
    waiting[1].fd = fd.get();
    waiting[1].events =
        static_cast<short>((down.wantsRead() ? POLLIN : 0) | (up.wantsWrite() ? POLLOUT : 0));
    waiting[2] = {down.wantsWrite() ? 1 : -1, POLLOUT, 0};
    if (::poll(waiting.data(), waiting.size(), -1) < 0 && errno != EINTR)
      return failErrno(errno, "poll");
    if (!step(down, waiting[1], waiting[2]) || !step(up, waiting[0], waiting[1])) return {};
  }
}

}  // namespace cctl::shim
