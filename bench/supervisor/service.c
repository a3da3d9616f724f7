/* The service that every supervisor of this bench runs. The first thing it does is to read the
 * clock; it has no libc, whose beginning would cost more than what is measured.
 *
 * Its name is its argument, or else that of its directory, and says what it does:
 *   svc-N    prints a line and waits for ever
 *   crash-N  dies 400 ms after it began
 *   lines-N  writes BENCH_LINES lines each time the bench says "go"
 * Where its directory has a file notification-fd (s6), it says there that it is ready.
 *
 * The file BENCH_RECORD, shared by all services, takes down who began when, without waking
 * anybody; record.py reads it. */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

enum { ENTRIES = 65536, STARTED = 1, WRITING = 2, BLOCK = 4096 };

struct entry {
  uint64_t nanos; /* CLOCK_MONOTONIC */
  uint32_t pid;
  _Atomic uint32_t kind; /* written last: 0 is an entry that is not there yet */
  char name[16];
};

static struct record {
  _Atomic uint64_t count;
  _Atomic uint64_t go; /* a writer of lines writes its n-th batch when this is n */
  char unused[48];
  struct entry entries[ENTRIES];
}* record;

/* ---- instead of libc ---- */

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n mov %rsp,%rdi\n and $-16,%rsp\n call begin\n");
static long call(long n, long a, long b, long c, long d, long e, long f) {
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "+a"(n)
                   : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return n;
}
#elif defined(__aarch64__)
__asm__(".globl _start\n_start:\n mov x0,sp\n bl begin\n");
static long call(long n, long a, long b, long c, long d, long e, long f) {
  register long x8 __asm__("x8") = n;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc 0"
                   : "+r"(x0)
                   : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                   : "memory");
  return x0;
}
#else
#error "no system calls for this processor"
#endif
#define CALL(name, a, b, c) call(SYS_##name, (long)(a), (long)(b), (long)(c), 0, 0, 0)

static void leave(int status) {
  for (;;) CALL(exit_group, status, 0, 0);
}
static uint64_t now(void) {
  struct timespec time = {0, 0};
  CALL(clock_gettime, CLOCK_MONOTONIC, &time, 0);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}
static void sleep_millis(long millis) {
  const struct timespec time = {millis / 1000, millis % 1000 * 1000000};
  CALL(nanosleep, &time, 0, 0);
}
static long open_file(const char* path, int flags) {
  return call(SYS_openat, AT_FDCWD, (long)path, flags | O_CLOEXEC, 0, 0, 0);
}
static void write_all(long fd, const char* bytes, long size) {
  while (size > 0) {
    const long put = CALL(write, fd, bytes, size);
    if (put < 0) leave(5);
    bytes += put;
    size -= put;
  }
}
static int begins(const char* text, const char* with) {
  while (*with != 0 && *text == *with) ++text, ++with;
  return *with == 0;
}
static unsigned long number_of(const char* text) {
  unsigned long value = 0;
  for (; *text >= '0' && *text <= '9'; ++text) value = value * 10 + (unsigned long)(*text - '0');
  return value;
}
static const char* base_name(const char* path) {
  const char* base = path;
  for (; *path != 0; ++path)
    if (*path == '/') base = path + 1;
  return base;
}
static const char* variable(char** env, const char* assignment) {
  long length = 0;
  while (assignment[length] != 0) ++length;
  for (; *env; ++env)
    if (begins(*env, assignment)) return *env + length;
  return "";
}
static char* put_text(char* to, const char* text) {
  while (*text != 0) *to++ = *text++;
  return to;
}
static char* put_number(char* to, unsigned long value, int digits) {
  for (int i = digits - 1; i >= 0; --i, value /= 10) to[i] = (char)('0' + value % 10);
  return to + digits;
}

/* ---- the service ---- */

static void open_record(const char* path) {
  const long fd = open_file(path, O_RDWR);
  const long at = call(SYS_mmap, 0, sizeof *record, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (fd < 0 || at < 0) leave(3);
  CALL(close, fd, 0, 0);
  record = (struct record*)at;
}

static void note(const char* name, uint32_t kind, uint64_t nanos) {
  const uint64_t n = atomic_fetch_add(&record->count, 1);
  if (n >= ENTRIES) leave(4);
  struct entry* entry = &record->entries[n];
  entry->nanos = nanos;
  entry->pid = (uint32_t)CALL(getpid, 0, 0, 0);
  for (int i = 0; i < 15 && name[i] != 0; ++i) entry->name[i] = name[i];
  atomic_store(&entry->kind, kind);
}

static void tell_ready(void) {
  char number[8] = "";
  const long fd = open_file("notification-fd", O_RDONLY);
  if (fd < 0) return;
  CALL(read, fd, number, sizeof number - 1);
  CALL(close, fd, 0, 0);
  write_all((long)number_of(number), "\n", 1);
}

/* In blocks, as stdio does when its output is a pipe. */
static void write_lines(unsigned long lines, unsigned long batch) {
  static char block[BLOCK + 256];
  char* end = block;
  for (unsigned long i = 1; i <= lines; ++i) {
    end = put_number(put_text(end, "batch "), batch, 3);
    end = put_number(put_text(end, " line "), i, 9);
    end = put_number(put_text(end, " GET /puzzle/"), i * 7919 % 100003, 6);
    end = put_text(end, " 200 1532 bytes in 0.000412 s, agent example/1.0 (bench)\n");
    if (end - block < BLOCK && i < lines) continue;
    write_all(1, block, end - block);
    end = block;
  }
}

static void serve_lines(const char* name, unsigned long lines) {
  for (unsigned long batch = 1;; ++batch) {
    while (atomic_load(&record->go) < batch) sleep_millis(1);
    note(name, WRITING, now());
    write_lines(lines, batch);
  }
}

__attribute__((used, noreturn)) void begin(long* stack) {
  const uint64_t began = now();
  const long argc = stack[0];
  char** argv = (char**)(stack + 1);
  char** env = argv + argc + 1;
  static char directory[4096];
  CALL(getcwd, directory, sizeof directory, 0);
  const char* name = argc > 1 ? argv[1] : base_name(directory);
  open_record(variable(env, "BENCH_RECORD="));
  note(name, STARTED, began);
  tell_ready();
  char line[64];
  char* end = line;
  for (int i = 0; i < 15 && name[i] != 0; ++i) *end++ = name[i];
  write_all(1, line, put_text(end, " is up\n") - line);
  if (begins(name, "crash-")) {
    sleep_millis(400);
    leave(1);
  }
  if (begins(name, "lines-")) serve_lines(name, number_of(variable(env, "BENCH_LINES=")));
  for (;;) sleep_millis(1000000);
}
