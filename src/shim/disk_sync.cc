#include "shim/disk_sync.h"

#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <memory>

namespace cctl::shim {

DiskSync::DiskSync(EventLoop& loop) : loop_(loop), instead_(loop, 16) {}

DiskSync::~DiskSync() {
  watch_.reset();
  // Waits for what is under way: the kernel still writes to the context.
  if (context_ != 0) ::syscall(SYS_io_destroy, context_);
}

bool DiskSync::open() {
  event_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event_ || ::syscall(SYS_io_setup, 4, &context_) != 0) return false;
  watch_ = loop_.watch(event_.get(), EPOLLIN, [this](uint32_t) { onEvent(); });
  return true;
}

void DiskSync::begin(Fd file, Done done) {
  jobs_.push_back({std::move(file), std::move(done)});
  if (jobs_.size() == 1) next();
}

bool DiskSync::submit(int fd) {
  iocb request{};
  request.aio_lio_opcode = IOCB_CMD_FDSYNC;
  request.aio_fildes = static_cast<uint32_t>(fd);
  request.aio_flags = IOCB_FLAG_RESFD;
  request.aio_resfd = static_cast<uint32_t>(event_.get());
  iocb* list[] = {&request};
  return ::syscall(SYS_io_submit, context_, 1, list) == 1;
}

void DiskSync::next() {
  if (!usable_) usable_ = open();
  const int fd = jobs_.front().file.get();
  if (*usable_ && submit(fd)) return;
  // The child's own copy of the descriptor: ours may be closed meanwhile.
  const auto file = std::make_shared<Fd>(std::move(jobs_.front().file));
  instead_.begin([file] { return ::fdatasync(file->get()) == 0; },
                 [this](bool well) { finish(well); });
}

void DiskSync::onEvent() {
  uint64_t count = 0;
  if (::read(event_.get(), &count, sizeof count) != sizeof count) return;
  io_event event{};
  timespec none{};
  while (::syscall(SYS_io_getevents, context_, 1, 1, &event, &none) == 1) finish(event.res == 0);
}

void DiskSync::finish(bool well) {
  Job job = std::move(jobs_.front());
  jobs_.pop_front();
  if (!jobs_.empty()) next();
  if (job.done) job.done(well);
}

}  // namespace cctl::shim
