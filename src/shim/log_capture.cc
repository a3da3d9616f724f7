#include "shim/log_capture.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/clock.h"
#include "base/file.h"

namespace cctl::shim {
namespace {

constexpr size_t kMaxLine = 16u << 10;  // longer ones are cut into several
constexpr size_t kMaxLastLine = 500;
constexpr int kPipeSize = 1 << 20;  // room for a while without a shim
constexpr int kMovesPerTurn = 16;
constexpr int kMovesAtEnd = 64;  // a grandchild may go on writing while the rest is read

constexpr size_t kPrefix = 24 + 3;  // the stamp, " O "

Result<uint64_t> pipeInode(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) == 0 && S_ISFIFO(info.st_mode)) return info.st_ino;
  return fail(Code::kNotFound, "not a pipe");
}

Result<Fd> openForWriting(int read_end) {
  return openFile(fmt::format("/proc/self/fd/{}", read_end), O_RDWR);
}

}  // namespace

Result<LogPipe> LogPipe::of(Fd read, Fd write) {
  LogPipe pipe{std::move(read), std::move(write), 0};
  CCTL_TRY(pipe.inode, pipeInode(pipe.read.get()));
  CCTL_TRY(const uint64_t other, pipeInode(pipe.write.get()));
  if (other != pipe.inode) return fail(Code::kNotFound, "not two ends of one pipe");
  return pipe;
}

Result<LogPipe> LogPipe::make() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return failErrno(errno, "pipe");
  Fd read(ends[0]);
  const Fd plain_write(ends[1]);
  CCTL_TRY(Fd write, openForWriting(read.get()));
  ::fcntl(read.get(), F_SETFL, O_NONBLOCK);
  // Best effort: a plain user may be at its limit of pipe pages, and 64 KiB serve too.
  if (::fcntl(read.get(), F_SETPIPE_SZ, kPipeSize) < 0)
    ::fcntl(read.get(), F_SETPIPE_SZ, kPipeSize / 4);
  return of(std::move(read), std::move(write));
}

Result<LogPipe> LogPipe::ofProcess(int pid, int fd, uint64_t inode) {
  const std::string path = fmt::format("/proc/{}/fd/{}", pid, fd);
  CCTL_TRY(Fd read, openFile(path, O_RDONLY | O_NONBLOCK));
  CCTL_TRY(Fd write, openForWriting(read.get()));
  CCTL_TRY(LogPipe pipe, of(std::move(read), std::move(write)));
  if (inode != 0 && pipe.inode != inode)  // 0: its start was not written down
    return fail(Code::kNotFound, "{} is no longer the pipe that the shim made", path);
  return pipe;
}

LogCapture::LogCapture(EventLoop& loop, LogMover& mover, LogFile& file, std::string name,
                       LogPipes pipes)
    : loop_(loop), mover_(mover), file_(file), name_(std::move(name)) {
  streams_[0].pipe = std::move(pipes.out);
  streams_[1].name = 'E';
  streams_[1].pipe = std::move(pipes.err);
  // Edge-triggered: an unfinished line stays in its pipe until the rest of it comes.
  for (Stream& stream : streams_)
    stream.watch = loop_.watch(stream.pipe.read.get(), EPOLLIN | EPOLLET,
                               [this, &stream](uint32_t) { onReadable(stream); });
}

// The chatty do not starve the others: the rest is moved in the next turn.
void LogCapture::onReadable(Stream& stream) {
  for (int i = 0; i < kMovesPerTurn; ++i)
    if (!moveSome(stream, false)) return;
  loop_.soon([this, &stream, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) onReadable(stream);
  });
}

bool LogCapture::moveSome(Stream& stream, bool to_the_end) {
  const LogMover::Batch& batch =
      stamp(stream.name, mover_.peek(stream.pipe.read.get()), to_the_end);
  if (batch.ends.empty()) return false;
  moveBatch(stream, batch);
  return true;
}

// One time for all that came together.
LogMover::Batch& LogCapture::stamp(char stream, std::string_view bytes, bool to_the_end) {
  LogMover::Batch& batch = mover_.batch();
  batch.text.clear();
  batch.ends.clear();
  if (bytes.empty()) return batch;
  const std::string prefix = fmt::format("{} {} ", formatTimeFixed(loop_.clock().wall()), stream);
  const auto add = [&](std::string_view line, size_t raw_end) {
    batch.text += prefix;
    batch.text += line;
    batch.text += '\n';
    batch.ends.push_back({batch.text.size(), raw_end});
  };
  size_t at = 0;
  while (at < bytes.size()) {
    const size_t newline = bytes.find('\n', at);
    const size_t end = std::min(newline, bytes.size());
    if (end - at > kMaxLine) {
      add(bytes.substr(at, kMaxLine), at + kMaxLine);
      at += kMaxLine;
      continue;
    }
    if (newline == std::string_view::npos && !to_the_end) break;
    add(bytes.substr(at, end - at), std::min(end + 1, bytes.size()));
    at = end + 1;
  }
  return batch;
}

// As much as the current log file takes; what is left is looked at again.
void LogCapture::moveBatch(Stream& stream, const LogMover::Batch& batch) {
  const auto room = file_.roomFor(batch.text);
  const auto last = room ? std::upper_bound(batch.ends.begin(), batch.ends.end(), room->bytes,
                                            [](size_t bytes, const LogMover::LineEnd& end) {
                                              return bytes < end.stamped;
                                            })
                         : batch.ends.end();
  const LogMover::LineEnd end = *std::prev(last);
  const auto count = static_cast<size_t>(last - batch.ends.begin());
  // Without a file to write to they are taken all the same: the service must not be blocked.
  mover_.take(stream.pipe.read.get(),
              {name_, stream.name, room ? room->inode : 0, room ? room->size : 0, end.raw});
  const std::string_view lines = std::string_view(batch.text).substr(0, end.stamped);
  file_.append(lines, count);
  mover_.finish();
  keepLast(lines);
}

void LogCapture::keepLast(std::string_view stamped) {
  std::deque<std::string> newest;
  while (!stamped.empty() && newest.size() < kLastLines) {
    stamped.remove_suffix(1);                      // the newline
    const size_t begin = stamped.rfind('\n') + 1;  // npos + 1 is 0
    newest.emplace_front(stamped.substr(begin + kPrefix, kMaxLastLine));
    stamped = stamped.substr(0, begin);
  }
  for (std::string& line : newest) last_lines_.push_back(std::move(line));
  while (last_lines_.size() > kLastLines) last_lines_.pop_front();
}

void LogCapture::resumeRun(WallTime since) {
  last_lines_.clear();
  LogFile::Position position = file_.tail(static_cast<int>(kLastLines));
  std::string text;
  for (std::string part = file_.read(position, 1u << 20); !part.empty();
       part = file_.read(position, 1u << 20))
    text += part;
  const std::string from = formatTimeFixed(since);
  std::string_view lines = text;
  // Those of earlier runs stand in front.
  while (lines.size() > kPrefix && lines.substr(0, from.size()) < from)
    lines.remove_prefix(std::min(lines.find('\n'), lines.size() - 1) + 1);
  if (lines.size() > kPrefix && lines.back() == '\n') keepLast(lines);
}

void LogCapture::drain() {
  for (Stream& stream : streams_) {
    int waiting = 0;
    if (::ioctl(stream.pipe.read.get(), FIONREAD, &waiting) == 0 && waiting == 0) continue;
    for (int i = 0; i < kMovesAtEnd && moveSome(stream, false); ++i) {
    }
    moveSome(stream, true);  // only now: what is seen at a time may end within a line
  }
}

void LogCapture::finishMove(const LogMover::Move& move) {
  const Stream& stream = streams_[move.stream == 'E' ? 1 : 0];
  file_.cutTo(move.log_inode, move.log_size);
  const std::string bytes = mover_.recover(stream.pipe.read.get());
  const LogMover::Batch& batch = stamp(move.stream, bytes, true);
  if (!batch.ends.empty()) file_.append(batch.text, batch.ends.size());
  mover_.finish();
}

}  // namespace cctl::shim
