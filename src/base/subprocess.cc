#include "base/subprocess.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/fd.h"

extern char** environ;

namespace cctl {
namespace {

struct Pipe {
  Fd read, write;
};

Result<Pipe> makePipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return failErrno(errno, "pipe");
  return Pipe{Fd(fds[0]), Fd(fds[1])};
}

Result<pid_t> spawn(const std::vector<std::string>& argv, int in, int out, int err) {
  std::vector<char*> pointers;
  for (const std::string& argument : argv) pointers.push_back(const_cast<char*>(argument.c_str()));
  pointers.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in, 0);
  posix_spawn_file_actions_adddup2(&actions, out, 1);
  posix_spawn_file_actions_adddup2(&actions, err, 2);
  pid_t pid = -1;
  const int error = ::posix_spawnp(&pid, pointers[0], &actions, nullptr, pointers.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return failErrno(error, argv[0]);
  return pid;
}

// Moves bytes between our pipes and the child until its outputs end.
class Exchange {
 public:
  Exchange(Fd in, Fd out, Fd err, const SubprocessRequest& request)
      : in_(std::move(in)), out_(std::move(out)), err_(std::move(err)), request_(request) {
    ::fcntl(in_.get(), F_SETFL, O_NONBLOCK);
  }

  Result<void> run(Deadline deadline, const CancelToken* cancel) {
    while (out_ || err_) {
      if (deadline.passed())
        return fail(Code::kTimeout, "{}: no end before the deadline", request_.argv[0]);
      if (cancel && cancel->cancelled()) return fail(Code::kCancelled, "interrupted");
      CCTL_CHECK(step(deadline, cancel));
    }
    return {};
  }

  std::string out_text, err_text;

 private:
  Result<void> step(Deadline deadline, const CancelToken* cancel) {
    if (in_ && sent_ == request_.input.size()) in_.reset();
    std::array<pollfd, 4> fds = {pollfd{out_.get(), POLLIN, 0}, pollfd{err_.get(), POLLIN, 0},
                                 pollfd{in_.get(), POLLOUT, 0},
                                 pollfd{cancel ? cancel->fd() : -1, POLLIN, 0}};
    if (::poll(fds.data(), fds.size(), deadline.pollTimeout()) < 0 && errno != EINTR)
      return failErrno(errno, "poll");
    if (fds[0].revents) CCTL_CHECK(drain(out_, out_text));
    if (fds[1].revents) CCTL_CHECK(drain(err_, err_text));
    if (fds[2].revents) feed();
    return {};
  }

  Result<void> drain(Fd& fd, std::string& text) {
    char buffer[16 * 1024];
    const ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
    if (got < 0) return errno == EINTR ? Result<void>{} : failErrno(errno, "read");
    if (got == 0) fd.reset();
    text.append(buffer, static_cast<size_t>(got));
    if (text.size() > request_.output_limit)
      return fail(Code::kError, "{}: more than {} bytes of output", request_.argv[0],
                  request_.output_limit);
    return {};
  }

  // A child that closes its input early is not an error: its exit status will tell.
  void feed() {
    const ssize_t put =
        ::write(in_.get(), request_.input.data() + sent_, request_.input.size() - sent_);
    if (put > 0) sent_ += static_cast<size_t>(put);
    if (put < 0 && errno != EAGAIN && errno != EINTR) in_.reset();
  }

  Fd in_, out_, err_;
  const SubprocessRequest& request_;
  size_t sent_ = 0;
};

int reap(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

Result<SubprocessResult> runSubprocess(const SubprocessRequest& request, Deadline deadline,
                                       const CancelToken* cancel) {
  CCTL_TRY(Pipe in, makePipe());
  CCTL_TRY(Pipe out, makePipe());
  CCTL_TRY(Pipe err, makePipe());
  CCTL_TRY(const pid_t pid, spawn(request.argv, in.read.get(), out.write.get(), err.write.get()));
  in.read.reset(), out.write.reset(), err.write.reset();
  Exchange exchange(std::move(in.write), std::move(out.read), std::move(err.read), request);
  auto done = exchange.run(deadline, cancel);
  if (!done) {
    ::kill(pid, SIGKILL);
    reap(pid);
    return fail(done.error());
  }
  return SubprocessResult{reap(pid), std::move(exchange.out_text), std::move(exchange.err_text)};
}

}  // namespace cctl
