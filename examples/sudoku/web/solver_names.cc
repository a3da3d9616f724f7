#include "web/solver_names.h"

#include <sys/epoll.h>

#include <utility>

namespace sudoku {
namespace {

constexpr const char* kPort = "main";

void append(std::vector<HostPort>* solvers, const clusterctl::Endpoint& endpoint) {
  if (const std::uint16_t port = endpoint.port(kPort)) solvers->push_back({endpoint.address, port});
}

}  // namespace

std::vector<HostPort> solversOf(const clusterctl::Service& service) {
  std::vector<HostPort> ready, others;
  for (const clusterctl::Endpoint& endpoint : service.endpoints) {
    if (endpoint.isReady()) append(&ready, endpoint);
    if (endpoint.state == clusterctl::EndpointState::kUnhealthy) append(&others, endpoint);
  }
  return ready.empty() ? others : ready;
}

SolverNames::SolverNames(EventLoop& loop, const Log& log, OnSolvers on_solvers)
    : loop_(loop), log_(log), on_solvers_(std::move(on_solvers)) {
  loop_.add(naming_.fd(), EPOLLIN, [this](EventLoop::Events) { process(); });
}

SolverNames::~SolverNames() { loop_.remove(naming_.fd()); }

void SolverNames::follow(const std::string& service) {
  if (service == service_) return;
  if (!service_.empty()) naming_.unwatch(service_);
  service_ = service;
  if (service_.empty()) return;
  if (!naming_.watch(service_, [this](const clusterctl::Service& now) { onChange(now); }))
    log_.error("naming: " + naming_.error());
}

void SolverNames::await(std::chrono::milliseconds most) {
  if (!service_.empty()) naming_.waitFor(service_, most);
}

void SolverNames::process() {
  naming_.process();
  if (service_.empty() || naming_.error() == told_) return;
  told_ = naming_.error();
  if (!told_.empty()) log_.warn("naming: " + told_ + "; going on with what is known");
}

// A host that has not heard of the service knows less than the configuration.
void SolverNames::onChange(const clusterctl::Service& service) {
  if (!service.known) return;
  on_solvers_(solversOf(service));
}

}  // namespace sudoku
