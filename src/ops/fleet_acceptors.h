// The acceptors of the registry, reached through the fleet's connections to their hosts. A
// connection to a shim that ended (it was upgraded, killed, or its host came back) is made anew.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "ops/fleet.h"
#include "registry/quorum_registers.h"

namespace cctl::ops {

// The oldest protocol in which a shim knows the acceptor's messages.
inline constexpr int kAcceptorProtocol = 2;

class FleetAcceptors final : public registry::AcceptorLinks {
 public:
  // Hosts that were not begun in `fleet` are, with Need::kShim. `fleet` must outlive it.
  explicit FleetAcceptors(Fleet& fleet) : fleet_(fleet) {}
  // Whoever still waits is told an error.
  ~FleetAcceptors() override;

  void send(const std::string& host, const registry::AcceptorRequest& request,
            OnReply on_reply) override;
  // As the shim said in its hello.
  void identify(const std::string& host, OnReply on_reply) override;
  void tellLate() override { fleet_.tellLate(); }

 private:
  class Line;
  Result<std::shared_ptr<Line>> lineTo(const std::string& host);

  Fleet& fleet_;
  CancelToken ending_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Line>> lines_;
};

// Who the acceptor of a host is, as its shim said when it was greeted.
registry::AcceptorReply acceptorOf(const protocol::HelloReply& hello);

// The registers of the inventory's cluster over a fleet.
registry::QuorumOptions quorumOptionsOf(const Inventory& inventory);

}  // namespace cctl::ops
