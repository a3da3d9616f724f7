#include "ops/known_names.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>

namespace cctl::ops {
namespace {

constexpr Millis kLook{200};  // between looks at who is late

Result<ServiceEndpoints> endpointsIn(const Result<protocol::NamesReply>& names,
                                     const ServiceName& service) {
  if (!names) return fail(names.error());
  for (const protocol::NamedService& one : names->services) {
    if (one.service != service.str()) continue;
    CCTL_TRY(const Json endpoints, parseJson(one.endpoints.text));
    return parseServiceEndpoints(Json{{"revision", one.revision}, {"endpoints", endpoints}});
  }
  return ServiceEndpoints{};
}

// What hosts say, from any thread; late answers find nobody who reads them.
class Answers {
 public:
  explicit Answers(size_t asked) : open_(asked), majority_(asked / 2 + 1) {}

  void asked(const HostName& host) {
    const std::lock_guard lock(mutex_);
    asked_.emplace(host, now());
  }

  void put(const HostName& host, const Result<ServiceEndpoints>& answer) {
    const std::lock_guard lock(mutex_);
    asked_.erase(host);
    if (answer) {
      ++answered_;
      if (answer->revision > newest_.revision) newest_ = *answer;
    } else {
      errors_.emplace(host, answer.error());
    }
    --open_;
    if (answered_ == majority_) enough_at_ = began_ + 2 * (now() - began_);
    changed_.notify_all();
  }

  Result<ServiceEndpoints> wait(Fleet& fleet) {
    std::unique_lock lock(mutex_);
    while (open_ > silent() && now() < enough_at_) {
      if (fleet.cancel() && fleet.cancel()->cancelled())
        return fail(Code::kCancelled, "interrupted");
      if (changed_.wait_until(lock, std::min(now() + kLook, enough_at_)) ==
          std::cv_status::no_timeout)
        continue;
      lock.unlock();
      fleet.tellLate();
      lock.lock();
    }
    if (answered_ > 0) return newest_;
    for (const auto& [host, when] : asked_)
      errors_.emplace(host, Error{Code::kUnreachable, host.str() + ": its shim does not answer"});
    return fail(describeHostErrors(errors_));
  }

 private:
  static SteadyTime now() { return std::chrono::steady_clock::now(); }
  // Those that are not waited for any longer.
  size_t silent() const {
    return static_cast<size_t>(std::count_if(asked_.begin(), asked_.end(), [](const auto& one) {
      return now() - one.second > kRequestTimeout;
    }));
  }

  const SteadyTime began_ = now();
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  size_t open_;
  const size_t majority_;
  size_t answered_ = 0;
  std::map<HostName, SteadyTime> asked_;  // have not answered
  SteadyTime enough_at_ = SteadyTime::max();
  ServiceEndpoints newest_;
  HostErrors errors_;
};

}  // namespace

Result<ServiceEndpoints> knownEndpoints(Operation& operation, const ServiceName& service,
                                        const std::vector<HostName>& hosts) {
  operation.fleet.begin(hosts, Need::kShim);
  const auto answers = std::make_shared<Answers>(hosts.size());
  for (const HostName& host : hosts)
    operation.fleet.whenReady(host, [=](const Result<HostConnection*>& connection) {
      if (!connection) return answers->put(host, fail(connection.error()));
      answers->asked(host);
      (*connection)
          ->shim->send<protocol::NamesReply>(protocol::NamesRequest{},
                                             [=](const Result<protocol::NamesReply>& names) {
                                               answers->put(host, endpointsIn(names, service));
                                             });
    });
  return answers->wait(operation.fleet);
}

}  // namespace cctl::ops
