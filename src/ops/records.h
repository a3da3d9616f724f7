// What operations keep in the registers: the wanted state of each service, its endpoints, the
// digests of its releases (registry.md, "Registers").
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "model/endpoint.h"
#include "model/inventory.h"
#include "model/placement.h"
#include "registry/register.h"

namespace cctl::ops {

// An instance that a person stopped: it stays so until started.
struct Held {
  std::string by;
  WallTime at{};
};

// What a roll-out brought to its end, its observe window included.
struct GoodSpec {
  std::string version;
  std::string spec;  // digest
  WallTime at{};
  bool operator==(const GoodSpec&) const = default;
};
constexpr size_t kMostGood = 10;  // remembered of one service

// desired/S
struct Desired {
  uint64_t revision = 0;                 // of the register that was read; not part of the value
  std::string version;                   // empty: never deployed to the end
  std::string spec_digest;               // of what was deployed
  std::string last_good;                 // version of the last roll-out that completed
  std::vector<GoodSpec> good;            // no spec twice, the newest first
  std::map<int, std::string> placement;  // instance → host
  std::map<int, Held> held;
  // A roll-out that has begun and not been brought to an end.
  std::string rolling_to;
  std::string rolling_by;

  std::string unfinished() const;  // "2.0.0 by alice@ws1"; empty: there is none
};

// Puts it first.
void recordGood(Desired& desired, GoodSpec good);

JsonText encodeDesired(const Desired& desired);
// An empty Desired for a register that was never written.
[[nodiscard]] Result<Desired> decodeDesired(const protocol::RegisterValue& value);
[[nodiscard]] Result<Desired> readDesired(registry::Registers& registers,
                                          const ServiceName& service);
// Reads, changes, writes, as registry::update does; returns what stands.
[[nodiscard]] Result<Desired> updateDesired(registry::Registers& registers,
                                            const ServiceName& service,
                                            const std::function<void(Desired&)>& change);

// Of every service that was deployed, in whole or in part, whether the inventory still has it or
// not.
[[nodiscard]] Result<std::map<ServiceName, Desired>> readAllDesired(registry::Registers& registers);
// Their names.
[[nodiscard]] Result<std::vector<ServiceName>> deployedServices(registry::Registers& registers);

Placement placementOf(const ServiceName& service, const Desired& desired);

// endpoints/S
[[nodiscard]] Result<ServiceEndpoints> readEndpoints(registry::Registers& registers,
                                                     const ServiceName& service);
[[nodiscard]] Result<ServiceEndpoints> updateEndpoints(
    registry::Registers& registers, const ServiceName& service,
    const std::function<void(std::vector<Endpoint>&)>& change);
// Of every service that has any, and of those that were retired: none, at their last revision.
[[nodiscard]] Result<std::map<ServiceName, ServiceEndpoints>> readAllEndpoints(
    registry::Registers& registers);

// host/H: what people said about a host.
struct HostMark {
  bool drained = false;  // nothing new is placed there
  std::string by;
  WallTime at{};
  std::vector<InstanceId> stopped;  // by the drain, since they could not be moved
};

JsonText encodeHostMark(const HostMark& mark);
// One of a register that was never written says nothing.
[[nodiscard]] Result<HostMark> decodeHostMark(const protocol::RegisterValue& value);
[[nodiscard]] Result<HostMark> readHostMark(registry::Registers& registers, const HostName& host);
[[nodiscard]] Result<HostMark> updateHostMark(registry::Registers& registers, const HostName& host,
                                              const std::function<void(HostMark&)>& change);
[[nodiscard]] Result<std::map<HostName, HostMark>> readHostMarks(registry::Registers& registers);
// The drained ones.
[[nodiscard]] Result<std::set<HostName>> readDrained(registry::Registers& registers);

// retired/S: a mark that the service was taken away. Its endpoints, none, go on being pushed, so
// that hosts that missed it learn of it. Stays for good; a service that is deployed anew does not
// mind.
[[nodiscard]] Result<void> markRetired(registry::Registers& registers, const ServiceName& service);
[[nodiscard]] Result<bool> isRetired(registry::Registers& registers, const ServiceName& service);
// Deletes desired/S and endpoints/S; tombstones stay. History and release digests are kept.
[[nodiscard]] Result<void> deleteService(registry::Registers& registers,
                                         const ServiceName& service);

// release/S/V: fixes the digest at the first deploy. kRefused when another one stands there.
[[nodiscard]] Result<void> fixReleaseDigest(registry::Registers& registers,
                                            const ServiceName& service, const Version& version,
                                            const std::string& digest);
// For dry runs: the refusal alone.
[[nodiscard]] Result<void> checkReleaseDigest(registry::Registers& registers,
                                              const ServiceName& service, const Version& version,
                                              const std::string& digest);

// nullopt: never deployed.
[[nodiscard]] Result<std::optional<std::string>> readReleaseDigest(registry::Registers& registers,
                                                                   const ServiceName& service,
                                                                   const Version& version);

}  // namespace cctl::ops
