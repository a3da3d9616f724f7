#include "shim/exit_log.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

namespace cctl::shim {
namespace {

constexpr off_t kHead = sizeof(uint64_t);  // how many were ever written

off_t offsetOf(uint64_t slot) { return kHead + static_cast<off_t>(slot * sizeof(ExitRecord)); }

}  // namespace

Result<Fd> ExitLog::makeMemory() {
  Fd memory(::memfd_create("clusterctl-exits", MFD_CLOEXEC));
  if (!memory) return failErrno(errno, "memfd_create");
  if (::ftruncate(memory.get(), offsetOf(kSlots)) != 0) return failErrno(errno, "memfd");
  return memory;
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

std::vector<ExitRecord> ExitLog::newestFirst() const {
  uint64_t count = 0;
  if (!memory_ || ::pread(memory_.get(), &count, sizeof count, 0) != sizeof count) return {};
  std::vector<ExitRecord> ring(kSlots);
  if (::pread(memory_.get(), ring.data(), ring.size() * sizeof(ExitRecord), kHead) <= 0) return {};
  std::vector<ExitRecord> records;
  for (uint64_t i = 0; i < std::min(count, kSlots); ++i)
    records.push_back(ring[(count - 1 - i) % kSlots]);
  return records;
}

std::optional<ExitRecord> ExitLog::find(int pid, uint64_t start_ticks) const {
  for (const ExitRecord& record : newestFirst())
    if (record.pid == pid && record.start_ticks == start_ticks) return record;
  return std::nullopt;
}

std::optional<ExitRecord> ExitLog::findNewest(int pid) const {
  for (const ExitRecord& record : newestFirst())
    if (record.pid == pid) return record;
  return std::nullopt;
}

}  // namespace cctl::shim
