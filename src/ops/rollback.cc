#include "ops/rollback.h"

#include <algorithm>

#include "ops/release_source.h"
#include "ops/specs.h"

namespace cctl::ops {
namespace {

std::string goodVersions(const Desired& desired) {
  std::vector<std::string> versions;  // one may have been good with several manifests
  for (const GoodSpec& good : desired.good)
    if (std::find(versions.begin(), versions.end(), good.version) == versions.end())
      versions.push_back(good.version);
  return versions.empty() ? "none" : fmt::format("{}", fmt::join(versions, ", "));
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
  return fail(Code::kNotFound, "there is nothing to go back to: {} has {}", service,
              desired.good.empty() ? std::string("no version that came to a good end")
                                   : "no good version but " + goodVersions(desired));
}

Result<RollbackOutcome> rollback(Operation& operation, const DeployRequest& request,
                                 const std::optional<Version>& version) {
  const Inventory& inventory = operation.inventory();
  operation.fleet.begin(allHosts(inventory), Need::kPlaced);
  CCTL_TRY(const Desired desired, readDesired(operation.registers, request.service));
  CCTL_TRY(const GoodSpec good, chooseGood(request.service, desired, version));
  CCTL_TRY(Spec spec,
           fetchSpec(operation, request.service, good.spec, hostsToAsk(inventory, desired)));
  DeployRequest then = request;
  then.version = spec.version;
  then.action = "rollback";
  const Inventory as_it_was = withSpec(inventory, std::move(spec));
  then.inventory = &as_it_was;
  CCTL_TRY(const ReleaseSource release,
           bringRelease(operation, request.service, then.version, request.dry_run));
  RollbackOutcome outcome;
  outcome.version = then.version;
  const Manifest* today = inventory.findService(request.service);
  outcome.differs = !today || specDigest(inventory, *today, then.version) != good.spec;
  CCTL_TRY(outcome.deploy, deploy(operation, then, release));
  return outcome;
}

}  // namespace cctl::ops
