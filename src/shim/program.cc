#include "shim/program.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "base/file.h"
#include "base/text.h"
#include "shim/service_process.h"
#include "shim/spawn.h"
#include "shim/users.h"

namespace cctl::shim {
namespace {

constexpr size_t kMaxTail = 2048;  // bytes kept of what a program prints
constexpr size_t kMaxTailLines = 20;

// The whole input in memory, so that a program that does not read holds up nobody.
Result<Fd> memoryFile(std::string_view text) {
  Fd fd(::memfd_create("clusterctl-input", MFD_CLOEXEC));
  if (!fd) return failErrno(errno, "cannot make a file in memory");
  CCTL_CHECK(writeAll(fd.get(), text));
  if (::lseek(fd.get(), 0, SEEK_SET) != 0) return failErrno(errno, "cannot read it back");
  return fd;
}

std::vector<std::string> lastLinesOf(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  if (lines.size() > kMaxTailLines)
    lines.erase(lines.begin(), lines.end() - static_cast<std::ptrdiff_t>(kMaxTailLines));
  return lines;
}

// spawn() gives its children no input, but sockets from 3 on: a shell makes the first one, which is
// the file in memory, its input and becomes the program.
SpawnRequest commandFor(const std::vector<std::string>& argv, int input) {
  const User user = thisUser();
  SpawnRequest request;
  request.path = "/bin/sh";
  request.argv = {"sh", "-c", "exec <&3 3<&-; exec \"$@\"", "sh"};
  request.socket_fds = {input};
  request.argv.insert(request.argv.end(), argv.begin(), argv.end());
  request.env = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                 "HOME=" + user.home, "USER=" + user.name, "LOGNAME=" + user.name, "LANG=C.UTF-8"};
  request.cwd = "/";
  return request;
}

}  // namespace

Result<void> Program::begin(const std::vector<std::string>& argv, const std::string& input) {
  CCTL_TRY(input_, memoryFile(input));
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return failErrno(errno, "pipe");
  output_.reset(ends[0]);
  const Fd write_end(ends[1]);
  ::fcntl(output_.get(), F_SETFL, O_NONBLOCK);
  SpawnRequest request = commandFor(argv, input_.get());
  request.out_fd = request.err_fd = write_end.get();
  CCTL_TRY(Spawned child, spawn(request, nullptr));
  begun_ = loop_.now();
  report_.pid = child.pid;
  report_.start_ticks = child.start_ticks;
  pidfd_ = std::move(child.pidfd);
  watch();
  return {};
}

std::string Program::describe() const {
  return timed_out_ ? "killed after " + formatDuration(time_limit_) : describeExit(report_);
}

void Program::watch() {
  output_watch_ = loop_.watch(output_.get(), EPOLLIN, [this](uint32_t) { readOutput(); });
  limit_timer_ = loop_.after(time_limit_, [this] {
    timed_out_ = true;
    signalOwnGroup(report_.pid, SIGKILL);
  });
  const auto look = [this](uint32_t) { onExit(); };
  exit_watch_ = pidfd_ ? loop_.watch(pidfd_.get(), EPOLLIN, look) : loop_.watchChildren(look);
}

// False when nothing is there (yet), or nothing will come.
bool Program::readOutput() {
  std::array<char, kMaxTail> buffer;
  const ssize_t got = ::read(output_.get(), buffer.data(), buffer.size());
  if (got == 0) output_watch_.reset();
  if (got <= 0) return false;
  tail_.append(buffer.data(), static_cast<size_t>(got));
  if (tail_.size() > kMaxTail) tail_.erase(0, tail_.size() - kMaxTail);
  return true;
}

void Program::onExit() {
  int status = 0;
  if (::waitpid(report_.pid, &status, WNOHANG) != report_.pid) return;
  exit_watch_.reset();
  limit_timer_.reset();
  // Bounded: something that it left behind may be writing for ever.
  for (int i = 0; i < 64 && readOutput(); ++i) {
  }
  if (WIFEXITED(status)) report_.exit_status = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) report_.signal = WTERMSIG(status);
  report_.at = loop_.clock().wall();
  report_.uptime = std::chrono::duration_cast<Millis>(loop_.now() - begun_);
  report_.last_lines = lastLinesOf(tail_);
  const OnEnd on_end = std::move(on_end_);  // which may destroy this object
  on_end(*this);
}

}  // namespace cctl::shim
