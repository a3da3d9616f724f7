/* Many local subscribers in one process: subscribers SOCKET COUNT SLOW SERVICE.
 * COUNT clients watch the service and read all they are told; SLOW more watch it and read nothing
 * after their first line's first bytes. Prints "ready" once all COUNT have their first line, and then, for each line
 * that all COUNT have got, the CLOCK_MONOTONIC time in ns at which the last of them got it. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static int connect_and_watch(const char *path, const char *service) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  char line[256];
  int length, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  while (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
    if (errno != EAGAIN && errno != EINTR) exit((perror("connect"), 1));
    usleep(1000); /* the backlog is full */
  }
  length = snprintf(line, sizeof line, "{\"watch\":\"%s\"}\n", service);
  if (write(fd, line, (size_t)length) != length) exit((perror("write"), 1));
  return fd;
}

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Reads what is there; returns the number of lines that ended. */
static unsigned lines_of(int fd) {
  static char buffer[1 << 16];
  unsigned lines = 0;
  ssize_t got = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
  if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) exit((fprintf(stderr, "lost a connection\n"), 1));
  for (char *end = buffer; got > 0 && (end = memchr(end, '\n', (size_t)(buffer + got - end))) != NULL; end++) lines++;
  return lines;
}

int main(int argc, char **argv) {
  struct epoll_event events[256];
  struct rlimit files;
  if (argc != 5) return 64;
  int count = atoi(argv[2]), slow = atoi(argv[3]), epoll = epoll_create1(EPOLL_CLOEXEC), behind = count;
  unsigned *seen = calloc((size_t)count, sizeof *seen), round = 1;
  int *fds = calloc((size_t)count, sizeof *fds);
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  for (int i = 0; i < count; i++) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
    fds[i] = connect_and_watch(argv[1], argv[4]);
    epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &event);
  }
  for (int i = 0; i < slow; i++) connect_and_watch(argv[1], argv[4]);
  for (;;) {
    int ready = epoll_wait(epoll, events, 256, -1);
    for (int i = 0; i < ready; i++) {
      uint32_t at = events[i].data.u32;
      unsigned before = seen[at];
      seen[at] += lines_of(fds[at]);
      if (before < round && seen[at] >= round && --behind == 0) {
        if (round == 1)
          puts("ready");
        else
          printf("%llu\n", (unsigned long long)now());
        fflush(stdout);
        round++;
        for (int j = 0; j < count; j++) behind += seen[j] < round;
      }
    }
  }
}
