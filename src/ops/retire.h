// `retire SERVICE`: takes a service off every host and out of the registry; its history stays.
#pragma once

#include "model/placement.h"
#include "ops/clients.h"
#include "ops/dependants.h"

namespace cctl::ops {

// What would go, and what stands in the way of it.
struct RetireView {
  std::string version;                  // empty: never deployed to the end
  Placement placement;                  // as far as the registry knows
  size_t endpoints = 0;                 // published now
  bool retired = false;                 // an earlier `retire` came to its end
  std::vector<ServiceName> dependants;  // that declare it in depends_on
  ClientsOutcome clients;

  bool exists() const { return !placement.empty() || endpoints != 0 || !version.empty(); }
  bool wanted() const { return !dependants.empty() || !clients.clients.empty(); }
};

// Changes nothing. The service may be gone from the inventory already.
[[nodiscard]] Result<RetireView> examineRetire(Operation& operation, const ServiceName& service);

struct RetireRequest {
  ServiceName service;
  Millis lock_wait{0};
  bool skip_unreachable = false;
  bool dry_run = false;  // ends where the first change would be: removes and locks nothing
};

struct RetireOutcome {
  std::vector<Placed> removed;              // by this run
  std::vector<HostName> skipped;            // unreachable and left out: what runs there goes on
  HostErrors failed;                        // hosts that did not do it
  HostErrors missed;                        // hosts that were not told that the names are gone
  std::vector<DependantChange> dependants;  // of a dry run: those that would follow
  std::optional<Error> error;               // why it ended early
  Millis took{0};
};

// Withdraws the endpoints and tells every host; drains; tells the dependants; stops and forgets on
// every host; deletes `desired/S` and `endpoints/S`. Each step can be done again: after a kill at
// any moment the same command finishes it. What is left on hosts that were out of reach stays in
// `desired/S`, for the next run.
[[nodiscard]] Result<RetireOutcome> retire(Operation& operation, const RetireRequest& request);

}  // namespace cctl::ops
