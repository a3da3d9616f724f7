#include "ops/status_feed.h"

#include <algorithm>

namespace cctl::ops {
namespace {

constexpr Millis kWantedEvery{5'000};
constexpr Millis kLook{100};  // how often it is looked whether to stop

}  // namespace

WantedView readWanted(Operation& operation) {
  WantedView view;
  for (const auto& [service, manifest] : operation.inventory().services) {
    auto desired = readDesired(operation.registers, service);
    if (!desired) {
      view.error = desired.error();
      return view;
    }
    view.desired[service] = std::move(*desired);
  }
  auto marks = readHostMarks(operation.registers);
  if (marks)
    view.marks = std::move(*marks);
  else
    view.error = marks.error();
  return view;
}

StatusFeed::StatusFeed(Operation& operation, std::vector<HostName> hosts, std::string service,
                       Millis every)
    : operation_(operation), service_(std::move(service)), every_(every) {
  operation_.fleet.begin(operation_.inventory().registry_hosts, Need::kShim);
  operation_.fleet.begin(hosts, Need::kShim);
  for (const HostName& host : hosts) hosts_[host], answers_[host] = 0;
  for (const HostName& host : hosts) threads_.emplace_back([this, host] { followHost(host); });
  threads_.emplace_back([this] { followRegistry(); });
}

StatusFeed::~StatusFeed() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void StatusFeed::await(int times, Millis most) const {
  const Deadline deadline = Deadline::in(most);
  std::unique_lock lock(mutex_);
  const auto all = [&] {
    return wanted_known_ && std::all_of(answers_.begin(), answers_.end(),
                                        [&](const auto& one) { return one.second >= times; });
  };
  while (!deadline.passed() && !operation_.cancel->cancelled())
    if (changed_.wait_for(lock, kLook, all)) return;
}

std::map<HostName, HostFeed> StatusFeed::hosts() const {
  const std::lock_guard lock(mutex_);
  return hosts_;
}

WantedView StatusFeed::wanted() const {
  const std::lock_guard lock(mutex_);
  return wanted_;
}

Result<HostReport> StatusFeed::ask(const HostName& host, HostConnection*& connection,
                                   std::unique_ptr<HostConnection>& again, bool first) {
  if (connection == nullptr && first) {
    CCTL_TRY(connection, operation_.fleet.await(host));
  } else if (connection == nullptr) {
    CCTL_TRY(again, operation_.fleet.connectAgain(host, operation_.cancel));
    connection = again.get();
  }
  return probeHostStatus(*connection, service_, operation_.cancel);
}

void StatusFeed::followHost(const HostName& host) {
  HostConnection* connection = nullptr;
  std::unique_ptr<HostConnection> again;
  for (bool first = true;; first = false) {
    auto report = ask(host, connection, again, first);
    if (!report) connection = nullptr;
    {
      const std::lock_guard lock(mutex_);
      HostFeed& feed = hosts_[host];
      feed.before.reset();
      if (feed.latest && *feed.latest) feed.before = std::move(**feed.latest);
      feed.latest = std::move(report);
      ++answers_[host];
    }
    changed_.notify_all();
    if (!pause()) return;
  }
}

void StatusFeed::followRegistry() {
  for (SteadyTime due{};;) {
    if (std::chrono::steady_clock::now() >= due) {
      WantedView view = readWanted(operation_);
      due = std::chrono::steady_clock::now() + std::max(every_, kWantedEvery);
      const std::lock_guard lock(mutex_);
      wanted_ = std::move(view);
      wanted_known_ = true;
    }
    changed_.notify_all();
    if (!pause()) return;
  }
}

// False: it is over.
bool StatusFeed::pause() {
  const Deadline end = Deadline::in(every_);
  std::unique_lock lock(mutex_);
  while (!end.passed() && !operation_.cancel->cancelled())
    if (changed_.wait_for(lock, std::min(kLook, every_), [this] { return stopping_; }))
      return false;
  return !stopping_ && !operation_.cancel->cancelled();
}

}  // namespace cctl::ops
