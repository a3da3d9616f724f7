// The output of one generation, read from two pipes, stamped line by line into its instance's log.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "shim/event_loop.h"
#include "shim/log_file.h"
#include "shim/log_mover.h"

namespace cctl::shim {

// Made once and used by every run of a generation. The service gets the write side open for reading
// too: it then holds its own pipe, so that a shim that dies causes no EPIPE and loses nothing that
// fits the pipe.
struct LogPipe {
  Fd read;  // O_NONBLOCK
  Fd write;
  uint64_t inode = 0;

  [[nodiscard]] static Result<LogPipe> make();
  // The pipe that a living process has as its descriptor `fd`, when its inode is as recorded.
  [[nodiscard]] static Result<LogPipe> ofProcess(int pid, int fd, uint64_t inode);
  // From descriptors that were kept. kNotFound when they are no pipe.
  [[nodiscard]] static Result<LogPipe> of(Fd read, Fd write);
};

struct LogPipes {
  LogPipe out;
  LogPipe err;
};

class LogCapture {
 public:
  static constexpr size_t kLastLines = 50;

  // All must outlive it. `name`: "service/index/generation", by which an unfinished move is known.
  LogCapture(EventLoop& loop, LogMover& mover, LogFile& file, std::string name, LogPipes pipes);

  const LogPipe& out() const { return streams_[0].pipe; }
  const LogPipe& err() const { return streams_[1].pipe; }

  // A process begins: the last lines are its own from here on. `since`: of a process that was
  // adopted, whose lines are in the log already.
  void beginRun() { last_lines_.clear(); }
  void resumeRun(WallTime since);
  // Reads what is in the pipes now, an unfinished last line included.
  void drain();
  // The last lines of this run, oldest first, each cut at 500 bytes.
  std::vector<std::string> lastLines() const { return {last_lines_.begin(), last_lines_.end()}; }
  // Writes the lines that a supervisor before this one was moving when it died.
  void finishMove(const LogMover::Move& move);

 private:
  struct Stream {
    char name = 'O';
    LogPipe pipe;
    Watch watch;  // destroyed before the pipe
  };

  void onReadable(Stream& stream);
  bool moveSome(Stream& stream, bool to_the_end);
  LogMover::Batch& stamp(char stream, std::string_view bytes, bool to_the_end);
  void moveBatch(Stream& stream, const LogMover::Batch& batch);
  void keepLast(std::string_view stamped);

  EventLoop& loop_;
  LogMover& mover_;
  LogFile& file_;
  const std::string name_;
  Stream streams_[2];
  std::deque<std::string> last_lines_;
  // Outlived by callbacks that are posted to the loop.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace cctl::shim
