#include "ops/release_source.h"

#include <memory>

#include "base/temp_dir.h"
#include "ops/records.h"
#include "ops/specs.h"
#include "release/release_store.h"

namespace cctl::ops {
namespace {

// A damaged record is a release that was changed, to whoever wants to deploy it.
Result<ReleaseInfo> loadUnchanged(const release::ReleaseStore& store, const ServiceName& service,
                                  const Version& version) {
  auto info = store.load(service, version);
  if (!info && info.error().code == Code::kCorrupt) info.error().code = Code::kRefused;
  return info;
}

// From where it is placed, or else from anywhere.
Result<void> fetchDeployed(Operation& operation, const release::ReleaseStore& store,
                           const ServiceName& service, const Version& version,
                           const std::string& digest) {
  CCTL_TRY(const Desired desired, readDesired(operation.registers, service));
  const std::vector<HostName> hosts = hostsToAsk(operation.inventory(), desired);
  operation.fleet.begin(hosts, Need::kShim);
  return fetchRelease(operation, store, service, version, digest, hosts);
}

}  // namespace

Result<ReleaseSource> loadRelease(const Inventory& inventory, const ServiceName& service,
                                  const Version& version, WallTime now) {
  const auto store = std::make_shared<release::ReleaseStore>(inventory.releases);
  const auto info = loadUnchanged(*store, service, version);
  if (!info) return fail(info.error());
  CCTL_TRY(const std::vector<std::string> problems, store->check(*info));
  if (!problems.empty())
    return fail(Code::kRefused, "{} {} in {} is not what was added: {}", service, version,
                store->directory(), problems.front());
  CCTL_TRY(const release::SignOffVerdict signed_off, judgeSignOff(inventory, *store, *info, now));
  CCTL_CHECK(release::checkSignOff(inventory.sign_off, *info, signed_off));
  ReleaseSource source{
      *info, [store, info = *info](const FileEntry& file) { return store->openFile(info, file); },
      signed_off.signers};
  for (const release::SignatureVerdict& signature : signed_off.signatures)
    if (signature.genuine) source.signatures.push_back(signature.text);
  return source;
}

Result<ReleaseSource> bringRelease(Operation& operation, const ServiceName& service,
                                   const Version& version, bool dry_run) {
  const Inventory& inventory = operation.inventory();
  const WallTime now = SystemClock().wall();
  auto local = loadRelease(inventory, service, version, now);
  if (local || local.error().code != Code::kNotFound) return local;
  CCTL_TRY(const std::optional<std::string> digest,
           readReleaseDigest(operation.registers, service, version));
  if (!digest) return local;
  if (!dry_run) {
    const release::ReleaseStore store(inventory.releases);
    CCTL_CHECK(fetchDeployed(operation, store, service, version, *digest));
    return loadRelease(inventory, service, version, now);
  }
  operation.events.step("", fmt::format("{} {} is not in the local store: it would be fetched from "
                                        "a host, and is looked at for now",
                                        service, version));
  CCTL_TRY(const TempDir temporary, TempDir::create("clusterctl-look"));
  Inventory elsewhere = inventory;
  elsewhere.releases = temporary.path();
  CCTL_CHECK(
      fetchDeployed(operation, release::ReleaseStore(temporary.path()), service, version, *digest));
  return loadRelease(elsewhere, service, version, now);
}

Result<release::SignOffVerdict> judgeSignOff(const Inventory& inventory,
                                             const release::ReleaseStore& store,
                                             const ReleaseInfo& info, WallTime now) {
  const SignOff& policy = inventory.sign_off;
  std::optional<std::vector<release::AllowedSigner>> allowed;
  if (!policy.allowed_signers.empty()) {
    CCTL_TRY(allowed, release::loadAllowedSigners(policy.allowed_signers));
  }
  CCTL_TRY(const auto signatures, store.signatures(info));
  return release::judgeSignatures(policy, allowed ? &*allowed : nullptr,
                                  release::ReleaseStore::sums(info), signatures, now);
}

std::string signedOffText(const ReleaseSource& release) {
  if (release.signers.empty()) return "";
  return fmt::format(", signed off by {}", fmt::join(release.signers, ", "));
}

}  // namespace cctl::ops
