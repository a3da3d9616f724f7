#include <algorithm>

#include "transport/context_shared.h"
#include "transport/host_link.h"

namespace cctl::ssh {

Result<std::shared_ptr<HostLink>> JumpHost::link(const Connect& connect, Deadline deadline,
                                                 const CancelToken* cancel) {
  std::shared_ptr<Attempt> attempt;
  bool mine = false;
  {
    const std::lock_guard lock(mutex_);
    if (link_ && !link_->failure()) return link_;
    mine = !attempt_;
    if (mine) attempt_ = std::make_shared<Attempt>();
    attempt = attempt_;
  }
  if (mine) return make(connect, attempt);
  CCTL_CHECK(attempt->done.wait(deadline, cancel));
  const std::lock_guard lock(mutex_);
  if (attempt->error) return fail(*attempt->error);
  return link_;
}

Result<std::shared_ptr<HostLink>> JumpHost::make(const Connect& connect,
                                                 const std::shared_ptr<Attempt>& attempt) {
  auto made = connect();
  const std::lock_guard lock(mutex_);
  attempt_.reset();
  if (made) {
    link_ = std::move(*made);
  } else {
    attempt->error = made.error();
  }
  attempt->done.set();
  if (attempt->error) return fail(*attempt->error);
  return link_;
}

Result<void> JumpHost::enter(Deadline deadline, const CancelToken* cancel) {
  Signal turn;
  {
    const std::lock_guard lock(mutex_);
    if (free_ > 0) {
      --free_;
      return {};
    }
    queue_.push_back(&turn);
  }
  auto waited = turn.wait(deadline, cancel);
  const std::lock_guard lock(mutex_);
  const auto place = std::find(queue_.begin(), queue_.end(), &turn);
  if (place == queue_.end()) return {};  // leave() gave us its place, perhaps just now
  queue_.erase(place);
  return waited;
}

void JumpHost::leave() {
  const std::lock_guard lock(mutex_);
  if (queue_.empty()) {
    ++free_;
    return;
  }
  queue_.front()->set();
  queue_.erase(queue_.begin());
}

}  // namespace cctl::ssh
