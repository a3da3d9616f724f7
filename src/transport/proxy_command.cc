#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cerrno>

#include "transport/connect.h"

extern char** environ;

namespace cctl::ssh {

Result<std::shared_ptr<ProxyProcess>> ProxyProcess::start(const std::string& command, Fd* fd) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return failErrno(errno, "socketpair");
  }
  Fd ours(ends[0]);
  const Fd theirs(ends[1]);
  std::string line = "exec " + command;
  std::string sh = "/bin/sh", dash_c = "-c";
  char* const argv[] = {sh.data(), dash_c.data(), line.data(), nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, theirs.get(), 0);
  posix_spawn_file_actions_adddup2(&actions, theirs.get(), 1);
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, sh.c_str(), &actions, nullptr, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return failErrno(error, "/bin/sh");
  *fd = std::move(ours);
  return std::make_shared<ProxyProcess>(pid);
}

ProxyProcess::~ProxyProcess() {
  ::kill(pid_, SIGTERM);
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace cctl::ssh
