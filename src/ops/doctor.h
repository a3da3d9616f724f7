// What is wrong with hosts: looked at, then judged. The judging is pure; its words are the command
// line's.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "ops/operation.h"
#include "ops/registry_care.h"

namespace cctl::ops {

// What a look at one host showed.
struct HostExam {
  HostName host;
  std::optional<Error> error;  // the host, or its shim, cannot be used; nothing below is set
  protocol::HelloReply hello;
  std::optional<protocol::DoctorReply> reply;  // nullopt: its shim knows no such request yet
  std::vector<protocol::InstanceStatus> instances;
  Millis clock_ahead{0};  // its clock against ours
  Millis clock_doubt{0};  // half the round trip: no better known than this
};

// Blocks until every host has been looked at or has failed. Changes nothing anywhere.
std::vector<HostExam> examineHosts(Fleet& fleet, const std::vector<HostName>& hosts,
                                   const CancelToken* cancel);

enum class Trouble {
  kUnreachable,       // detail: the error
  kNoShim,            // detail: the error
  kShimRefuses,       // detail: the error
  kGivenUp,           // names: the instance; detail: why it is not started any more
  kBrokenLink,        // detail: why nothing could start the shim again
  kOldShim,           // detail: its version
  kNoRegistry,        // of a registry host; detail: why
  kOtherDisk,         // of a member of the registry; detail: why
  kNoQuorum,          // of no host: the registry's; detail: why
  kMembersChanging,   // of no host; detail: the epoch
  kNoBootHook,        // detail: why
  kBadBootHook,       // names: what kind; detail: why it will not work
  kDiskFull,          // amount: bytes free, limit: of how many
  kInodesFull,        // the same in files
  kClockAhead,        // amount: milliseconds
  kClockBehind,       // the same
  kCoresLost,         // detail: core_pattern; names: services that want cores
  kCoresOverwritten,  // the same
  kCoresPiped,        // the same
  kCoresLimited,      // names: services that want larger cores; limit: bytes
  kPortsOverlap,      // detail: ip_local_reserved_ports; amount, limit: ip_local_port_range
  kLimitsIgnored,     // names: services with limits on memory or processors; detail: why
  kTooManyFiles,      // names: services; amount: what is asked for, limit: what may be had
  kCannotBecome,      // names: services that name another user; detail: whom the shim runs as
  kNotRoot,           // become: sudo, but the shim is not root; detail: whom it runs as
  kDamaged,           // detail: what, in the shim's words
};

enum class Level { kWarning, kBad };

struct Finding {
  HostName host;  // empty: of the whole cluster
  Trouble trouble;
  Level level = Level::kWarning;
  std::string detail;
  std::vector<std::string> names;
  uint64_t amount = 0;
  uint64_t limit = 0;
};

// A disk (or its inodes) with less than this free is nearly full; with less than that, full.
constexpr uint64_t kLowPercent = 10, kFullPercent = 3;
constexpr uint64_t kLowBytes = uint64_t{1} << 30, kFullBytes = uint64_t{100} << 20;
// A clock that is certainly more than this off.
constexpr Millis kClockWarn{1'000}, kClockBad{5'000};

// In the order of the enumeration. `version` is clusterctl's own.
std::vector<Finding> findTroubles(const Inventory& inventory, const HostExam& exam,
                                  const std::string& version);
// What is wrong with the registry as a whole, and with those of its members that are among `hosts`
// beyond what a look at the host shows.
std::vector<Finding> findRegistryTroubles(const Result<RegistryReport>& registry,
                                          const std::vector<HostName>& hosts);

}  // namespace cctl::ops
