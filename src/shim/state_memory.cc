#include "shim/state_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace cctl::shim {
namespace {

struct Head {
  uint32_t area = 0;
  uint32_t length = 0;  // 0: nothing was ever written
};

constexpr uint64_t kAreaSize = 64u << 20;  // of addresses: only pages in use take memory

off_t offsetOf(uint32_t area) { return static_cast<off_t>(4096 + area * kAreaSize); }

Head readHead(const Fd& memory) {
  Head head;
  if (::pread(memory.get(), &head, sizeof head, 0) != sizeof head || head.area > 1) return {};
  return head;
}

}  // namespace

Result<Fd> StateMemory::makeMemory() {
  Fd memory(::memfd_create("clusterctl-state", MFD_CLOEXEC));
  if (!memory) return failErrno(errno, "memfd_create");
  return memory;
}

std::optional<std::string> StateMemory::read() const {
  const Head head = kept() ? readHead(memory_) : Head{};
  if (head.length == 0) return std::nullopt;
  std::string text(head.length, '\0');
  const ssize_t got = ::pread(memory_.get(), text.data(), text.size(), offsetOf(head.area));
  if (got != static_cast<ssize_t>(text.size())) return std::nullopt;
  return text;
}

Result<void> StateMemory::write(std::string_view text) {
  if (text.size() > kAreaSize) return fail(Code::kNoSpace, "the state is too large");
  const Head head{1 - readHead(memory_).area, static_cast<uint32_t>(text.size())};
  if (::pwrite(memory_.get(), text.data(), text.size(), offsetOf(head.area)) !=
          static_cast<ssize_t>(text.size()) ||
      ::pwrite(memory_.get(), &head, sizeof head, 0) != sizeof head)
    return failErrno(errno, "memory of the state");
  return {};
}

}  // namespace cctl::shim
