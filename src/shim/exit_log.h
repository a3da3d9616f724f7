// How processes ended, told by the anchor to whichever supervisor comes to ask: a ring in a memfd
// (memfd_create(2)) that both hold open. One writer; a reader may look at any moment.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace cctl::shim {

struct ExitRecord {
  int32_t pid = 0;
  int32_t status = 0;  // as wait(2) gives it
  uint64_t start_ticks = 0;
  int64_t cpu_user_ms = 0;
  int64_t cpu_system_ms = 0;
  uint64_t max_rss = 0;  // bytes
};

class ExitLog {
 public:
  static constexpr uint64_t kSlots = 4096;

  [[nodiscard]] static Result<Fd> makeMemory();
  explicit ExitLog(Fd memory) : memory_(std::move(memory)) {}

  int fd() const { return memory_.get(); }
  void add(const ExitRecord& record);
  std::optional<ExitRecord> find(int pid, uint64_t start_ticks) const;
  // The last to end with that pid.
  std::optional<ExitRecord> findNewest(int pid) const;

 private:
  std::vector<ExitRecord> newestFirst() const;

  Fd memory_;
};

}  // namespace cctl::shim
