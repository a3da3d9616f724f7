// Descriptors that outlive the supervisor: in flight in a socket pair (SCM_RIGHTS, unix(7)) of
// which the anchor holds both ends and which nobody reads to the end. A supervisor that takes over
// looks at them and leaves them there. Bound listening sockets and log pipes live here.
//
// Kill-safe: what park() has returned for is found by every later supervisor. Not thread-safe;
// never blocks.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace cctl::shim {

class FdStore {
 public:
  // Both ends of a new, empty store.
  [[nodiscard]] static Result<std::pair<Fd, Fd>> makeEnds();
  // Ends that are not valid make a store that keeps nothing: without an anchor.
  FdStore(Fd in, Fd out) : in_(std::move(in)), out_(std::move(out)) {}

  int in() const { return in_.get(); }
  int out() const { return out_.get(); }

  // Keeps copies of at most 16 descriptors under the name; what was kept under it before is
  // dropped. kError when the kernel refuses: they then live only as long as this process.
  [[nodiscard]] Result<void> park(const std::string& name, const std::vector<int>& fds);
  // Some time later, with others.
  void drop(const std::string& name);
  // At once: a socket that is kept goes on listening.
  void dropNow(const std::string& name);
  // For a supervisor that begins: makes copies of all that is kept, hands out those of one name
  // (empty: nothing is kept under it), and drops what nobody asked for.
  void load();
  std::vector<Fd> take(const std::string& name);
  void dropUntaken();

 private:
  uint64_t newMark();
  void compact();
  [[nodiscard]] Result<void> send(const std::string& text, const std::vector<int>& fds);

  Fd in_;
  Fd out_;
  std::map<std::string, std::vector<Fd>> found_;
  std::map<std::string, uint64_t> kept_;  // name → serial of its newest message
  uint64_t next_serial_ = 1;
  uint64_t marks_ = 0;
  size_t stale_ = 0;  // messages that nobody wants any more
};

}  // namespace cctl::shim
