/* tbinit: the part of the test hosts that cannot be Python: namespaces, mounts, pid 1.
 *
 *   tbinit hold  PIDFILE                              a network namespace, kept by a sleeping
 * process tbinit boot  PIDFILE DISK HOSTNAME BOOTID CONSOLE a host: all namespaces, mounts, init
 *   tbinit plain PIDFILE CONSOLE -- CMD...            no namespaces: a subreaper over CMD
 *   tbinit enter WHAT PID START -- CMD...             run CMD in the namespaces of PID ("net",
 * "all")
 *
 * Protocol of hold, boot and plain: the launcher forks the lasting process, writes PIDFILE
 * ("PID STARTTIME"), prints "PID n", waits for one byte on stdin, lets the lasting process go on,
 * and prints "ok" or what failed. The lasting process does nothing before PIDFILE is written, and
 * dies by itself if the launcher or whoever started it dies first: so nothing ever runs unrecorded.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

#define PATH_ROOT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static int report_fd = STDERR_FILENO; /* where failures of this process are told */

static void die(const char* format, ...) {
  char text[1024];
  va_list args;
  int error = errno;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  dprintf(report_fd, "tbinit: %s: %s\n", text, strerror(error));
  _exit(125);
}

/* ---- identity of processes ------------------------------------------------------------------- */

/* Field 22 of /proc/PID/stat; the command name may hold anything, so parse from the last ')'. */
static unsigned long long startTime(pid_t pid) {
  char path[64], text[1024];
  snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  ssize_t size = read(fd, text, sizeof text - 1);
  close(fd);
  if (size <= 0) return 0;
  text[size] = 0;
  char* at = strrchr(text, ')');
  for (int field = 2; at && field < 22; ++field) at = strchr(at + 1, ' ');
  return at ? strtoull(at + 1, NULL, 10) : 0;
}

static void writePidFile(const char* path, pid_t pid) {
  char temporary[4096];
  snprintf(temporary, sizeof temporary, "%s.new", path);
  int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) die("%s", temporary);
  dprintf(fd, "%d %llu\n", (int)pid, startTime(pid));
  close(fd);
  if (rename(temporary, path) != 0) die("%s", path);
}

/* ---- the launcher ------------------------------------------------------------------------------
 */

static void resetProcess(const char* console) {
  setsid();
  umask(022);
  if (chdir("/") != 0) die("/");
  int null = open("/dev/null", O_RDWR);
  int log = open(console, O_WRONLY | O_CREAT | O_APPEND, 0644);
  if (null < 0 || log < 0) die("%s", console);
  dup2(null, 0);
  dup2(log, 1);
  dup2(log, 2);
  if (null > 2) close(null);
  if (log > 2) close(log);
}

typedef void (*Body)(char** args, int ok_fd); /* never returns; writes "ok\n" when it stands */

static int launch(const char* pid_file, Body body, char** args) {
  int go[2], ok[2];
  char text[2048] = "", byte;
  if (pipe2(go, O_CLOEXEC) != 0 || pipe2(ok, O_CLOEXEC) != 0) die("pipe");
  pid_t child = fork();
  if (child < 0) die("fork");
  if (child == 0) {
    close(go[1]);
    close(ok[0]);
    if (read(go[0], &byte, 1) != 1) _exit(125);
    close(go[0]);
    report_fd = ok[1];
    body(args, ok[1]);
    _exit(125);
  }
  close(go[0]);
  close(ok[1]);
  writePidFile(pid_file, child);
  printf("PID %d\n", (int)child);
  fflush(stdout);
  size_t size = 0;
  if (read(0, &byte, 1) == 1 && write(go[1], "g", 1) == 1) {
    for (ssize_t n; size < sizeof text - 1 && strcmp(text, "ok\n") != 0; size += (size_t)n) {
      if ((n = read(ok[0], text + size, sizeof text - 1 - size)) <= 0) break;
      text[size + (size_t)n] = 0;
    }
  }
  if (strcmp(text, "ok\n") == 0) {
    printf("ok\n");
    return 0;
  }
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  unlink(pid_file);
  printf("%s", size ? text : "tbinit: the process ended before it stood\n");
  return 1;
}

/* Clocks start near zero in each boot, as on a real machine; without time namespaces they just go
 * on. */
static void newClocks(void) {
  struct timespec monotonic, boottime;
  clock_gettime(CLOCK_MONOTONIC, &monotonic);
  clock_gettime(CLOCK_BOOTTIME, &boottime);
  if (unshare(CLONE_NEWTIME) != 0) return;
  int fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  dprintf(fd, "monotonic -%lld 0\nboottime -%lld 0\n", (long long)monotonic.tv_sec,
          (long long)boottime.tv_sec);
  close(fd);
}

/* ---- a host's mounts ---------------------------------------------------------------------------
 */

static char new_root[2048];

static const char* inRoot(const char* path) {
  static char buffer[2][4096];
  static int turn;
  turn = !turn;
  snprintf(buffer[turn], sizeof buffer[turn], "%s%s", new_root, path);
  return buffer[turn];
}

static void mountAt(const char* source, const char* path, const char* type, unsigned long flags,
                    const char* data) {
  if (mount(source, inRoot(path), type, flags, data) != 0)
    die("mount %s on %s", source, inRoot(path));
}

static void bindAt(const char* source, const char* path, int read_only) {
  mountAt(source, path, NULL, MS_BIND | MS_REC, NULL);
  if (read_only) mountAt("none", path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL);
}

static void makeDir(const char* path, mode_t mode) {
  if (mkdir(inRoot(path), mode) != 0 && errno != EEXIST) die("mkdir %s", inRoot(path));
  if (chmod(inRoot(path), mode) != 0) die("chmod %s", inRoot(path));
}

static void makeFile(const char* path, const char* content, mode_t mode) {
  int fd = open(inRoot(path), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
  if (fd < 0) die("%s", inRoot(path));
  dprintf(fd, "%s", content);
  close(fd);
}

/* The machine's programs, read-only; /usr/local is the host's own. */
static void mountPrograms(void) {
  static const char* const kDirs[] = {"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"};
  struct stat status;
  bindAt("/usr", "/usr", 1);
  bindAt(inRoot("/var/usr-local"), "/usr/local", 0);
  for (size_t i = 0; i < sizeof kDirs / sizeof *kDirs;
       ++i) { /* symlinks on a merged-/usr machine */
    if (lstat(kDirs[i], &status) == 0 && S_ISDIR(status.st_mode)) bindAt(kDirs[i], kDirs[i], 1);
  }
}

static void mountProc(const char* boot_id) {
  char line[128];
  mountAt("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
  /* Most of /proc/sys is the whole machine's: read-only, but for the network namespace's own part.
   */
  bindAt(inRoot("/proc/sys"), "/proc/sys", 0);
  bindAt(inRoot("/proc/sys/net"), "/proc/sys/net", 0);
  mountAt("none", "/proc/sys", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL);
  snprintf(line, sizeof line, "%s\n", boot_id);
  makeFile("/run/testbed.boot_id", line, 0444);
  bindAt(inRoot("/run/testbed.boot_id"), "/proc/sys/kernel/random/boot_id", 1);
  if (access(inRoot("/proc/sysrq-trigger"), F_OK) == 0)
    bindAt("/dev/null", "/proc/sysrq-trigger", 0);
}

static void makeDevice(const char* path, unsigned major_number, unsigned minor_number) {
  if (mknod(inRoot(path), S_IFCHR | 0666, makedev(major_number, minor_number)) == 0) return;
  makeFile(path, "", 0666); /* mknod may be refused where binding is not */
  bindAt(path, path, 0);
}

static void mountDev(void) {
  mountAt("tmpfs", "/dev", "tmpfs", MS_NOSUID, "mode=755,size=64k");
  mode_t old = umask(0);
  makeDevice("/dev/null", 1, 3);
  makeDevice("/dev/zero", 1, 5);
  makeDevice("/dev/full", 1, 7);
  makeDevice("/dev/random", 1, 8);
  makeDevice("/dev/urandom", 1, 9);
  makeDevice("/dev/tty", 5, 0);
  umask(old);
  makeDir("/dev/pts", 0755);
  makeDir("/dev/shm", 01777);
  mountAt("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
          "newinstance,ptmxmode=0666,mode=0620,gid=5");
  mountAt("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
  if (symlink("pts/ptmx", inRoot("/dev/ptmx")) != 0 ||
      symlink("/proc/self/fd", inRoot("/dev/fd")) != 0 ||
      symlink("/proc/self/fd/0", inRoot("/dev/stdin")) != 0 ||
      symlink("/proc/self/fd/1", inRoot("/dev/stdout")) != 0 ||
      symlink("/proc/self/fd/2", inRoot("/dev/stderr")) != 0) {
    die("links in %s", inRoot("/dev"));
  }
}

/* What a machine forgets at power-off: /run, and by Debian's custom /tmp. */
static void mountRun(void) {
  mountAt("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=32m");
  makeDir("/run/sshd", 0755);
  makeDir("/run/lock", 01777);
}

static int removeBelow(const char* path, const struct stat* status, int type, struct FTW* ftw) {
  (void)status;
  (void)type;
  if (ftw->level > 0) remove(path);
  return 0;
}

static void enterRoot(void) {
  if (chdir(new_root) != 0) die("%s", new_root);
  /* The old root is stacked over the new one and then dropped: no directory is needed for it. */
  if (syscall(SYS_pivot_root, ".", ".") != 0) die("pivot_root %s", new_root);
  if (umount2(".", MNT_DETACH) != 0 || chdir("/") != 0) die("leave the old root");
}

static void mountHost(const char* boot_id) {
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) die("make mounts private");
  bindAt(new_root, "", 0);
  /* The state directory may be on a file system mounted noexec or nosuid: a host's disk is not. */
  mountAt("none", "", NULL, MS_REMOUNT | MS_BIND, NULL);
  mountPrograms();
  mountRun();
  mountDev();
  mountAt("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL);
  mountProc(boot_id);
  enterRoot();
  nftw("/tmp", removeBelow, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* ---- init --------------------------------------------------------------------------------------
 */

struct Service {
  const char* argv[5];
  pid_t pid;
  time_t started;
};

static struct Service services[] = {
    {{"/usr/sbin/sshd", "-D", "-e", NULL}, 0, 0},
    {{"/usr/sbin/cron", "-f", NULL}, 0, 0},
};
enum { kServices = sizeof services / sizeof *services };

static pid_t spawn(const char* const* argv) {
  pid_t pid = fork();
  if (pid != 0) return pid;
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  setsid();
  execv(argv[0], (char* const*)argv);
  _exit(127);
}

static void startService(struct Service* service) {
  service->pid = spawn(service->argv);
  service->started = time(NULL);
}

/* As Debian's units say (Restart=on-failure): a service killed by a signal comes back, one that was
   told to stop stays down. */
static void onExit(pid_t pid, int status) {
  for (int i = 0; i < kServices; ++i) {
    if (services[i].pid != pid) continue;
    services[i].pid = WIFSIGNALED(status) ? -1 : 0;
    if (WIFSIGNALED(status)) continue;
    int fd = open("/run/testbed.ended", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) continue; /* only tells a waiting `up` sooner */
    dprintf(fd, "%s\n", services[i].argv[0]);
    close(fd);
  }
}

static void restartFailed(void) {
  for (int i = 0; i < kServices; ++i) {
    if (services[i].pid == -1 && time(NULL) != services[i].started) startService(&services[i]);
  }
}

static void reap(void) {
  int status;
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) onExit(pid, status);
}

/* An orderly power-off: TERM to all, five seconds, then the kernel kills what is left with pid 1.
 */
static void powerOff(void) {
  kill(-1, SIGTERM);
  kill(-1, SIGCONT);
  for (int i = 0; i < 100; ++i) {
    while (waitpid(-1, NULL, WNOHANG) > 0) continue;
    if (waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD) break;
    poll(NULL, 0, 50);
  }
  _exit(0);
}

static void initLoop(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigaddset(&set, SIGTERM);
  const struct timespec second = {1, 0};
  for (;;) {
    int failed = 0;
    for (int i = 0; i < kServices; ++i) failed |= services[i].pid == -1;
    int got = failed ? sigtimedwait(&set, NULL, &second) : sigwaitinfo(&set, NULL);
    if (got == SIGTERM) powerOff();
    reap();
    restartFailed();
  }
}

static void blockSignals(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigaddset(&set, SIGTERM);
  sigprocmask(SIG_BLOCK, &set, NULL);
}

static void setEnvironment(void) {
  clearenv();
  setenv("PATH", PATH_ROOT, 1);
  setenv("HOME", "/", 1);
}

static void setLimits(void) {
  const struct rlimit files = {1024, 524288},
                      core = {0, RLIM_INFINITY}; /* as Debian's systemd sets */
  setrlimit(RLIMIT_NOFILE, &files);
  setrlimit(RLIMIT_CORE, &core);
}

static void bootBody(char** args, int ok_fd) { /* HOSTNAME BOOTID CONSOLE */
  static const char* const kNetwork[] = {"/usr/sbin/ip", "-batch", "/etc/network/testbed.batch",
                                         NULL};
  int status = 0;
  blockSignals();
  resetProcess(args[2]);
  prctl(PR_SET_NAME, "init");
  setEnvironment();
  setLimits();
  if (sethostname(args[0], strlen(args[0])) != 0) die("sethostname");
  mountHost(args[1]);
  if (waitpid(spawn(kNetwork), &status, 0) < 0 || status != 0) {
    errno = EIO;
    die("ip -batch %s failed; see the console log", kNetwork[2]);
  }
  for (int i = 0; i < kServices; ++i) startService(&services[i]);
  if (write(ok_fd, "ok\n", 3) != 3) _exit(125);
  close(ok_fd);
  initLoop();
}

static int boot(char** args) { /* PIDFILE DISK HOSTNAME BOOTID CONSOLE */
  snprintf(new_root, sizeof new_root, "%s", args[1]);
  newClocks();
  if (unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWPID) != 0) {
    die("unshare");
  }
  return launch(args[0], bootBody, args + 2);
}

/* ---- hold, plain, enter ------------------------------------------------------------------------
 */

static void holdBody(char** args, int ok_fd) {
  (void)args;
  resetProcess("/dev/null");
  if (write(ok_fd, "ok\n", 3) != 3) _exit(125);
  close(ok_fd);
  for (;;) pause();
}

static int hold(char** args) {
  if (unshare(CLONE_NEWNET) != 0) die("unshare");
  return launch(args[0], holdBody, args);
}

/* All that sshd leaves behind becomes a child of ours, so that `down` finds it. */
static void plainBody(char** args, int ok_fd) { /* CONSOLE -- CMD... */
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  resetProcess(args[0]);
  signal(SIGTERM, SIG_IGN);
  pid_t pid = spawn((const char* const*)(args + 2));
  if (pid < 0) die("fork");
  if (write(ok_fd, "ok\n", 3) != 3) _exit(125);
  close(ok_fd);
  for (;;) {
    if (waitpid(-1, NULL, 0) < 0) pause();
  }
}

static void joinNamespaces(pid_t pid, const char* expected_start, int flags) {
  int fd = (int)syscall(SYS_pidfd_open, pid, 0);
  if (fd < 0) die("process %d", (int)pid);
  if (startTime(pid) != strtoull(expected_start, NULL, 10)) {
    errno = ESRCH;
    die("process %d", (int)pid);
  }
  if (setns(fd, flags) != 0 && setns(fd, flags & ~CLONE_NEWTIME) != 0) die("setns %d", (int)pid);
  close(fd);
}

static int waitAsShell(pid_t pid) {
  int status;
  while (waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) die("waitpid");
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int enterAll(pid_t pid, const char* start, char** command) {
  joinNamespaces(
      pid, start,
      CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWTIME);
  pid_t child = fork();
  if (child < 0) die("fork");
  if (child > 0) return waitAsShell(child);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const char* term = getenv("TERM");
  char kept[64];
  snprintf(kept, sizeof kept, "%s", term ? term : "dumb");
  setEnvironment();
  setenv("HOME", "/root", 1);
  setenv("USER", "root", 1);
  setenv("LOGNAME", "root", 1);
  setenv("SHELL", "/bin/bash", 1);
  setenv("TERM", kept, 1);
  umask(022);
  if (chdir("/root") != 0 && chdir("/") != 0) die("/root");
  execvp(command[0], command);
  die("%s", command[0]);
  return 127;
}

static int enter(char** args) { /* WHAT PID START -- CMD... */
  pid_t pid = (pid_t)atol(args[1]);
  if (strcmp(args[0], "all") == 0) return enterAll(pid, args[2], args + 4);
  joinNamespaces(pid, args[2], CLONE_NEWNET);
  execvp(args[4], args + 4);
  die("%s", args[4]);
  return 127;
}

int main(int argc, char** argv) {
  const char* mode = argc > 1 ? argv[1] : "";
  if (strcmp(mode, "hold") == 0 && argc == 3) return hold(argv + 2);
  if (strcmp(mode, "boot") == 0 && argc == 7) return boot(argv + 2);
  if (strcmp(mode, "plain") == 0 && argc >= 6) return launch(argv[2], plainBody, argv + 3);
  if (strcmp(mode, "enter") == 0 && argc >= 7) return enter(argv + 2);
  fprintf(stderr, "tbinit: see the head of tbinit.c\n");
  return 64;
}
