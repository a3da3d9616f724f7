// A registry in a simulated world: acceptors on disks that lose what was not synced, a network that
// loses, delays, doubles and reorders, and clients that race, crash and change the members. All of
// it follows from one number, the seed.
//
// The rules of acceptors and proposers are parameters, so that wrong ones can be run: the world
// must then find a history that is not linearizable, or a value told that was not committed.
#pragma once

#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <set>
#include <string>
#include <vector>

#include "history.h"
#include "registry/acceptor_impl.h"
#include "registry/procedures.h"
#include "registry/proposer_impl.h"

namespace cctl::sim {

using namespace registry;

class SimRandom final : public Randomness {
 public:
  explicit SimRandom(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}
  uint64_t next() override {  // splitmix64
    uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  uint64_t below(uint64_t bound) { return next() % bound; }
  int between(int low, int high) {
    return low + static_cast<int>(below(static_cast<uint64_t>(high - low + 1)));
  }
  bool percent(int chance) { return static_cast<int>(below(100)) < chance; }

 private:
  uint64_t state_;
};

// What one schedule is like; drawn from its seed.
struct Weather {
  int hosts = 3;  // of the first membership; more stand by
  int spares = 3;
  int clients = 3;
  int keys = 1;
  int operations = 14;  // of each client
  int loss = 0;         // percent of messages
  int twice = 0;
  int most_delay = 20'000;  // microseconds
  int most_sync = 5'000;
  int crashes = 0;  // of hosts
  int most_down = 200'000;
  int wipes = 0;
  int cuts = 0;
  int kills = 0;    // of clients
  int changes = 0;  // of members
  int thinks = 30'000;
  bool asks_ahead = true;
  bool born = false;  // founded by rivals, under the same weather
};
Weather weatherOf(SimRandom& random);

struct Verdict {
  std::optional<std::string> wrong;
  std::vector<HistoryOp> history;
  uint64_t messages = 0;
  uint64_t changes = 0;    // of members brought to their end
  uint64_t decided = 0;    // operations
  uint64_t undecided = 0;  // operations
};

template <typename AcceptorRulesT, typename ProposerRulesT>
class World {
 public:
  explicit World(uint64_t seed) : random_(seed), weather_(weatherOf(random_)) {}
  Verdict run();
  const Weather& weather() const { return weather_; }
  bool carries_over = true;   // false: a change of members skips its third step
  bool only_history = false;  // judge by what clients saw alone
  bool trace = false;         // tells every message on standard output

 private:
  using SimAcceptor = BasicAcceptor<AcceptorRulesT>;
  using SimOperation = BasicOperation<ProposerRulesT>;

  struct Waiting {
    int client;
    AcceptorReply reply;
  };
  struct Host {
    std::string name;
    int lives = 0;  // disks it has had
    int boots = 0;
    bool up = true;
    std::unique_ptr<SimAcceptor> acceptor;
    std::vector<AcceptorRecord> disk;
    size_t durable = 0;  // records of `disk` that a crash leaves
    bool syncing = false;
    bool must_sync = false;
    std::vector<Waiting> waiting;
  };
  struct Client {
    int id = 0;
    int serial = 0;  // of what it does: events of an earlier one are void
    int left = 0;    // operations still to be done
    std::unique_ptr<View> view;
    std::unique_ptr<SimOperation> operation;
    std::unique_ptr<Listing> listing;
    std::unique_ptr<MembershipChange> change;
    std::unique_ptr<Founding> founding;
    std::optional<Beginning> beginning;
    std::map<std::string, uint64_t> known;  // revisions
    std::optional<size_t> op;               // in the history
    bool is_admin = false;
    bool must = false;  // of the last readers: tries until it succeeds
  };

  // time
  void at(int64_t delay, std::function<void()> action);
  SteadyTime now() const { return SteadyTime(std::chrono::microseconds(now_ + 1'000'000'000)); }
  void runEvents(int64_t until);

  // hosts
  void addHost(int number);
  void boot(Host& host);
  void crash(Host& host, bool wipe);
  void sync(Host& host);
  void onSynced(Host& host, int boots, size_t upto);
  void deliver(int host, int client, const AcceptorRequest& request, bool notice);
  void say(const Host& host, int client, const AcceptorRequest& request,
           const AcceptorReply& reply) const;
  void answer(Host& host, int client, const AcceptorReply& reply);

  // network
  bool isCut(int client, int host) const { return cuts_.count({client, host}) != 0; }
  int64_t delay() {
    return 50 + static_cast<int64_t>(random_.below(static_cast<uint64_t>(weather_.most_delay)));
  }
  void send(Client& client, const Send& send);
  int hostOf(const Member& member) const;

  // clients
  Client& addClient(bool admin);
  std::unique_ptr<View> freshView();
  void act(Client& client);
  void begin(Client& client, Goal goal);
  void beginChange(Client& client);
  void nextOfProcedure(Client& client);
  void beginAgain(Client& client);
  void kill(Client& client);
  template <typename Machine, typename Call>
  void feed(Client& client, Machine& machine, Call call);
  void take(Client& client, Actions actions);
  void onFinished(Client& client);
  void record(Client& client, const SimOperation& operation);
  void learn(const std::string& key, const RegisterState& state, const char* how);
  std::vector<Member> someMembers();

  void found();
  void disturb();
  void settle();

  SimRandom random_;
  Weather weather_;
  int64_t now_ = 0;
  uint64_t sequence_ = 0;
  struct Event {
    int64_t time;
    uint64_t sequence;
    std::function<void()> action;
    bool operator<(const Event& other) const {
      return std::tie(time, sequence) > std::tie(other.time, other.sequence);
    }
  };
  std::priority_queue<Event> events_;
  std::vector<Host> hosts_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::set<std::pair<int, int>> cuts_;
  Membership first_;
  Timing timing_{Millis(150), Millis(2), Millis(100), 6};
  // What is known to have been decided: who made each revision.
  std::map<std::pair<std::string, uint64_t>, UniqueId> truth_;
  struct Told {
    std::string key;
    uint64_t revision;
    UniqueId op;
  };
  std::vector<Told> told_;
  int64_t values_ = 0;
  bool calm_ = false;
  bool is_founded_ = true;
  Verdict verdict_;
};

}  // namespace cctl::sim
