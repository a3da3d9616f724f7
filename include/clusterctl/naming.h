// Follows services by name: the addresses of a service's instances, and each change of them, as
// this host's shim knows them. For processes that clusterctl runs, and for any other on the host.
//
//   clusterctl::Naming naming;                        // finds the socket by $CLUSTERCTL_NAMING
//   naming.watch("sudoku-solver", [](const clusterctl::Service& service) { use(service); });
//   for (;;) naming.wait(std::chrono::seconds(60));   // or poll naming.fd() in a loop of your own
//
// Nothing here blocks for others: the list comes from a unix socket on this host, and where there
// is no socket, from files. When the shim is away the last list stays, and a new connection is
// tried again and again. No exceptions but std::bad_alloc; no signals (no SIGPIPE); no threads
// unless you take NamingThread. C++17. Link: `pkg-config --libs clusterctl-naming`, or CMake's
// find_package(clusterctl-naming) and clusterctl::naming. For C: naming_c.h.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace clusterctl {

enum class EndpointState {
  kReady,      // takes connections
  kUnhealthy,  // fails its health check, or does not run
  kDraining,   // still runs, about to stop: open nothing new
  kOther,      // one that this version does not know: treat as not ready
};

struct Endpoint {
  std::string instance;  // "sudoku-solver/0"
  std::string host;
  std::string address;  // an IP
  std::map<std::string, std::uint16_t> ports;
  std::string version;
  EndpointState state = EndpointState::kOther;

  bool isReady() const { return state == EndpointState::kReady; }
  // The port of that name; the only one when `name` is empty. 0: there is none.
  std::uint16_t port(const std::string& name = {}) const;
  friend bool operator==(const Endpoint& a, const Endpoint& b) {
    return a.instance == b.instance && a.host == b.host && a.address == b.address &&
           a.ports == b.ports && a.version == b.version && a.state == b.state;
  }
};

enum class Source { kSocket, kFile };

struct Service {
  std::string name;
  // False: this host has never heard of it (or not yet). That is not the same as no endpoints.
  bool known = false;
  // Rises with each committed change. The shim of this host may mark an endpoint of its own as
  // unhealthy, or take that back, at the same revision.
  std::uint64_t revision = 0;
  std::vector<Endpoint> endpoints;
  // False: read from disk by a shim that has heard nothing since it started, or from a file.
  bool confirmed = false;
  Source source = Source::kSocket;

  std::vector<Endpoint> ready() const;  // those endpoints that take connections
};

struct NamingOptions {
  std::string socket;    // empty: $CLUSTERCTL_NAMING
  std::string registry;  // the directory of the files; empty: ../registry beside the socket's
  // Between attempts to connect: doubled from the first to the second, with jitter.
  std::chrono::milliseconds retry_first{50};
  std::chrono::milliseconds retry_most{2000};
};

// Not thread-safe: use one object from one thread at a time. Callbacks come from process() and
// wait() only, and may call watch() and unwatch(), but not destroy the object.
class Naming {
 public:
  // The whole object, at first and at each change, never a difference. Revisions only rise.
  using OnChange = std::function<void(const Service&)>;

  static constexpr std::size_t kMaxWatches = 256;

  explicit Naming(NamingOptions options = {});
  ~Naming();
  Naming(const Naming&) = delete;
  Naming& operator=(const Naming&) = delete;

  // Begins to follow a service; a second call for the same name replaces the callback. Does not
  // wait for an answer. False, with error(), when that is no service's name, or too many.
  bool watch(const std::string& name, OnChange on_change = {});
  void unwatch(const std::string& name);

  // What is known of a watched service; null until the first answer. Valid until the next call of
  // process(), wait() or unwatch().
  const Service* find(const std::string& name) const;

  // Readable when process() has something to do: add it to your poll, epoll or event loop, for
  // reading. The same for the object's whole life; -1 when the process has no descriptors left.
  int fd() const;
  // Does what there is to do, without blocking.
  void process();
  // poll(2) on fd(), then process(). False when nothing came in time.
  bool wait(std::chrono::milliseconds timeout);
  // The same until there is an answer for `name`; null when none came in time.
  const Service* waitFor(const std::string& name, std::chrono::milliseconds timeout);

  bool isConnected() const;
  // Why there is no connection, or what was wrong with the last answer; empty when all is well.
  const std::string& error() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// The same in a thread of its own, with all signals blocked. All members may be called from any
// thread; callbacks come on that thread, and must not destroy the object.
class NamingThread {
 public:
  explicit NamingThread(NamingOptions options = {});
  ~NamingThread();  // waits for a callback that runs
  NamingThread(const NamingThread&) = delete;
  NamingThread& operator=(const NamingThread&) = delete;

  bool watch(const std::string& name, Naming::OnChange on_change = {});
  // A callback that runs on the thread just now may still come to its end after this.
  void unwatch(const std::string& name);
  // A snapshot that stays as it is; null until the first answer.
  std::shared_ptr<const Service> find(const std::string& name) const;
  std::shared_ptr<const Service> waitFor(const std::string& name,
                                         std::chrono::milliseconds timeout) const;
  bool isConnected() const;
  std::string error() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace clusterctl
