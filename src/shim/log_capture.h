// The output of one process, read from two pipes, stamped line by line into its instance's log.
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "shim/event_loop.h"
#include "shim/log_file.h"

namespace cctl::shim {

// The service gets the write side open for reading too: it then holds its own pipe, so that a
// shim that dies causes no EPIPE and loses nothing that fits the pipe.
struct LogPipe {
  Fd read;
  Fd write;
  uint64_t inode = 0;
};
[[nodiscard]] Result<LogPipe> makeLogPipe();
// The read side of a pipe that a living process has as its descriptor `fd`, when its inode is as
// recorded.
[[nodiscard]] Result<LogPipe> reopenLogPipe(int pid, int fd, uint64_t inode);

class LogCapture {
 public:
  static constexpr size_t kLastLines = 50;

  // Both must outlive it.
  LogCapture(EventLoop& loop, LogFile& file) : loop_(loop), file_(file) {}

  void add(char stream, Fd pipe);
  // Reads what is in the pipes now, an unfinished last line included.
  void drain();
  // The last lines of this run, oldest first, each cut at 500 bytes.
  std::vector<std::string> lastLines() const { return {last_lines_.begin(), last_lines_.end()}; }

 private:
  struct Stream {
    char name = 'O';
    Fd pipe;
    Watch watch;  // destroyed before the pipe
    std::string partial;
  };

  void onReadable(Stream& stream);
  bool readSome(Stream& stream);
  void take(Stream& stream, std::string_view bytes);
  void emit(Stream& stream, std::string_view line);
  void flush();

  EventLoop& loop_;
  LogFile& file_;
  std::vector<std::unique_ptr<Stream>> streams_;
  std::deque<std::string> last_lines_;
  std::string stamped_;  // whole lines on their way to the file
  size_t stamped_count_ = 0;
};

}  // namespace cctl::shim
