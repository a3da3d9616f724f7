#include "shim/exit_log.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

namespace cctl::shim {
namespace {

constexpr off_t kHead = sizeof(uint64_t);  // how many were ever written

off_t offsetOf(uint64_t slot) { return kHead + static_cast<off_t>(slot * sizeof(ExitRecord)); }

}  // namespace

Result<ExitLog> ExitLog::make() {
  Fd memory(::memfd_create("clusterctl-exits", MFD_CLOEXEC));
  if (!memory) return failErrno(errno, "memfd_create");
  if (::ftruncate(memory.get(), offsetOf(kSlots)) != 0) return failErrno(errno, "memfd");
  return ExitLog(std::move(memory));
}

// The record first, the count after it: a writer killed in between repeats itself.
void ExitLog::add(const ExitRecord& record) {
  uint64_t count = 0;
  if (::pread(memory_.get(), &count, sizeof count, 0) != sizeof count) return;
  const uint64_t next = count + 1;
  if (::pwrite(memory_.get(), &record, sizeof record, offsetOf(count % kSlots)) != sizeof record)
    return;
  [[maybe_unused]] const ssize_t put = ::pwrite(memory_.get(), &next, sizeof next, 0);
}

std::optional<ExitRecord> ExitLog::find(int pid, uint64_t start_ticks) const {
  if (!memory_) return std::nullopt;
  std::vector<ExitRecord> records(kSlots);
  const ssize_t got =
      ::pread(memory_.get(), records.data(), records.size() * sizeof(ExitRecord), kHead);
  if (got <= 0) return std::nullopt;
  for (const ExitRecord& record : records)
    if (record.pid == pid && record.start_ticks == start_ticks) return record;
  return std::nullopt;
}

}  // namespace cctl::shim
