#include "shim/survivors.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace cctl::shim {

Result<Fd> Survivors::makeMemory() {
  Fd memory(::memfd_create("clusterctl-survivors", MFD_CLOEXEC));
  if (!memory) return failErrno(errno, "memfd_create");
  if (::ftruncate(memory.get(), sizeof(Memory)) != 0) return failErrno(errno, "memfd");
  return memory;
}

Result<Survivors> Survivors::open(Fd memory) {
  struct stat info {};
  // Of another shape: from a shim of another version, whose notes cannot be read.
  if (!memory || ::fstat(memory.get(), &info) != 0 || info.st_size != sizeof(Memory)) {
    CCTL_TRY(memory, makeMemory());
  }
  void* address =
      ::mmap(nullptr, sizeof(Memory), PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  if (address == MAP_FAILED) return failErrno(errno, "mmap");
  return Survivors(std::move(memory), address);
}

Survivors::Survivors(Survivors&& other) noexcept
    : memory_(std::move(other.memory_)), address_(std::exchange(other.address_, nullptr)) {}

Survivors::~Survivors() {
  if (address_) ::munmap(address_, sizeof(Memory));
}

PidSlot* Survivors::find(std::string_view name) const {
  Memory& all = memory();
  for (int32_t i = 0; i < all.high; ++i) {
    PidSlot& slot = all.slots[i];
    if (slot.used == 0) continue;
    if (name == std::string_view(slot.name, ::strnlen(slot.name, sizeof slot.name))) return &slot;
  }
  return nullptr;
}

PidSlot* Survivors::slot(const std::string& name) {
  if (PidSlot* found = find(name)) return found;
  if (name.size() >= sizeof(PidSlot::name)) return nullptr;
  Memory& all = memory();
  int32_t i = 0;
  while (i < all.high && all.slots[i].used != 0) ++i;
  if (i == static_cast<int32_t>(kSlots)) return nullptr;
  PidSlot& slot = all.slots[i];
  slot.pid = 0;
  std::memcpy(slot.name, name.c_str(), name.size() + 1);
  slot.used = 1;  // last: a slot in use has its whole name
  all.high = std::max(all.high, i + 1);
  return &slot;
}

int Survivors::pidOf(const std::string& name) const {
  const PidSlot* found = find(name);
  return found ? found->pid : 0;
}

bool Survivors::holds(int pid) const {
  const Memory& all = memory();
  return std::any_of(all.slots, all.slots + all.high,
                     [pid](const PidSlot& slot) { return slot.used != 0 && slot.pid == pid; });
}

void Survivors::release(const std::string& name) {
  if (PidSlot* found = find(name)) found->used = 0;
}

}  // namespace cctl::shim
