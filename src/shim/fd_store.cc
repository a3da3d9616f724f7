#include "shim/fd_store.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>

namespace cctl::shim {
namespace {

constexpr size_t kMaxFds = 16;
constexpr size_t kMaxText = 200;
constexpr int kRoom = 8 << 20;  // bytes of messages; each counts for about a kilobyte
constexpr size_t kMostStale = 64;

// A message is "SERIAL NAME"; a mark that ends a pass has no name.
struct Parked {
  uint64_t serial = 0;
  std::string name;
  std::vector<Fd> fds;
};

std::optional<Parked> parse(std::string_view text) {
  Parked parked;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), parked.serial);
  if (error != std::errc() || end == text.data() + text.size() || *end != ' ') return std::nullopt;
  parked.name = text.substr(static_cast<size_t>(end - text.data()) + 1);
  return parked;
}

// The oldest message; with MSG_PEEK it stays, and the descriptors are copies all the same.
std::optional<Parked> receive(int out, int flags) {
  std::array<char, kMaxText> text{};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxFds * sizeof(int))> control{};
  iovec part{text.data(), text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t got = ::recvmsg(out, &message, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0) return std::nullopt;
  std::vector<Fd> fds;
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
      fds.emplace_back(fd);
    }
  }
  auto parked = parse({text.data(), static_cast<size_t>(got)});
  if (!parked) return Parked{};  // not ours: never sent by this code, and not wanted
  parked->fds = std::move(fds);
  return parked;
}

std::vector<int> numbersOf(const std::vector<Fd>& fds) {
  std::vector<int> numbers;
  for (const Fd& fd : fds) numbers.push_back(fd.get());
  return numbers;
}

}  // namespace

Result<std::pair<Fd, Fd>> FdStore::makeEnds() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return failErrno(errno, "socketpair");
  // More than the system's limit where we may; without it a few hundred messages fit.
  if (::setsockopt(ends[0], SOL_SOCKET, SO_SNDBUFFORCE, &kRoom, sizeof kRoom) != 0)
    ::setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &kRoom, sizeof kRoom);
  return std::pair<Fd, Fd>(Fd(ends[0]), Fd(ends[1]));
}

Result<void> FdStore::send(const std::string& text, const std::vector<int>& fds) {
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxFds * sizeof(int))> control{};
  iovec part{const_cast<char*>(text.data()), text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(c), fds.data(), fds.size() * sizeof(int));
  }
  if (::sendmsg(in_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
    return failErrno(errno, "cannot keep descriptors for the next supervisor");
  return {};
}

Result<void> FdStore::park(const std::string& name, const std::vector<int>& fds) {
  if (!in_) return fail(Code::kError, "there is no anchor that keeps descriptors");
  if (fds.size() > kMaxFds || name.empty() || name.size() + 24 > kMaxText)
    return fail(Code::kError, "\"{}\": {} descriptors cannot be kept", name, fds.size());
  const uint64_t serial = next_serial_++;
  CCTL_CHECK(send(fmt::format("{} {}", serial, name), fds));
  if (!kept_.insert_or_assign(name, serial).second) ++stale_;
  if (stale_ > kMostStale) compact();
  return {};
}

void FdStore::drop(const std::string& name) {
  if (kept_.erase(name) == 0) return;
  if (++stale_ > kMostStale) compact();
}

void FdStore::dropNow(const std::string& name) {
  if (kept_.erase(name) > 0) compact();
}

// Unlike that of any pass that was cut off, of this process or another.
uint64_t FdStore::newMark() {
  return (static_cast<uint64_t>(::getpid()) << 32) | (++marks_ & 0xffffffff);
}

// Moves every message that is still wanted from the head to the tail: the copy is sent before the
// original is taken, so that one of the two is always there. A mark tells when all have passed.
void FdStore::compact() {
  const uint64_t mark = newMark();
  if (!send(fmt::format("{} ", mark), {})) return;
  stale_ = 0;
  while (auto head = receive(out_.get(), MSG_PEEK)) {
    const bool done = head->name.empty() && head->serial == mark;
    const auto wanted = kept_.find(head->name);
    if (!done && wanted != kept_.end() && wanted->second == head->serial &&
        !send(fmt::format("{} {}", head->serial, head->name), numbersOf(head->fds)))
      return;  // full: the rest is compacted another time
    receive(out_.get(), 0);
    if (done) return;
  }
}

void FdStore::load() {
  const uint64_t mark = newMark();
  if (!in_ || !send(fmt::format("{} ", mark), {})) return;
  while (auto head = receive(out_.get(), MSG_PEEK)) {
    const bool done = head->name.empty() && head->serial == mark;
    // Of several under one name, which a pass that was cut off leaves, the newest counts.
    uint64_t& newest = kept_[head->name];
    const bool kept = !done && !head->name.empty() && head->serial >= newest;
    if (kept && !send(fmt::format("{} {}", head->serial, head->name), numbersOf(head->fds))) break;
    receive(out_.get(), 0);
    if (done) break;
    if (!kept) continue;
    newest = head->serial;
    next_serial_ = std::max(next_serial_, head->serial + 1);
    found_[head->name] = std::move(head->fds);
  }
  kept_.erase("");
}

std::vector<Fd> FdStore::take(const std::string& name) {
  auto found = found_.extract(name);
  return found.empty() ? std::vector<Fd>() : std::move(found.mapped());
}

void FdStore::dropUntaken() {
  for (const auto& [name, fds] : std::exchange(found_, {})) drop(name);
}

}  // namespace cctl::shim
