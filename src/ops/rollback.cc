#include "ops/rollback.h"

#include <algorithm>

#include "ops/release_source.h"
#include "ops/specs.h"

namespace cctl::ops {
namespace {

std::string goodVersions(const Desired& desired) {
  std::string text;
  for (const GoodSpec& good : desired.good) text += (text.empty() ? "" : ", ") + good.version;
  return text.empty() ? "none" : text;
}

// Where it ran is where its spec and release most likely are.
std::vector<HostName> hostsToAsk(const Inventory& inventory, const Desired& desired) {
  std::vector<HostName> hosts;
  const auto add = [&](const HostName& host) {
    if (inventory.findHost(host) && std::find(hosts.begin(), hosts.end(), host) == hosts.end())
      hosts.push_back(host);
  };
  for (const auto& [index, host] : desired.placement) add(HostName(host));
  for (const HostName& host : allHosts(inventory)) add(host);
  return hosts;
}

// A dry run brings nothing here: the digest is enough to plan with.
Result<ReleaseSource> bringRelease(Operation& operation, const ServiceName& service,
                                   const Version& version, const std::vector<HostName>& hosts,
                                   bool dry_run) {
  SystemClock clock;
  auto local = loadRelease(operation.inventory(), service, version, clock.wall());
  if (local || local.error().code != Code::kNotFound) return local;
  CCTL_TRY(const std::optional<std::string> digest,
           readReleaseDigest(operation.registers, service, version));
  if (!digest) return local;
  if (dry_run) {
    operation.events.step(
        "", fmt::format("{} {} is not in the local store: it would be fetched from a host", service,
                        version));
    ReleaseSource release;
    release.info.service = service, release.info.version = version, release.info.digest = *digest;
    return release;
  }
  CCTL_CHECK(fetchRelease(operation, service, version, *digest, hosts));
  return loadRelease(operation.inventory(), service, version, clock.wall());
}

}  // namespace

Result<GoodSpec> chooseGood(const ServiceName& service, const Desired& desired,
                            const std::optional<Version>& version) {
  const bool unfinished = !desired.rolling_to.empty();
  const auto fits = [&](const GoodSpec& good) {
    if (version) return good.version == version->str();
    return unfinished || good.spec != desired.spec_digest;
  };
  const auto found = std::find_if(desired.good.begin(), desired.good.end(), fits);
  if (found != desired.good.end()) return *found;
  if (version)
    return fail(Code::kNotFound,
                "{} {} was never brought to a good end here (good: {}); to try it, use "
                "'clusterctl deploy {} {}'",
                service, *version, goodVersions(desired), service, *version);
  return fail(Code::kNotFound, "there is nothing to go back to: {} has no good version but {}",
              service, goodVersions(desired));
}

Result<RollbackOutcome> rollback(Operation& operation, const DeployRequest& request,
                                 const std::optional<Version>& version) {
  const Inventory& inventory = operation.inventory();
  operation.fleet.begin(allHosts(inventory), request.dry_run ? Need::kShim : Need::kPlaced);
  CCTL_TRY(const Desired desired, readDesired(operation.registers, request.service));
  CCTL_TRY(const GoodSpec good, chooseGood(request.service, desired, version));
  const std::vector<HostName> hosts = hostsToAsk(inventory, desired);
  CCTL_TRY(Spec spec, fetchSpec(operation, request.service, good.spec, hosts));
  DeployRequest then = request;
  then.version = spec.version;
  then.action = "rollback";
  const Inventory as_it_was = withSpec(inventory, std::move(spec));
  then.inventory = &as_it_was;
  CCTL_TRY(const ReleaseSource release,
           bringRelease(operation, request.service, then.version, hosts, request.dry_run));
  RollbackOutcome outcome;
  outcome.version = then.version;
  const Manifest* today = inventory.findService(request.service);
  outcome.differs = !today || specDigest(inventory, *today, then.version) != good.spec;
  CCTL_TRY(outcome.deploy, deploy(operation, then, release));
  return outcome;
}

}  // namespace cctl::ops
