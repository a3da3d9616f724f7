// Work that waits for the disk, beside the loop: in a child process, one after the other, so that
// it does not keep a crashed service waiting.
#pragma once

#include <deque>
#include <functional>

#include "shim/event_loop.h"

namespace cctl::shim {

class Background {
 public:
  using Work = std::function<bool()>;           // whether it went well
  using Done = std::function<void(bool done)>;  // from the loop

  // `loop` must outlive it. What comes while `most_waiting` wait already is dropped.
  Background(EventLoop& loop, size_t most_waiting) : loop_(loop), most_waiting_(most_waiting) {}
  // Waits for what is under way; what waits is dropped.
  ~Background();

  // `work` runs in a copy of this process and changes only files. At once, and here, when no
  // process can be had.
  void begin(Work work, Done done = {});

 private:
  struct Job {
    Work work;
    Done done;
  };
  void start(Job job);
  void onEnd();

  EventLoop& loop_;
  const size_t most_waiting_;
  Job running_;
  std::deque<Job> waiting_;
  int pid_ = 0;
  Fd pidfd_;
  Watch watch_;
};

}  // namespace cctl::shim
