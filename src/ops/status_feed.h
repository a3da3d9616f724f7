// What hosts say of their instances, again and again: each host at its own pace, so that one out
// of reach delays none of the others.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "ops/probe.h"

namespace cctl::ops {

// What should run, by the registry.
struct WantedView {
  std::map<ServiceName, Desired> desired;  // of the inventory's services
  std::map<HostName, HostMark> marks;
  std::optional<Error> error;  // why it is not known
};
WantedView readWanted(Operation& operation);

// One host's last answer, and the one before it (of which rates are made).
struct HostFeed {
  std::optional<Result<HostReport>> latest;  // nullopt: it has not answered yet
  std::optional<HostReport> before;
};

class StatusFeed {
 public:
  // Asks every `every`, about one service or all when `service` is empty. `operation` must outlive
  // it. A host that was lost is connected to again.
  StatusFeed(Operation& operation, std::vector<HostName> hosts, std::string service, Millis every);
  // The operation's token must be cancelled for it to return at once: else it waits for what is
  // being asked.
  ~StatusFeed();

  // Blocks until every host and the registry have answered `times` times or failed, at most
  // `most`, or until cancelled.
  void await(int times, Millis most) const;
  std::map<HostName, HostFeed> hosts() const;
  WantedView wanted() const;

 private:
  void followHost(const HostName& host);
  void followRegistry();
  Result<HostReport> ask(const HostName& host, HostConnection*& connection,
                         std::unique_ptr<HostConnection>& again, bool first);
  bool pause();

  Operation& operation_;
  const std::string service_;
  const Millis every_;

  mutable std::mutex mutex_;  // guards what follows
  mutable std::condition_variable changed_;
  bool stopping_ = false;
  std::map<HostName, HostFeed> hosts_;
  std::map<HostName, int> answers_;
  WantedView wanted_;
  bool wanted_known_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace cctl::ops
