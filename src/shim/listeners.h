// The sockets of a shim that are bound at its start. One that cannot be (no inode left, a read-only
// disk, something else at its path) is tried again each second until it stands: what is supervised
// does not wait for it.
#pragma once

#include <functional>
#include <list>
#include <string>
#include <vector>

#include "shim/event_loop.h"

namespace cctl::shim {

class Listeners {
 public:
  using Listen = std::function<Result<void>()>;
  // Once when a socket cannot be bound, and once when it stands after all.
  using Tell = std::function<void(bool stands, const std::string& text)>;

  // `loop` must outlive it.
  Listeners(EventLoop& loop, Tell tell) : loop_(loop), tell_(std::move(tell)) {}

  // Tries it now, and answers how that went.
  Result<void> add(std::string path, Listen listen);
  // Of those that do not stand, as they are now.
  std::vector<std::string> problems() const;

 private:
  struct Missing {
    std::string path;
    Listen listen;
    std::string problem;
  };

  void tryAgain();

  EventLoop& loop_;
  Tell tell_;
  std::list<Missing> missing_;
  Timer timer_;
};

}  // namespace cctl::shim
