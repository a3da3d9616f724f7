// `release prune`: takes away old releases and specs, from the local store and from hosts.
#pragma once

#include <set>

#include "ops/operation.h"

namespace cctl::ops {

struct PruneRequest {
  ServiceName service;
  size_t keep =
      3;  // newest versions of the local store, and newest good ones, that stay in any case
  bool dry_run = false;
  Millis lock_wait{0};
};

struct PruneOutcome {
  struct Item {
    std::string where;  // a host, or "local store"
    std::string version;
    uint64_t size = 0;
    std::string kept_by;  // why it stays; empty: removed, or would be
  };
  std::vector<Item> items;  // those that are not kept by rule
  int specs = 0;
  HostErrors unreachable;  // not pruned; while there are any, neither is the local store
};

// Pure. What stays whatever its age: wanted, rolling out, the newest good ones, the newest of the
// local store (`local` oldest first).
std::set<std::string> versionsToKeep(const Desired& desired, const std::vector<std::string>& local,
                                     size_t keep);

// Never what runs anywhere, is good to go back to, or has cores: hosts look themselves, at the
// moment they remove.
[[nodiscard]] Result<PruneOutcome> prune(Operation& operation, const PruneRequest& request);

}  // namespace cctl::ops
