#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <condition_variable>
#include <csignal>
#include <mutex>
#include <thread>
#include <utility>

#include "clusterctl/naming.h"
#include "naming/decode.h"

namespace clusterctl {

class NamingThread::Impl {
 public:
  explicit Impl(NamingOptions options)
      : naming_(std::move(options)), wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    // Signals are for the threads of the program.
    sigset_t all, before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this] { run(); });
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    wake();
    thread_.join();
    if (wake_ >= 0) ::close(wake_);
  }

  bool watch(const std::string& name, Naming::OnChange on_change) {
    const std::lock_guard lock(mutex_);
    if (!internal::isServiceName(name) ||
        (wanted_.count(name) == 0 && wanted_.size() >= Naming::kMaxWatches)) {
      error_ = "\"" + name + "\" is no service's name, or one too many";
      return false;
    }
    wanted_[name] = std::make_shared<Naming::OnChange>(std::move(on_change));
    orders_.emplace_back(name, wanted_[name]);
    wake();
    return true;
  }

  void unwatch(const std::string& name) {
    const std::lock_guard lock(mutex_);
    if (wanted_.erase(name) == 0) return;
    known_.erase(name);
    orders_.emplace_back(name, nullptr);
    wake();
  }

  std::shared_ptr<const Service> find(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    return findLocked(name);
  }

  std::shared_ptr<const Service> waitFor(const std::string& name,
                                         std::chrono::milliseconds timeout) const {
    std::unique_lock lock(mutex_);
    learned_.wait_for(lock, timeout, [&] { return findLocked(name) != nullptr; });
    return findLocked(name);
  }

  bool isConnected() const {
    const std::lock_guard lock(mutex_);
    return connected_;
  }

  std::string error() const {
    const std::lock_guard lock(mutex_);
    return error_;
  }

 private:
  using Order = std::pair<std::string, std::shared_ptr<Naming::OnChange>>;  // null: unwatch

  std::shared_ptr<const Service> findLocked(const std::string& name) const {
    const auto found = known_.find(name);
    return found == known_.end() ? nullptr : found->second;
  }

  void wake() const {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t put = ::write(wake_, &one, sizeof one);
  }

  void run() {
    while (obey()) {
      pollfd fds[] = {{naming_.fd(), POLLIN, 0}, {wake_, POLLIN, 0}};
      if (::poll(fds, 2, -1) <= 0) continue;
      std::uint64_t count = 0;
      [[maybe_unused]] const ssize_t got = ::read(wake_, &count, sizeof count);
      naming_.process();
      const std::lock_guard lock(mutex_);
      connected_ = naming_.isConnected();
      error_ = naming_.error();
    }
  }

  // False when it is time to end.
  bool obey() {
    std::vector<Order> orders;
    {
      const std::lock_guard lock(mutex_);
      if (ending_) return false;
      orders.swap(orders_);
    }
    for (const auto& [name, on_change] : orders) {
      if (on_change == nullptr)
        naming_.unwatch(name);
      else
        naming_.watch(name, [this, on_change = on_change](const Service& service) {
          onChange(service, *on_change);
        });
    }
    return true;
  }

  void onChange(const Service& service, const Naming::OnChange& on_change) {
    {
      const std::lock_guard lock(mutex_);
      if (wanted_.count(service.name) == 0) return;
      known_[service.name] = std::make_shared<const Service>(service);
    }
    learned_.notify_all();
    if (on_change) on_change(service);
  }

  Naming naming_;  // of the thread alone
  const int wake_;
  mutable std::mutex mutex_;  // guards what follows
  mutable std::condition_variable learned_;
  std::map<std::string, std::shared_ptr<Naming::OnChange>> wanted_;
  std::map<std::string, std::shared_ptr<const Service>> known_;
  std::vector<Order> orders_;
  std::string error_;
  bool connected_ = false;
  bool ending_ = false;
  std::thread thread_;
};

NamingThread::NamingThread(NamingOptions options)
    : impl_(std::make_unique<Impl>(std::move(options))) {}
NamingThread::~NamingThread() = default;

bool NamingThread::watch(const std::string& name, Naming::OnChange on_change) {
  return impl_->watch(name, std::move(on_change));
}
void NamingThread::unwatch(const std::string& name) { impl_->unwatch(name); }
std::shared_ptr<const Service> NamingThread::find(const std::string& name) const {
  return impl_->find(name);
}
std::shared_ptr<const Service> NamingThread::waitFor(const std::string& name,
                                                     std::chrono::milliseconds timeout) const {
  return impl_->waitFor(name, timeout);
}
bool NamingThread::isConnected() const { return impl_->isConnected(); }
std::string NamingThread::error() const { return impl_->error(); }

}  // namespace clusterctl
