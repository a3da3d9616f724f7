#include "ops/prune.h"

#include <algorithm>

#include "ops/change.h"
#include "release/release_store.h"
#include "transport/fan_out.h"

namespace cctl::ops {
namespace {

class Prune {
 public:
  Prune(Operation& operation, const PruneRequest& request)
      : operation_(operation), request_(request), store_(operation.inventory().releases) {}

  Result<PruneOutcome> run() {
    const std::vector<HostName> hosts = allHosts(operation_.inventory());
    operation_.fleet.begin(hosts, Need::kPlaced);
    CCTL_TRY(desired_, readDesired(operation_.registers, request_.service));
    CCTL_CHECK(readStore());
    const std::vector<HostConnection*> connected =
        connectedOf(operation_.fleet, hosts, outcome_.unreachable);
    if (request_.dry_run)
      CCTL_CHECK(checkUnlocked(operation_, {request_.service}, request_.lock_wait));
    CCTL_CHECK(request_.dry_run ? work(connected) : underLock(connected));
    return std::move(outcome_);
  }

 private:
  // There nobody begins to need what is about to go.
  Result<void> underLock(const std::vector<HostConnection*>& hosts) {
    const auto begun = [&](Change&) -> Result<ChangeEnd> {
      CCTL_TRY(desired_, readDesired(operation_.registers, request_.service));
      CCTL_CHECK(work(hosts));
      return ChangeEnd::of(std::nullopt);
    };
    const ChangeRequest change{"prune", {request_.service}, request_.lock_wait, "", false, true};
    CCTL_CHECK(runChange(operation_, change, begun));
    return {};
  }

  Result<void> work(const std::vector<HostConnection*>& hosts) {
    keep_ = versionsToKeep(desired_, local_, request_.keep);
    pruneHosts(hosts);
    return outcome_.unreachable.empty() ? pruneStore() : Result<void>();
  }

  Result<void> readStore() {
    CCTL_TRY(release::StoreListing listing, store_.list(request_.service));
    std::sort(listing.releases.begin(), listing.releases.end(),
              [](const ReleaseInfo& a, const ReleaseInfo& b) { return a.added < b.added; });
    for (const ReleaseInfo& info : listing.releases) {
      local_.push_back(info.version.str());
      for (const FileEntry& file : info.files) local_size_[info.version.str()] += file.size;
    }
    return {};
  }

  protocol::PruneRequest hostRequest() const {
    protocol::PruneRequest request;
    request.service = request_.service.str();
    request.keep.assign(keep_.begin(), keep_.end());
    request.keep_specs.push_back(desired_.spec_digest);
    for (const GoodSpec& good : desired_.good)
      if (keep_.count(good.version) != 0) request.keep_specs.push_back(good.spec);
    request.dry_run = request_.dry_run;
    request.caller = operation_.caller(0);
    return request;
  }

  void pruneHosts(const std::vector<HostConnection*>& hosts) {
    const protocol::PruneRequest request = hostRequest();
    ssh::FanOutOptions options;
    options.forks = operation_.fleet.forks();
    options.cancel = operation_.cancel;
    const auto replies =
        ssh::forEachHost<protocol::PruneReply>(hosts.size(), options, [&](size_t i) {
          return hosts[i]->shim->call<protocol::PruneReply>(request, Deadline::in(kRequestTimeout),
                                                            operation_.cancel);
        });
    for (size_t i = 0; i < hosts.size(); ++i) {
      if (!replies[i]) {
        outcome_.unreachable.emplace(hosts[i]->name, replies[i].error());
        continue;
      }
      outcome_.specs += replies[i]->specs;
      for (const protocol::PrunedRelease& one : replies[i]->releases) {
        outcome_.items.push_back({hosts[i]->name.str(), one.version, one.size, one.kept_by});
        if (!one.kept_by.empty()) needed_.emplace(one.version, "needed on " + hosts[i]->name.str());
      }
    }
  }

  // What a host needs, the store keeps: it may have to be brought there again.
  Result<void> pruneStore() {
    for (const std::string& version : local_) {
      if (keep_.count(version) != 0) continue;
      const auto why = needed_.find(version);
      outcome_.items.push_back({"local store", version, local_size_[version],
                                why == needed_.end() ? std::string() : why->second});
      if (why == needed_.end() && !request_.dry_run)
        CCTL_CHECK(store_.remove(request_.service, Version(version)));
    }
    return {};
  }

  Operation& operation_;
  const PruneRequest& request_;
  const release::ReleaseStore store_;
  Desired desired_;
  std::vector<std::string> local_;  // oldest first
  std::map<std::string, uint64_t> local_size_;
  std::set<std::string> keep_;
  std::map<std::string, std::string> needed_;  // by a host: version → why
  PruneOutcome outcome_;
};

}  // namespace

std::set<std::string> versionsToKeep(const Desired& desired, const std::vector<std::string>& local,
                                     size_t keep) {
  std::set<std::string> kept;
  const auto add = [&](const std::string& version) {
    if (!version.empty()) kept.insert(version);
  };
  add(desired.version);
  add(desired.rolling_to);
  add(desired.last_good);
  // One is what runs; the one to go back to stays even when told to keep none.
  const size_t good = std::min(desired.good.size(), std::max<size_t>(keep, 2));
  for (size_t i = 0; i < good; ++i) add(desired.good[i].version);
  for (size_t i = local.size() - std::min(keep, local.size()); i < local.size(); ++i) add(local[i]);
  return kept;
}

Result<PruneOutcome> prune(Operation& operation, const PruneRequest& request) {
  return Prune(operation, request).run();
}

}  // namespace cctl::ops
