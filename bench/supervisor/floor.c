/* The least that a supervisor can do, to measure others by: starts SERVICE once for each NAME,
 * copies its output to DIR/NAME, and starts it again when it dies: at once, or a second after a
 * start that went wrong within one. No checks, no state, no orders, no time stamps.
 *   floor DIR SERVICE NAME... */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 1024, SHORT_LIFE = 1000 };
static struct service { char* name; pid_t pid; int out[2], log; long began, due; } services[MOST];
static struct pollfd polls[2 * MOST]; /* each one's process, then its output */

static long millis(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void start(struct service* s, struct pollfd* poll, char* program) {
  char* argv[] = {program, s->name, NULL};
  s->pid = vfork();
  if (s->pid == 0) {
    dup2(s->out[1], 1);
    dup2(s->out[1], 2);
    execv(program, argv);
    _exit(127);
  }
  poll->fd = (int)syscall(SYS_pidfd_open, s->pid, 0);
  s->began = millis();
  s->due = 0;
}

static void ended(struct service* s, struct pollfd* poll, char* program) {
  waitpid(s->pid, NULL, 0);
  close(poll->fd);
  poll->fd = -1;
  if (millis() - s->began >= SHORT_LIFE) start(s, poll, program);
  else s->due = s->began + SHORT_LIFE;
}

int main(int argc, char** argv) {
  static char buffer[65536];
  const int count = argc - 3;
  if (count < 1 || count > MOST || chdir(argv[1]) != 0) return 64;
  for (int i = 0; i < count; ++i) {
    struct service* s = &services[i];
    s->name = argv[i + 3];
    s->log = open(s->name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (pipe2(s->out, O_CLOEXEC) != 0 || s->log < 0) return 1;
    polls[2 * i + 1] = (struct pollfd){s->out[0], POLLIN, 0};
    polls[2 * i].events = POLLIN;
    start(s, &polls[2 * i], argv[2]);
  }
  for (;;) {
    long wait = -1;
    for (int i = 0; i < count; ++i) {
      struct service* s = &services[i];
      if (s->due && s->due <= millis()) start(s, &polls[2 * i], argv[2]);
      if (s->due && (wait < 0 || s->due - millis() < wait)) wait = s->due - millis();
    }
    if (poll(polls, 2 * (nfds_t)count, (int)wait) < 0) return 1;
    for (int i = 0; i < count; ++i) {
      struct service* s = &services[i];
      if (polls[2 * i].revents) ended(s, &polls[2 * i], argv[2]);
      if (!polls[2 * i + 1].revents) continue;
      const ssize_t got = read(s->out[0], buffer, sizeof buffer);
      if (got > 0 && write(s->log, buffer, (size_t)got) != got) return 1;
    }
  }
}
