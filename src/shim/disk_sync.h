// Waits for the disk beside the loop: fdatasync(2) by the kernel's own asynchronous I/O
// (io_submit(2), Linux 4.18), which neither copies this process nor holds it up. Where there is
// none, a child does it.
#pragma once

#include <linux/aio_abi.h>

#include <deque>
#include <functional>
#include <optional>

#include "shim/background.h"
#include "shim/event_loop.h"

namespace cctl::shim {

// Not thread-safe. One at a time, the others in their order.
class DiskSync {
 public:
  // `loop` must outlive it.
  explicit DiskSync(EventLoop& loop);
  // What is under way is not waited for, and its `done` never comes.
  ~DiskSync();
  DiskSync(const DiskSync&) = delete;
  DiskSync& operator=(const DiskSync&) = delete;

  // Everything that was written to the file so far; `done` comes from the loop, never from here.
  using Done = std::function<void(bool well)>;
  void begin(Fd file, Done done = {});

 private:
  struct Job {
    Fd file;
    Done done;
  };
  bool open();
  void next();
  bool submit(int fd);
  void onEvent();
  void finish(bool well);

  EventLoop& loop_;
  std::optional<bool> usable_;  // not known before the first one
  aio_context_t context_ = 0;
  Fd event_;
  Watch watch_;
  std::deque<Job> jobs_;  // the first one is under way
  Background instead_;
};

}  // namespace cctl::shim
