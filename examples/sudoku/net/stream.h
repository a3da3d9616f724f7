// A TCP connection on an EventLoop, with an output buffer. For the loop's thread only.
//
// Ends of a Stream: the peer's end of data is told by on_eof (writing is still possible);
// finish() is ours: it flushes, sends FIN, and reads and drops what still comes, so that no
// RST overtakes the last answer. on_closed comes exactly once when the connection is over,
// unless close() was called by the owner. Any handler may destroy the owner.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "net/event_loop.h"
#include "net/fd.h"

namespace sudoku {

class Stream : public std::enable_shared_from_this<Stream> {
 public:
  struct Handlers {
    std::function<void()> on_connected;  // only for connect()ing sockets
    std::function<void(std::string_view)> on_data;
    std::function<void()> on_eof;
    std::function<void()> on_flushed;          // the output buffer has become empty
    std::function<void(int error)> on_closed;  // an errno, or 0
  };

  static constexpr Clock::duration kLinger = std::chrono::milliseconds(500);

  static std::shared_ptr<Stream> accepted(EventLoop& loop, Fd fd, Handlers handlers);
  static std::shared_ptr<Stream> connecting(EventLoop& loop, Fd fd, Handlers handlers);
  Stream(EventLoop& loop, Fd fd, Handlers handlers, bool is_connecting);  // use the above
  ~Stream() { close(); }

  void write(std::string_view bytes);
  std::size_t unsent() const { return output_.size() - sent_; }
  void setReading(bool reading);
  // Reads what the kernel holds now, at most `most` bytes, as if it were readable.
  void readNow(std::size_t most);
  void finish();
  void close();
  bool isOpen() const { return fd_.valid(); }
  bool isFinishing() const { return finishing_; }

 private:
  void start();
  void onEvents(EventLoop::Events events);
  void onConnectDecided();
  bool readOnce();  // false: nothing more for now
  bool flush();
  void onFlushed();
  bool wantsInput() const { return sent_fin_ || (reading_ && !finishing_); }
  void failAfter(Clock::duration delay);
  void fail(int error);
  void updateEvents();

  EventLoop& loop_;
  Fd fd_;
  Handlers handlers_;
  bool connecting_;
  bool reading_ = true;
  bool saw_eof_ = false;
  bool finishing_ = false;
  bool sent_fin_ = false;
  EventLoop::Events events_ = 0;
  EventLoop::Timer linger_timer_{};
  std::string output_;
  std::size_t sent_ = 0;  // bytes of output_ that are gone
};

}  // namespace sudoku
