#include "net/acceptor.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

namespace sudoku {
namespace {

constexpr int kAcceptsAtOnce = 64;
constexpr Clock::duration kPauseWhenOutOfResources = std::chrono::milliseconds(100);

// Errors of the connection, not of the socket (accept(2)).
bool isPassing(int error) {
  return error == EINTR || error == ECONNABORTED || error == EPROTO || error == EPERM;
}

}  // namespace

Acceptor::Acceptor(EventLoop& loop, const Log& log, Fd socket, bool shared, OnAccept on_accept)
    : loop_(loop),
      log_(log),
      socket_(std::move(socket)),
      shared_(shared),
      on_accept_(std::move(on_accept)),
      address_(localAddress(socket_.get())) {
  loop_.add(socket_.get(), EPOLLIN, [this](EventLoop::Events) { onReadable(); });
}

Acceptor::~Acceptor() {
  loop_.cancel(resume_timer_);
  if (socket_.valid()) loop_.remove(socket_.get());
}

void Acceptor::close() {
  if (!socket_.valid()) return;
  while (!shared_ && acceptOne()) {
  }
  loop_.cancel(resume_timer_);
  loop_.remove(socket_.get());
  socket_.reset();
}

void Acceptor::onReadable() {
  for (int i = 0; i < kAcceptsAtOnce && acceptOne(); ++i) {
  }
}

bool Acceptor::acceptOne() {
  Fd connection(accept4(socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (connection.valid()) {
    prepareAccepted(connection.get());
    on_accept_(std::move(connection));
    return true;
  }
  if (isPassing(errno)) return true;
  if (errno != EAGAIN) {
    log_.error("accept on " + address_.text() + ": " + std::strerror(errno) +
               "; trying again in 100 ms");
    pause();
  }
  return false;
}

// Out of descriptors or memory: the socket stays readable, and the loop would spin.
void Acceptor::pause() {
  loop_.modify(socket_.get(), 0);
  loop_.cancel(resume_timer_);
  resume_timer_ =
      loop_.runAfter(kPauseWhenOutOfResources, [this] { loop_.modify(socket_.get(), EPOLLIN); });
}

}  // namespace sudoku
