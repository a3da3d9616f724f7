// fdatasync(2) beside the loop: a disk that takes its time does not keep a crashed service waiting.
#pragma once

#include "shim/event_loop.h"

namespace cctl::shim {

class BackgroundSync {
 public:
  // `loop` must outlive it.
  explicit BackgroundSync(EventLoop& loop) : loop_(loop) {}
  ~BackgroundSync();

  // Begins, in a child process, unless one is under way; then another follows it. Blocks where
  // there are no process descriptors (Linux below 5.3) or no process can be had.
  void begin(int fd);

 private:
  void onEnd();

  EventLoop& loop_;
  Fd fd_;  // of the sync that follows
  int pid_ = 0;
  Fd pidfd_;
  Watch watch_;
};

}  // namespace cctl::shim
