#include "ops/fleet_acceptors.h"

#include <poll.h>

#include <algorithm>

namespace cctl::ops {
namespace {

using registry::AcceptorReply;
using registry::AcceptorRequest;
using registry::Refusal;

// A shim that was killed or replaced is back within tenths of a second.
constexpr int kTries = 10;
constexpr Millis kBetweenTries{100};
constexpr Millis kRest{2'000};          // after a round of them in vain
constexpr Millis kRestOfAbsent{5'000};  // after a connection in vain to a host that never answered

Result<void> checkProtocol(const HostConnection& connection) {
  if (connection.hello.protocol >= kAcceptorProtocol) return {};
  return fail(Code::kNotFound,
              "{}: the shim there ({}) is from before the registry had a quorum; run 'clusterctl "
              "bootstrap {}'",
              connection.name, connection.hello.version, connection.name);
}

}  // namespace

// To one host. Thread-safe; kept alive by what waits for it.
class FleetAcceptors::Line : public std::enable_shared_from_this<Line> {
 public:
  using Client = std::shared_ptr<ShimClient>;
  using OnOpen = std::function<void(Result<Client>)>;

  Line(Fleet& fleet, HostName host, const CancelToken& ending)
      : fleet_(fleet), host_(std::move(host)), ending_(ending) {}

  // Calls back with a client that was usable a moment ago.
  void whenOpen(OnOpen on_open) {
    std::unique_lock lock(mutex_);
    if (client_ && !client_->failure()) {
      const Client client = client_;
      lock.unlock();
      return on_open(client);
    }
    if (error_ && std::chrono::steady_clock::now() < rest_until_) {
      const Error error = *error_;
      lock.unlock();
      return on_open(fail(error));
    }
    waiting_.push_back(std::move(on_open));
    if (std::exchange(opening_, true)) return;
    const bool first = !std::exchange(asked_, true);
    lock.unlock();
    first ? awaitFleet() : openBeside();
  }

  void identify(OnReply on_reply) {
    fleet_.whenReady(
        host_, [self = shared_from_this(), on_reply = std::move(on_reply)](const auto& connection) {
          if (!connection) return self->ask(AcceptorRequest{}, on_reply);
          if (auto fits = checkProtocol(**connection); !fits) return on_reply(fail(fits.error()));
          on_reply(acceptorOf((*connection)->hello));
        });
  }

  void ask(const AcceptorRequest& request, const OnReply& on_reply) {
    whenOpen([request, on_reply](const auto& client) {
      if (!client) return on_reply(fail(client.error()));
      (*client)->template send<AcceptorReply>(request, on_reply);
    });
  }

  void join() {
    std::thread opener;
    {
      const std::lock_guard lock(mutex_);
      opener.swap(opener_);
    }
    if (opener.get_id() == std::this_thread::get_id()) return opener.detach();
    if (opener.joinable()) opener.join();
  }

 private:
  void awaitFleet() {
    fleet_.whenReady(host_, [self = shared_from_this()](const auto& connection) {
      if (!connection) return self->rest(connection.error(), kRestOfAbsent);
      self->use(**connection);
    });
  }

  // `connection` outlives this.
  void use(HostConnection& connection) {
    if (auto fits = checkProtocol(connection); !fits) return rest(fits.error(), kRestOfAbsent);
    {
      const std::lock_guard lock(mutex_);
      connection_ = &connection;
    }
    opened(Client(Client(), connection.shim.get()), {});
  }

  // Until then whoever asks hears of the error at once.
  void rest(const Error& error, Millis how_long) {
    opened(fail(error), std::chrono::steady_clock::now() + how_long);
  }

  void openBeside() {
    join();
    const std::lock_guard lock(mutex_);
    opener_ = std::thread([self = shared_from_this(), absent = connection_ == nullptr] {
      absent ? self->connect() : self->reopen();
    });
  }

  // A host that did not answer when it was first asked may have come back since.
  void connect() {
    auto connection = fleet_.connectAgain(host_, &ending_);
    if (!connection) return rest(connection.error(), kRestOfAbsent);
    own_ = std::move(*connection);
    use(*own_);
  }

  void reopen() {
    Result<std::unique_ptr<ShimClient>> client = fail(Code::kCancelled, "not asked");
    for (int i = 0; i < kTries && !client && !ending_.cancelled(); ++i) {
      if (i > 0) (void)pause();
      client = fleet_.reopen(*connection_, link_, &ending_);
    }
    if (client)
      opened(Client(std::move(*client)), {});
    else
      rest(client.error(), kRest);
  }

  int pause() const {
    pollfd fd{ending_.fd(), POLLIN, 0};
    return ::poll(&fd, 1, static_cast<int>(kBetweenTries.count()));
  }

  void opened(Result<Client> client, SteadyTime rest_until) {
    std::vector<OnOpen> waiting;
    {
      const std::lock_guard lock(mutex_);
      opening_ = false;
      error_.reset();
      if (client)
        client_ = *client;
      else
        error_ = client.error();
      rest_until_ = rest_until;
      waiting.swap(waiting_);
    }
    for (const OnOpen& on_open : waiting) on_open(client);
  }

  Fleet& fleet_;
  const HostName host_;
  const CancelToken& ending_;
  std::unique_ptr<ssh::HostLink> link_;  // of the opener: when the fleet's session was lost
  std::unique_ptr<HostConnection> own_;  // of the opener: where the fleet has none

  std::mutex mutex_;  // guards what follows
  HostConnection* connection_ = nullptr;
  Client client_;
  bool opening_ = false;
  bool asked_ = false;  // the fleet's connection
  std::optional<Error> error_;
  SteadyTime rest_until_{};
  std::vector<OnOpen> waiting_;
  std::thread opener_;
};

FleetAcceptors::~FleetAcceptors() {
  ending_.cancel();
  for (const auto& [host, line] : lines_) line->join();
}

Result<std::shared_ptr<FleetAcceptors::Line>> FleetAcceptors::lineTo(const std::string& host) {
  const HostName name(host);
  if (fleet_.inventory().findHost(name) == nullptr)
    return fail(Code::kNotFound,
                "{}: is a member of the registry, and not a host of this inventory", host);
  const std::lock_guard lock(mutex_);
  std::shared_ptr<Line>& line = lines_[host];
  if (!line) {
    fleet_.begin({name}, Need::kShim);
    line = std::make_shared<Line>(fleet_, name, ending_);
  }
  return line;
}

void FleetAcceptors::send(const std::string& host, const AcceptorRequest& request,
                          OnReply on_reply) {
  const auto line = lineTo(host);
  if (!line) return on_reply(fail(line.error()));
  (*line)->ask(request, on_reply);
}

void FleetAcceptors::identify(const std::string& host, OnReply on_reply) {
  const auto line = lineTo(host);
  if (!line) return on_reply(fail(line.error()));
  (*line)->identify(std::move(on_reply));
}

AcceptorReply acceptorOf(const protocol::HelloReply& hello) {
  AcceptorReply reply;
  reply.acceptor = hello.acceptor;
  reply.membership = hello.membership;
  if (hello.membership) reply.epoch = hello.membership->epoch;
  reply.why = hello.registry_problem;
  if (!reply.why.empty()) reply.refusal = Refusal::kNotServing;
  return reply;
}

registry::QuorumOptions quorumOptionsOf(const Inventory& inventory) {
  registry::QuorumOptions options;
  options.cluster = inventory.cluster;
  for (const HostName& host : inventory.registry_hosts) options.hosts.push_back(host.str());
  for (const HostName& host : inventory.host_order)
    if (std::find(options.hosts.begin(), options.hosts.end(), host.str()) == options.hosts.end())
      options.others.push_back(host.str());
  return options;
}

}  // namespace cctl::ops
