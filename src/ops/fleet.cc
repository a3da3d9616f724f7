#include "ops/fleet.h"

#include <nlohmann/json.hpp>

#include "base/version.h"
#include "model/host_paths.h"
#include "model/release_info.h"
#include "ops/absent_shim.h"
#include "transport/bootstrap.h"

namespace cctl::ops {
namespace {

// Beyond the connect time-out of SSH itself: sending the shim over a slow line takes a while.
constexpr Millis kBootstrapTimeout{120'000};
constexpr Millis kHelloTimeout{10'000};
constexpr Millis kLook{200};  // between looks at who is late

// Whatever kept us out (no route, a changed host key, a refused login), the host cannot be used.
Error asUnreachable(Error error) {
  if (error.code != Code::kCancelled && error.code != Code::kBadInput)
    error.code = Code::kUnreachable;
  return error;
}

bool needsHome(const std::string& root) { return !root.empty() && root[0] == '~'; }

}  // namespace

ssh::SshTarget targetOf(const Host& host) {
  ssh::SshTarget target;
  target.name = host.name.str();
  target.address = host.address;
  target.user = host.ssh.user;
  target.identity_file = host.ssh.identity_file;
  target.known_hosts = host.ssh.known_hosts;
  target.proxy_jump = host.ssh.proxy_jump;
  target.config_file = host.ssh.config_file;
  if (host.ssh.port) target.port = *host.ssh.port;
  if (host.ssh.connect_timeout) target.connect_timeout = *host.ssh.connect_timeout;
  if (host.ssh.become == Become::kSudo) target.become = ssh::Become::kSudo;
  return target;
}

Result<std::unique_ptr<Fleet>> Fleet::create(const Inventory& inventory, FleetOptions options,
                                             EventSink& events, const CancelToken* cancel) {
  std::unique_ptr<Fleet> fleet(new Fleet(inventory, std::move(options), events, cancel));
  CCTL_TRY(fleet->context_, ssh::SshContext::create(fleet->options_.policy));
  return fleet;
}

Fleet::Fleet(const Inventory& inventory, FleetOptions options, EventSink& events,
             const CancelToken* cancel)
    : inventory_(inventory),
      options_(std::move(options)),
      events_(events),
      cancel_(cancel),
      ending_(cancel) {}

Fleet::~Fleet() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  ending_.cancel();
  changed_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  for (const auto& [name, slot] : slots_)
    for (const OnReady& call : slot.on_ready)
      call(fail(Code::kCancelled, "{}: not connected to any more", name));
}

void Fleet::begin(const std::vector<HostName>& hosts, Need need) {
  std::unique_lock lock(mutex_);
  for (const HostName& host : hosts) {
    const auto [slot, fresh] = slots_.try_emplace(host);
    if (!fresh && slot->second.need < need) raise(lock, host, need);
    if (!fresh) continue;
    slot->second.need = need;
    queue_.push_back(host);
  }
  const size_t busy = workers_.size() - idle_;
  const size_t needed = std::min(options_.forks, busy + queue_.size());
  while (workers_.size() < needed) workers_.emplace_back([this] { work(); });
  changed_.notify_all();
}

// Whether what a lesser need has brought serves this one as well.
bool Fleet::isEnough(const Slot& slot, Need need) const {
  if (slot.error || need == Need::kSession) return !slot.error;
  if (!slot.connection.shim) return false;
  return need == Need::kShim || options_.dry_run ||
         compareDotted(slot.connection.hello.version, kVersion) >= 0;
}

void Fleet::raise(std::unique_lock<std::mutex>& lock, const HostName& host, Need need) {
  Slot& slot = slots_[host];
  changed_.wait(lock, [&] { return slot.done; });
  const bool enough = isEnough(slot, need);
  slot.need = need;
  if (enough || (slot.error && slot.error->code == Code::kCancelled)) return;
  slot.done = slot.late_told = false;
  slot.error.reset();
  slot.begun.reset();
  slot.connection = {};
  queue_.push_back(host);
}

void Fleet::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    ++idle_;
    changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    --idle_;
    if (stopping_) return;
    const HostName name = queue_.front();
    queue_.pop_front();
    Slot& slot = slots_[name];
    slot.begun = std::chrono::steady_clock::now();
    lock.unlock();
    connectOne(name, slot);
    lock.lock();
    slot.done = true;
    const std::vector<OnReady> on_ready = std::exchange(slot.on_ready, {});
    changed_.notify_all();
    lock.unlock();
    for (const OnReady& call : on_ready) call(resultOf(slot));
    lock.lock();
  }
}

void Fleet::connectOne(const HostName& name, Slot& slot) {
  const auto before = std::chrono::steady_clock::now();
  slot.connection.name = name;
  const Host* host = inventory_.findHost(name);
  const Result<void> outcome =
      host ? connect(*host, slot, &ending_)
           : Result<void>(fail(Code::kBadInput, "{}: not a host of this inventory", name));
  if (!outcome) slot.error = outcome.error();
  slot.connection.took =
      std::chrono::duration_cast<Millis>(std::chrono::steady_clock::now() - before);
}

Result<std::unique_ptr<ssh::HostLink>> Fleet::openLink(const Host& host,
                                                       const CancelToken* cancel) {
  const ssh::SshTarget target = targetOf(host);
  auto link =
      ssh::HostLink::connect(target, context_, Deadline::in(target.connect_timeout), cancel);
  if (!link) return fail(asUnreachable(link.error()));
  return link;
}

Result<void> Fleet::connect(const Host& host, Slot& slot, const CancelToken* cancel) {
  CCTL_TRY(slot.connection.link, openLink(host, cancel));
  slot.connection.root = inventory_.root;
  if (slot.need == Need::kSession) return {};
  return connectShim(host, slot, cancel);
}

Result<std::unique_ptr<HostConnection>> Fleet::connectAgain(const HostName& host,
                                                            const CancelToken* cancel) {
  Slot slot;
  slot.need = Need::kShim;
  slot.connection.name = host;
  CCTL_CHECK(connect(*inventory_.findHost(host), slot, cancel));
  return std::make_unique<HostConnection>(std::move(slot.connection));
}

Result<void> Fleet::connectShim(const Host& host, Slot& slot, const CancelToken* cancel) {
  HostConnection& connection = slot.connection;
  if (needsHome(connection.root)) {
    CCTL_TRY(const ssh::HostProbe probe, ssh::probeHost(*connection.link, connection.root,
                                                        Deadline::in(kHelloTimeout), cancel));
    connection.root = probe.root;
  }
  Result<void> opened = fail(Code::kNotFound, "not asked");
  const bool may_place = slot.need == Need::kPlaced && !options_.dry_run;
  if (!options_.force_bootstrap || options_.dry_run) opened = openShim(connection, cancel);
  if (!opened && options_.dry_run && opened.error().code == Code::kNotFound)
    return standIn(host, connection, opened.error());
  if (opened && may_place && connection.hello.version != kVersion &&
      compareDotted(connection.hello.version, kVersion) < 0)
    opened = fail(Code::kNotFound, "older");
  if (opened && may_place && !connection.hello.link_problem.empty()) {
    connection.mended = connection.hello.link_problem;
    opened = fail(Code::kNotFound, "{}", connection.mended);
  }
  if (!opened && may_place) {
    CCTL_CHECK(place(host, connection));
    opened = openShim(connection, cancel);
  }
  CCTL_CHECK(opened);
  connection.published_address = host.publishedAddress().value_or(connection.hello.advertise);
  return {};
}

// One that runs and does not answer is no new one.
Result<void> Fleet::standIn(const Host& host, HostConnection& connection, const Error& none) {
  CCTL_TRY(const ssh::HostProbe probe,
           ssh::probeHost(*connection.link, inventory_.root, Deadline::in(kHelloTimeout), cancel_));
  if (probe.shim_info) {
    const auto info = parseJson(*probe.shim_info);
    if (!info || info->value("running", true)) return fail(none);
    connection.asleep = true;
  }
  const bool root = probe.uid == 0 || targetOf(host).become == ssh::Become::kSudo;
  connection.root = probe.root;
  connection.bare = true;
  connection.hello = {};
  connection.hello.protocol = protocol::kProtocolVersion;
  connection.hello.cluster = inventory_.cluster;
  connection.hello.host = host.name.str();
  connection.hello.root = probe.root;
  connection.hello.uid = root ? 0 : static_cast<unsigned>(probe.uid);
  connection.hello.user = root ? "root" : probe.user;
  connection.hello.advertise = probe.server_address;
  connection.shim = absentShim(
      host.name.str(), connection.asleep ? "the shim there does not run" : "there is no shim yet");
  connection.published_address = host.publishedAddress().value_or(probe.server_address);
  if (connection.asleep) {
    connection.hello.registry_problem = "its shim does not run, and would be started";
    events_.warning(host.name.str(),
                    fmt::format("the shim in {} does not run and would be started; what it runs is "
                                "known only then, and is not in what follows",
                                probe.root));
  } else {
    events_.step(host.name.str(),
                 fmt::format("there is no shim yet; it would be placed in {}", probe.root));
  }
  return {};
}

Result<std::unique_ptr<ShimClient>> Fleet::openOn(ssh::HostLink& link, const HostName& name,
                                                  const std::string& root,
                                                  const CancelToken* cancel,
                                                  protocol::HelloReply& hello) {
  const auto noShim = [&](const Error& why) {
    // Of the shell that looked for the relay (POSIX.1, Shell Command Language, 2.8.2).
    if (why.message.find(": exit status 127: ") != std::string::npos)
      return fail(Code::kNotFound, "{}: there is no shim in {}; run 'clusterctl bootstrap {}'",
                  name, root, name);
    // One that runs, but whose socket cannot be bound (`clusterctl-shim relay`).
    if (why.message.find(", but nobody can talk to it: ") != std::string::npos)
      return fail(Code::kUnreachable, "{}", why.message);
    return fail(Code::kNotFound, "{}: no shim answers in {} ({}); run 'clusterctl bootstrap {}'",
                name, root, why.message, name);
  };
  auto stream = link.openControl(paths::controlSocket(root), ssh::relayCommand(root),
                                 Deadline::in(kHelloTimeout), cancel);
  if (!stream) return noShim(stream.error());
  auto shim = std::make_unique<ShimClient>(std::move(*stream), name.str());
  const Deadline deadline = Deadline::in(kHelloTimeout);
  auto answer = shim->call<protocol::HelloReply>(
      protocol::HelloRequest{protocol::kProtocolVersion, kVersion}, deadline, cancel);
  // The relay is a command that begins before it is known whether there is anything to relay to. A
  // shim that is there and silent is something else.
  if (!answer && answer.error().code == Code::kUnreachable && !link.failure() && !deadline.passed())
    return noShim(answer.error());
  if (!answer) return fail(answer.error());
  hello = std::move(*answer);
  return shim;
}

Result<void> Fleet::openShim(HostConnection& connection, const CancelToken* cancel) {
  connection.shim.reset();
  CCTL_TRY(auto shim,
           openOn(*connection.link, connection.name, connection.root, cancel, connection.hello));
  if (connection.hello.cluster != inventory_.cluster)
    return fail(
        Code::kRefused,
        "{}: {} belongs to cluster \"{}\", this inventory is \"{}\"; give this cluster another "
        "root",
        connection.name, connection.root, connection.hello.cluster, inventory_.cluster);
  connection.shim = std::move(shim);
  return {};
}

Result<std::unique_ptr<ShimClient>> Fleet::reopen(const HostConnection& connection,
                                                  std::unique_ptr<ssh::HostLink>& link,
                                                  const CancelToken* cancel) {
  ssh::HostLink* way = link ? link.get() : connection.link.get();
  if (way->failure()) {
    CCTL_TRY(link, openLink(*inventory_.findHost(connection.name), cancel));
    way = link.get();
  }
  protocol::HelloReply hello;
  return openOn(*way, connection.name, connection.root, cancel, hello);
}

Result<void> Fleet::place(const Host& host, HostConnection& connection) {
  ssh::BootstrapRequest request;
  request.root = inventory_.root;
  request.cluster = inventory_.cluster;
  request.host = host.name.str();
  request.advertise = host.publishedAddress();
  request.shim = options_.shim.bytes;
  request.shim_sha256 = options_.shim.sha256;
  request.shim_version = options_.shim.version;
  request.become = targetOf(host).become;
  request.force = options_.force_bootstrap;
  CCTL_TRY(const ssh::BootstrapResult result,
           ssh::bootstrap(*connection.link, request, Deadline::in(kBootstrapTimeout), cancel_));
  connection.root = result.probe.root;
  connection.placed = result.placed && connection.mended.empty();
  if (!connection.mended.empty())
    events_.step(host.name.str(), "mended: " + connection.mended);
  else if (result.placed)
    events_.step(host.name.str(),
                 fmt::format("shim {} placed in {}", options_.shim.version, result.probe.root));
  return {};
}

bool Fleet::isNews(const HostName& host) {
  const std::lock_guard lock(mutex_);
  return told_.insert(host).second;
}

// Of a slot that is done, which nobody changes any more.
Result<HostConnection*> Fleet::resultOf(Slot& slot) {
  if (slot.error) return fail(*slot.error);
  return &slot.connection;
}

void Fleet::whenReady(const HostName& host, OnReady on_ready) {
  std::unique_lock lock(mutex_);
  const auto slot = slots_.find(host);
  if (slot != slots_.end() && !slot->second.done) {
    slot->second.on_ready.push_back(std::move(on_ready));
    return;
  }
  lock.unlock();
  if (slot == slots_.end()) return on_ready(fail(Code::kError, "{}: never asked for", host));
  on_ready(resultOf(slot->second));
}

Result<HostConnection*> Fleet::await(const HostName& host) {
  auto results = awaitAll({host});
  return std::move(results.at(host));
}

std::map<HostName, Result<HostConnection*>> Fleet::awaitAll(const std::vector<HostName>& hosts) {
  std::unique_lock lock(mutex_);
  const auto ready = [&] {
    for (const HostName& host : hosts)
      if (const auto slot = slots_.find(host); slot != slots_.end() && !slot->second.done)
        return false;
    return true;
  };
  while (!changed_.wait_for(lock, kLook, ready)) tellLateOnes();
  std::map<HostName, Result<HostConnection*>> results;
  for (const HostName& host : hosts) {
    const auto found = slots_.find(host);
    results.emplace(host, found == slots_.end() ? fail(Code::kError, "{}: never asked for", host)
                                                : resultOf(found->second));
  }
  return results;
}

HostName Fleet::awaitFirst(const std::vector<HostName>& hosts) {
  std::unique_lock lock(mutex_);
  std::optional<HostName> first;
  const auto found = [&] {
    bool open = false;
    for (const HostName& host : hosts) {
      const auto slot = slots_.find(host);
      if (slot == slots_.end()) continue;
      open = open || !slot->second.done;
      if (!first && slot->second.done && !slot->second.error) first = host;
    }
    return first || !open;
  };
  while (!changed_.wait_for(lock, kLook, found)) tellLateOnes();
  return first.value_or(hosts.front());
}

void Fleet::tellLate() {
  const std::lock_guard lock(mutex_);
  tellLateOnes();
}

// With the mutex held.
void Fleet::tellLateOnes() {
  const auto now = std::chrono::steady_clock::now();
  for (auto& [name, slot] : slots_) {
    if (slot.done || slot.late_told || !slot.begun || now - *slot.begun < options_.late_after)
      continue;
    slot.late_told = true;
    events_.onEvent({OpEventKind::kLate,
                     name.str(),
                     fmt::format("no answer yet after {}", humanDuration(options_.late_after)),
                     {}});
  }
}

}  // namespace cctl::ops
