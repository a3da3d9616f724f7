#include "shim/log_capture.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/file.h"

namespace cctl::shim {
namespace {

constexpr size_t kMaxLine = 16u << 10;  // longer ones are cut into several
constexpr size_t kMaxLastLine = 500;
constexpr int kPipeSize = 1 << 20;  // room for a while without a shim
constexpr int kReadsPerTurn = 16;

uint64_t inodeOf(int fd) {
  struct stat info {};
  return ::fstat(fd, &info) == 0 && S_ISFIFO(info.st_mode) ? info.st_ino : 0;
}

}  // namespace

Result<LogPipe> makeLogPipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return failErrno(errno, "pipe");
  LogPipe pipe;
  pipe.read.reset(ends[0]);
  const Fd plain_write(ends[1]);
  CCTL_TRY(pipe.write, openFile(fmt::format("/proc/self/fd/{}", ends[1]), O_RDWR));
  ::fcntl(pipe.read.get(), F_SETFL, O_NONBLOCK);
  // Best effort: a plain user may be at its limit of pipe pages, and 64 KiB serve too.
  if (::fcntl(pipe.read.get(), F_SETPIPE_SZ, kPipeSize) < 0)
    ::fcntl(pipe.read.get(), F_SETPIPE_SZ, kPipeSize / 4);
  pipe.inode = inodeOf(pipe.read.get());
  return pipe;
}

Result<LogPipe> reopenLogPipe(int pid, int fd, uint64_t inode) {
  const std::string path = fmt::format("/proc/{}/fd/{}", pid, fd);
  LogPipe pipe;
  CCTL_TRY(pipe.read, openFile(path, O_RDONLY | O_NONBLOCK));
  pipe.inode = inodeOf(pipe.read.get());
  if (pipe.inode != inode || inode == 0)
    return fail(Code::kNotFound, "{} is no longer the pipe that the shim made", path);
  return pipe;
}

void LogCapture::add(char stream, Fd pipe) {
  auto entry = std::make_unique<Stream>();
  entry->name = stream;
  entry->pipe = std::move(pipe);
  Stream* raw = entry.get();
  entry->watch = loop_.watch(raw->pipe.get(), EPOLLIN, [this, raw](uint32_t) { onReadable(*raw); });
  streams_.push_back(std::move(entry));
}

// The chatty do not starve the others: the rest is read in the next turn.
void LogCapture::onReadable(Stream& stream) {
  for (int i = 0; i < kReadsPerTurn && readSome(stream); ++i) {
  }
  flush();
}

bool LogCapture::readSome(Stream& stream) {
  std::array<char, 64u << 10> buffer;
  const ssize_t got = ::read(stream.pipe.get(), buffer.data(), buffer.size());
  if (got > 0) take(stream, {buffer.data(), static_cast<size_t>(got)});
  if (got > 0 || (got < 0 && errno == EINTR)) return true;
  if (got == 0) stream.watch.reset();  // nobody holds the other end
  return false;
}

void LogCapture::take(Stream& stream, std::string_view bytes) {
  for (size_t end = bytes.find('\n'); end != std::string_view::npos; end = bytes.find('\n')) {
    stream.partial.append(bytes.substr(0, end));
    bytes.remove_prefix(end + 1);
    emit(stream, stream.partial);
    stream.partial.clear();
  }
  stream.partial.append(bytes);
  while (stream.partial.size() > kMaxLine) {
    emit(stream, std::string_view(stream.partial).substr(0, kMaxLine));
    stream.partial.erase(0, kMaxLine);
  }
}

void LogCapture::emit(Stream& stream, std::string_view line) {
  if (line.size() > kMaxLine) {
    emit(stream, line.substr(0, kMaxLine));
    emit(stream, line.substr(kMaxLine));
    return;
  }
  last_lines_.emplace_back(line.substr(0, kMaxLastLine));
  if (last_lines_.size() > kLastLines) last_lines_.pop_front();
  stamped_ += formatTime(loop_.clock().wall());
  stamped_ += ' ';
  stamped_ += stream.name;
  stamped_ += ' ';
  stamped_ += line;
  stamped_ += '\n';
  ++stamped_count_;
}

void LogCapture::flush() {
  if (stamped_.empty()) return;
  const std::string lines = std::exchange(stamped_, {});
  file_.append(lines, std::exchange(stamped_count_, 0));
}

void LogCapture::drain() {
  // Bounded: a grandchild may go on writing while we read.
  static constexpr int kMostReads = 64;
  for (const auto& stream : streams_) {
    for (int i = 0; i < kMostReads && readSome(*stream); ++i) {
    }
    if (stream->partial.empty()) continue;
    emit(*stream, stream->partial);
    stream->partial.clear();
  }
  flush();
}

}  // namespace cctl::shim
