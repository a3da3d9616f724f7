// The hosts of an inventory that an operation works with: connected in the background, many at a
// time, each with its shim.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/cancel.h"
#include "model/inventory.h"
#include "ops/event.h"
#include "ops/shim_client.h"
#include "transport/context.h"
#include "transport/fan_out.h"
#include "transport/host_link.h"

namespace cctl::ops {

// The executable that is placed on hosts, as it is embedded in clusterctl.
struct ShimImage {
  std::string_view bytes;
  std::string sha256;
  std::string version;
};

enum class Need {
  kSession,  // SSH only
  kShim,     // and the shim that is there; nothing is placed. Without one: kNotFound
  kPlaced,   // and the shim, placed or upgraded where needed
};

struct FleetOptions {
  size_t forks = 64;  // connections being made at one time
  ShimImage shim;
  ssh::SshPolicy policy;
  Millis late_after{3'000};
  bool force_bootstrap = false;  // run the installer even when all is there
  // Places and starts nothing: kPlaced is as kShim, and a host where a look over SSH finds no shim,
  // or one that does not run, has one that answers as if it were new there (HostConnection::bare).
  bool dry_run = false;
};

// One host, connected. Its members may be used from any thread.
struct HostConnection {
  HostName name;
  std::string root;  // absolute, on the host
  std::unique_ptr<ssh::HostLink> link;
  std::unique_ptr<ShimClient> shim;  // null with Need::kSession
  protocol::HelloReply hello;        // of the shim
  bool placed = false;               // this run placed or upgraded it
  std::string mended;                // what was wrong with its links and is not any more
  bool bare = false;                 // none answers: only with FleetOptions::dry_run
  bool asleep = false;               // bare, since the one that is there does not run
  Millis took{0};

  // What others connect to: the inventory's word, else the address seen at bootstrap.
  std::string published_address;
};

class Fleet {
 public:
  // `inventory`, `events` and `cancel` must outlive it. kBadInput when the SSH configuration cannot
  // be read.
  [[nodiscard]] static Result<std::unique_ptr<Fleet>> create(const Inventory& inventory,
                                                             FleetOptions options,
                                                             EventSink& events,
                                                             const CancelToken* cancel);
  // Waits for no host that is still silent: only a shim that is being placed is placed.
  ~Fleet();

  // Begins, in this order, to connect to hosts that were not asked for before; returns at once.
  // Those that were asked for with a lesser need are connected anew where that need was not enough;
  // no HostConnection of theirs may be in use then.
  void begin(const std::vector<HostName>& hosts, Need need);
  // Blocks until the host is connected or has failed. It must have been begun.
  [[nodiscard]] Result<HostConnection*> await(const HostName& host);
  // Calls back once the host is connected or has failed: at once, or later on a thread of the
  // fleet's; exactly once, also when it is not waited for any more (kCancelled). The host must have
  // been begun.
  using OnReady = std::function<void(Result<HostConnection*>)>;
  void whenReady(const HostName& host, OnReady on_ready);
  // Another connection to a host that was connected and is lost, or never was, with its shim; the
  // old one stays as it is, for those who still use it. Blocks.
  [[nodiscard]] Result<std::unique_ptr<HostConnection>> connectAgain(const HostName& host,
                                                                     const CancelToken* cancel);
  // await() for several, telling at once of those that are late.
  std::map<HostName, Result<HostConnection*>> awaitAll(const std::vector<HostName>& hosts);
  // Blocks until one of them is connected, or all have failed. Returns the first of those that are
  // connected by then, else the first of all.
  HostName awaitFirst(const std::vector<HostName>& hosts);
  // Tells of hosts that are late: for whoever waits by whenReady().
  void tellLate();

  const Inventory& inventory() const { return inventory_; }
  EventSink& events() const { return events_; }
  const CancelToken* cancel() const { return cancel_; }
  size_t forks() const { return options_.forks; }
  // True the first time that it is asked about a host: a command that leaves one out says so once.
  bool isNews(const HostName& host);

  // A way to the shim of a host beside the one that the fleet has, over the session that is there
  // or, when that was lost, over a new one, which is put into `link`. Blocks.
  [[nodiscard]] Result<std::unique_ptr<ShimClient>> reopen(const HostConnection& connection,
                                                           std::unique_ptr<ssh::HostLink>& link,
                                                           const CancelToken* cancel);

 private:
  struct Slot {
    Need need = Need::kSession;
    bool done = false;
    bool late_told = false;
    std::optional<SteadyTime> begun;
    HostConnection connection;
    std::optional<Error> error;
    std::vector<OnReady> on_ready;
  };

  Fleet(const Inventory& inventory, FleetOptions options, EventSink& events,
        const CancelToken* cancel);
  bool isEnough(const Slot& slot, Need need) const;
  void raise(std::unique_lock<std::mutex>& lock, const HostName& host, Need need);
  void work();
  void connectOne(const HostName& name, Slot& slot);
  static Result<HostConnection*> resultOf(Slot& slot);
  [[nodiscard]] Result<std::unique_ptr<ssh::HostLink>> openLink(const Host& host,
                                                                const CancelToken* cancel);
  [[nodiscard]] Result<void> connect(const Host& host, Slot& slot, const CancelToken* cancel);
  [[nodiscard]] Result<void> connectShim(const Host& host, Slot& slot, const CancelToken* cancel);
  [[nodiscard]] Result<void> openShim(HostConnection& connection, const CancelToken* cancel);
  [[nodiscard]] static Result<std::unique_ptr<ShimClient>> openOn(ssh::HostLink& link,
                                                                  const HostName& name,
                                                                  const std::string& root,
                                                                  const CancelToken* cancel,
                                                                  protocol::HelloReply& hello);
  [[nodiscard]] Result<void> place(const Host& host, HostConnection& connection);
  [[nodiscard]] Result<void> standIn(const Host& host, HostConnection& connection,
                                     const Error& none);
  void tellLateOnes();

  const Inventory& inventory_;
  const FleetOptions options_;
  EventSink& events_;
  const CancelToken* cancel_;
  CancelToken ending_;  // of the fleet, or with what it is for
  std::shared_ptr<ssh::SshContext> context_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<HostName> queue_;
  std::map<HostName, Slot> slots_;  // nodes never move
  std::vector<std::thread> workers_;
  size_t idle_ = 0;
  bool stopping_ = false;
  std::set<HostName> told_;
};

ssh::SshTarget targetOf(const Host& host);

// work(item) for all of them at once, on as many threads as the fleet may use; results in their
// order. No cancel token cuts it short: what is put back must go through.
template <typename T, typename Item, typename Work>
std::vector<Result<T>> forEachOf(const Fleet& fleet, const std::vector<Item>& items,
                                 const Work& work) {
  ssh::FanOutOptions options;
  options.forks = fleet.forks();
  return ssh::forEachHost<T>(items.size(), options,
                             [&](size_t i) -> Result<T> { return work(items[i]); });
}

// The same for work that returns a Result<void>.
template <typename Item, typename Work>
std::vector<Result<protocol::Empty>> doForEach(const Fleet& fleet, const std::vector<Item>& items,
                                               const Work& work) {
  return forEachOf<protocol::Empty>(fleet, items, [&](const Item& item) -> Result<protocol::Empty> {
    CCTL_CHECK(work(item));
    return protocol::Empty{};
  });
}

}  // namespace cctl::ops
