// The registers of the cluster, decided by the acceptors of a quorum of its hosts: runs the
// proposer's state machines over links to them (docs/registry.md).
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "registry/procedures.h"
#include "registry/proposer.h"
#include "registry/register.h"

namespace cctl::registry {

// To the hosts. Thread-safe.
class AcceptorLinks {
 public:
  virtual ~AcceptorLinks() = default;
  // Called exactly once, on any thread, perhaps before the call returns. An error: no answer will
  // come.
  using OnReply = std::function<void(Result<AcceptorReply>)>;
  // Both return at once; a connection that is being made is waited for in the background.
  virtual void send(const std::string& host, const AcceptorRequest& request, OnReply on_reply) = 0;
  // Who the acceptor is and what it takes part in, as far as is known without asking it again.
  virtual void identify(const std::string& host, OnReply on_reply) = 0;
  // Called now and then by whoever waits for an answer: who is late may be told.
  virtual void tellLate() {}
};

struct QuorumOptions {
  std::string cluster;              // the inventory's name for it, for messages
  std::vector<std::string> hosts;   // registry.hosts of the inventory
  std::vector<std::string> others;  // its other hosts: asked only before a registry is founded
  Millis operation{15'000};         // until an operation is given up
  Timing timing{Millis(3'000), Millis(4), Millis(500), 3};
};

// Who answered, and what; by host.
using Identities = std::map<std::string, Result<AcceptorReply>>;

class QuorumRegisters final : public Registers {
 public:
  // `links` must outlive it, and every thread that `links` calls back on.
  QuorumRegisters(AcceptorLinks& links, QuorumOptions options);
  // Waits a moment for the acceptors to have heard what was committed last.
  ~QuorumRegisters() override;

  // A registry that was not founded yet holds nothing; the first write founds it, which takes all
  // of its hosts. kBadInput (from all three): the inventory names other hosts than its members.
  [[nodiscard]] Result<protocol::RegisterValue> read(const std::string& key) override;
  [[nodiscard]] Result<protocol::RegisterWriteReply> write(const std::string& key,
                                                           uint64_t expected,
                                                           JsonText value) override;
  [[nodiscard]] Result<std::vector<std::string>> list(const std::string& prefix) override;

  // Founds the registry where there is none.
  [[nodiscard]] Result<void> ensureFounded();

  // ---- for what looks after the registry itself; none of it minds which hosts the inventory names

  // The membership in force as far as is known; none: not founded. Errors: kNoQuorum when that
  // cannot be told.
  [[nodiscard]] Result<std::optional<Membership>> membership();
  // Asks each of these hosts itself (AcceptorAct::kIdentity), all at once.
  Identities identities(const std::vector<std::string>& hosts);
  // Brings a change to its end (`wanted` empty: only one that was begun).
  [[nodiscard]] Result<void> changeMembers(const MembershipChange::Wanted& wanted);
  // Founds the next incarnation over the loss of the quorum.
  [[nodiscard]] Result<void> recover(const Beginning& beginning);
  // Makes the acceptor of a host forget what it holds and take part under a new identity.
  [[nodiscard]] Result<AcceptorReply> discard(const std::string& host, const std::string& acceptor);
  // Finishes what was accepted and is not known to be committed; returns how many registers. What
  // others are writing right now is left to them.
  [[nodiscard]] Result<size_t> settle();

 private:
  class Inbox;
  class Notices;
  enum class Known { kNothing, kUnborn, kMembership };

  [[nodiscard]] Result<void> locate();
  [[nodiscard]] Result<void> locateOnce();
  bool isEnough(const Identities& answers);
  [[nodiscard]] Result<void> judge(const Identities& answers);
  [[nodiscard]] Result<void> checkHosts();
  [[nodiscard]] Result<void> begin(bool to_write);
  [[nodiscard]] Result<void> found();
  [[nodiscard]] Result<void> conduct(const Beginning& beginning, bool forced);
  [[nodiscard]] Result<void> refuseSecond();
  [[nodiscard]] Outcome run(Goal goal, View& view);
  [[nodiscard]] Outcome run(Goal goal, View& view, Timing timing);
  [[nodiscard]] Result<Outcome> decide(Goal goal);
  [[nodiscard]] static Result<Outcome> judged(const std::string& key, const Outcome& outcome);
  [[nodiscard]] Listing listAll(std::string prefix, View& view);

  using Losses = std::map<std::string, std::string>;  // who gave no answer in the end, and why
  template <typename Machine>
  Losses drive(Machine& machine);
  template <typename Procedure>
  [[nodiscard]] Result<void> follow(Procedure& procedure, View& view,
                                    std::unique_lock<std::mutex>& lock);
  void tellMembers();
  void perform(const std::vector<Send>& sends, const std::shared_ptr<Inbox>& inbox);
  void sendNotices(const std::vector<Send>& sends);

  AcceptorLinks& links_;
  const QuorumOptions options_;
  SystemRandomness randomness_;
  const std::shared_ptr<Notices> notices_;

  std::mutex locating_;  // held while it is found out; taken before mutex_
  // They did when this process began: members changed since do not end what it is doing.
  bool hosts_agreed_ = false;
  std::atomic<Known> known_ = Known::kNothing;

  mutable std::mutex mutex_;  // guards what follows, and the machines that use the view
  View view_;
};

}  // namespace cctl::registry
