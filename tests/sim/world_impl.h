// The body of World: included where it is instantiated.
#pragma once

#include "world.h"

namespace cctl::sim {

#define CCTL_WORLD                  \
  template <typename A, typename P> \
  void World<A, P>

// ---- time ------------------------------------------------------------------------------------

CCTL_WORLD::at(int64_t delay, std::function<void()> action) {
  events_.push({now_ + delay, ++sequence_, std::move(action)});
}

CCTL_WORLD::runEvents(int64_t until) {
  while (!events_.empty() && events_.top().time <= until && !verdict_.wrong) {
    const Event event = events_.top();
    events_.pop();
    now_ = event.time;
    event.action();
  }
}

// ---- hosts -----------------------------------------------------------------------------------

CCTL_WORLD::addHost(int number) {
  hosts_.emplace_back();
  hosts_.back().name = "host" + std::to_string(number);
  boot(hosts_.back());
}

CCTL_WORLD::boot(Host& host) {
  host.up = true;
  ++host.boots;
  host.acceptor = std::make_unique<SimAcceptor>(
      [&host] { return fmt::format("{}-{}", host.name, ++host.lives); });
  if (host.disk.empty()) {
    host.disk = host.acceptor->beginLife(now());
    host.durable = host.disk.size();
    return;
  }
  for (const AcceptorRecord& record : host.disk) host.acceptor->replay(record, now());
}

// Of what was not synced any part may be there, as far as the order of the log goes.
CCTL_WORLD::crash(Host& host, bool wipe) {
  if (!host.up) return;
  if (trace)
    std::printf("%9lld %s crashes%s\n", static_cast<long long>(now_), host.name.c_str(),
                wipe ? ", wiped" : "");
  host.up = false;
  host.syncing = host.must_sync = false;
  host.waiting.clear();
  host.acceptor.reset();
  const size_t kept = host.durable + random_.below(host.disk.size() - host.durable + 1);
  host.disk.resize(wipe ? 0 : kept);
  host.durable = host.disk.size();
}

CCTL_WORLD::deliver(int index, int client, const AcceptorRequest& request, bool notice) {
  Host& host = hosts_[static_cast<size_t>(index)];
  if (!host.up) return;
  AcceptorStep step = host.acceptor->handle(request, now());
  if (trace) say(host, client, request, step.reply);
  for (AcceptorRecord& record : step.records) host.disk.push_back(std::move(record));
  host.must_sync = host.must_sync || step.sync;
  if (notice) return;
  if (!host.must_sync && !host.syncing) return answer(host, client, step.reply);
  host.waiting.push_back({client, std::move(step.reply)});
  if (!host.syncing) sync(host);
}

CCTL_WORLD::say(const Host& host, int client, const AcceptorRequest& request,
                const AcceptorReply& reply) const {
  const auto in_short = [](const std::optional<RegisterState>& state) {
    if (!state) return std::string("-");
    return fmt::format("r{} {} by {:.8}", state->revision, state->value.text,
                       state->recent.empty() ? "" : state->recent.front().text());
  };
  const auto ballot = [](const Ballot& b) { return b.text().substr(0, b.text().find(':') + 5); };
  std::printf(
      "%9lld %s %s client %d %s act %d ballot %s next %s %s -> refusal %d promised %s accepted %s "
      "%s\n",
      static_cast<long long>(now_), host.name.c_str(), request.epoch.text().c_str(), client,
      request.key.c_str(), static_cast<int>(request.act), ballot(request.ballot).c_str(),
      ballot(request.next).c_str(), in_short(request.state).c_str(),
      static_cast<int>(reply.refusal), ballot(reply.promised).c_str(),
      ballot(reply.accepted).c_str(), in_short(reply.state).c_str());
}

CCTL_WORLD::sync(Host& host) {
  host.syncing = true;
  host.must_sync = false;
  const auto took = static_cast<int64_t>(random_.below(static_cast<uint64_t>(weather_.most_sync)));
  // What comes while it runs waits for the next one.
  at(took,
     [this, &host, boots = host.boots, upto = host.disk.size(), covered = host.waiting.size()] {
       if (!host.up || host.boots != boots) return;
       std::vector<Waiting> ready(host.waiting.begin(),
                                  host.waiting.begin() + static_cast<long>(covered));
       host.waiting.erase(host.waiting.begin(), host.waiting.begin() + static_cast<long>(covered));
       onSynced(host, boots, upto);
       for (const Waiting& one : ready) answer(host, one.client, one.reply);
     });
}

CCTL_WORLD::onSynced(Host& host, int, size_t upto) {
  host.durable = std::max(host.durable, upto);
  host.syncing = false;
  if (host.must_sync || !host.waiting.empty()) sync(host);
}

CCTL_WORLD::answer(Host& host, int client, const AcceptorReply& reply) {
  const int index = static_cast<int>(&host - hosts_.data());
  const int copies = !calm_ && random_.percent(weather_.twice) ? 2 : 1;
  for (int copy = 0; copy < copies; ++copy) {
    if (!calm_ && random_.percent(weather_.loss)) continue;
    at(delay(), [this, index, client, reply] {
      if (isCut(client, index)) return;
      Client& to = *clients_[static_cast<size_t>(client)];
      ++verdict_.messages;
      const std::string acceptor = reply.acceptor;
      if (to.operation)
        feed(to, *to.operation, [&](auto& m) { return m.onReply(acceptor, reply, now()); });
      else if (to.listing)
        feed(to, *to.listing, [&](auto& m) { return m.onReply(acceptor, reply, now()); });
    });
  }
}

// ---- network ---------------------------------------------------------------------------------

template <typename A, typename P>
int World<A, P>::hostOf(const Member& member) const {
  for (size_t i = 0; i < hosts_.size(); ++i)
    if (hosts_[i].name == member.host) return static_cast<int>(i);
  return -1;
}

CCTL_WORLD::send(Client& client, const Send& send) {
  const int index = hostOf(send.to);
  const int id = client.id;
  const bool reachable = hosts_[static_cast<size_t>(index)].up && !isCut(id, index);
  if (!reachable && !send.notice && random_.percent(70)) {
    at(delay(), [this, id, serial = client.serial, acceptor = send.to.acceptor] {
      Client& to = *clients_[static_cast<size_t>(id)];
      if (to.serial != serial) return;
      if (to.operation)
        feed(to, *to.operation, [&](auto& m) { return m.onLost(acceptor, now()); });
      else if (to.listing)
        feed(to, *to.listing, [&](auto& m) { return m.onLost(acceptor, now()); });
    });
    return;
  }
  const int copies = !calm_ && random_.percent(weather_.twice) ? 2 : 1;
  for (int copy = 0; copy < copies; ++copy) {
    if (!calm_ && random_.percent(weather_.loss)) continue;
    at(delay(), [this, index, id, request = send.request, notice = send.notice] {
      if (isCut(id, index)) return;
      ++verdict_.messages;
      deliver(index, id, request, notice);
    });
  }
}

// ---- clients ---------------------------------------------------------------------------------

template <typename A, typename P>
typename World<A, P>::Client& World<A, P>::addClient(bool admin) {
  clients_.push_back(std::make_unique<Client>());
  Client& client = *clients_.back();
  client.id = static_cast<int>(clients_.size()) - 1;
  client.is_admin = admin;
  client.left = admin ? weather_.changes : weather_.operations;
  client.view = freshView();
  return client;
}

// A process that starts asks the hosts; it may meet those alone that know nothing new.
template <typename A, typename P>
std::unique_ptr<View> World<A, P>::freshView() {
  auto view = std::make_unique<View>(first_, random_);
  for (const Host& host : hosts_)
    if (host.up && host.acceptor->membership() && (calm_ || random_.percent(40)))
      (void)view->adopt(*host.acceptor->membership());
  view->asks_ahead = weather_.asks_ahead;
  return view;
}

CCTL_WORLD::act(Client& client) {
  if (client.left-- <= 0) return;
  if (client.is_admin) return beginChange(client);
  const std::string key = "k" + std::to_string(random_.below(static_cast<uint64_t>(weather_.keys)));
  Goal goal;
  goal.key = key;
  if (random_.percent(60)) {
    goal.kind = Goal::Kind::kSwap;
    goal.expected = client.known[key];
    if (random_.percent(10) && goal.expected > 0) --goal.expected;
    if (!random_.percent(15)) goal.value.text = std::to_string(++values_);
  }
  begin(client, std::move(goal));
}

CCTL_WORLD::begin(Client& client, Goal goal) {
  const int serial = ++client.serial;
  if (!client.change && !client.founding) {
    HistoryOp op;
    op.client = client.id;
    op.key = goal.key;
    op.kind = goal.kind == Goal::Kind::kRead ? OpKind::kRead : OpKind::kCas;
    op.expected = goal.expected;
    op.value = goal.value.text;
    op.call = now_ * 1000;
    client.op = verdict_.history.size();
    verdict_.history.push_back(op);
  }
  client.operation = std::make_unique<SimOperation>(std::move(goal), *client.view, timing_);
  at(2'000'000, [this, id = client.id, serial] {
    Client& late = *clients_[static_cast<size_t>(id)];
    if (late.serial == serial && late.operation)
      feed(late, *late.operation, [&](auto& m) { return m.giveUp(now()); });
  });
  feed(client, *client.operation, [&](auto& m) { return m.start(now()); });
}

template <typename A, typename P>
std::vector<Member> World<A, P>::someMembers() {
  std::vector<size_t> order(hosts_.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random_.below(i)]);
  std::vector<Member> members;
  const size_t count = hosts_.size() > 5 && random_.percent(40) ? 5 : 3;
  for (const size_t index : order) {
    if (members.size() == count || !hosts_[index].up) continue;
    members.push_back({hosts_[index].name, hosts_[index].acceptor->uuid()});
  }
  return members;
}

CCTL_WORLD::beginChange(Client& client) {
  const std::vector<Member> wanted = someMembers();
  if (wanted.size() < 3) return;
  client.change = std::make_unique<MembershipChange>(
      *client.view,
      [wanted, first = true](const std::vector<Member>& members) mutable
      -> Result<std::vector<Member>> { return std::exchange(first, false) ? wanted : members; });
  nextOfProcedure(client);
}

CCTL_WORLD::nextOfProcedure(Client& client) {
  if (!client.change && !client.founding) return;  // killed meanwhile
  const Next next = client.change ? client.change->next() : client.founding->next();
  const Goal goal = client.change ? client.change->goal() : client.founding->goal();
  if (next == Next::kOperation) return begin(client, goal);
  if (next == Next::kListing) {
    ++client.serial;
    client.listing = std::make_unique<Listing>("", *client.view, timing_);
    return feed(client, *client.listing, [&](auto& m) { return m.start(now()); });
  }
  verdict_.changes += next == Next::kDone ? 1 : 0;
  if (next == Next::kFailed && client.must) return beginAgain(client);
  client.change.reset();
  client.founding.reset();
  at(delay(), [this, &client, serial = client.serial] {
    if (client.serial == serial) act(client);
  });
}

// As a person would, who runs the command again.
CCTL_WORLD::beginAgain(Client& client) {
  if (client.founding) {
    client.view = std::make_unique<View>(client.beginning->council, random_);
    client.founding = std::make_unique<Founding>(*client.view, client.beginning->first);
  } else {
    client.view = freshView();
    client.change = std::make_unique<MembershipChange>(*client.view);
  }
  at(50'000, [this, &client] { nextOfProcedure(client); });
}

// What it was doing may take effect or not; another process takes its place.
CCTL_WORLD::kill(Client& client) {
  if (client.must) return;
  ++client.serial;
  client.operation.reset();
  client.listing.reset();
  client.change.reset();
  client.founding.reset();
  client.op.reset();
  client.view = freshView();
  at(delay(), [this, &client, serial = client.serial] {
    if (client.serial == serial) act(client);
  });
}

template <typename A, typename P>
template <typename Machine, typename Call>
void World<A, P>::feed(Client& client, Machine& machine, Call call) {
  const bool before = machine.finished();
  take(client, call(machine));
  if (!before && machine.finished()) onFinished(client);
}

CCTL_WORLD::take(Client& client, Actions actions) {
  for (const Send& one : actions.sends) send(client, one);
  if (actions.committed && client.op) {
    const RegisterState& state = actions.committed->state;
    if (!state.recent.empty())
      told_.push_back({actions.committed->key, state.revision, state.recent.front()});
  }
  if (!actions.wake) return;
  const int64_t when =
      std::chrono::duration_cast<std::chrono::microseconds>(*actions.wake - now()).count();
  at(std::max<int64_t>(when, 0) + 1, [this, id = client.id, serial = client.serial] {
    Client& late = *clients_[static_cast<size_t>(id)];
    if (late.serial != serial) return;
    if (late.operation)
      feed(late, *late.operation, [&](auto& m) { return m.onTimer(now()); });
    else if (late.listing)
      feed(late, *late.listing, [&](auto& m) { return m.onTimer(now()); });
  });
}

CCTL_WORLD::onFinished(Client& client) {
  const std::unique_ptr<SimOperation> operation = std::move(client.operation);
  const std::unique_ptr<Listing> listing = std::move(client.listing);
  ++client.serial;
  if (operation) record(client, *operation);
  if (client.change || client.founding) {
    if (client.change && operation) client.change->onOutcome(operation->outcome());
    if (client.change && listing)
      client.change->onListing(carries_over ? *listing : Listing("", *client.view, timing_));
    if (client.founding && operation) client.founding->onOutcome(operation->outcome());
    if (client.founding && listing) client.founding->onListing(*listing);
    return nextOfProcedure(client);
  }
  if (client.must && operation->outcome().kind != Outcome::Kind::kDone) {
    client.view = freshView();
    return begin(client, operation->goal());
  }
  const int64_t thought =
      random_.percent(50)
          ? 0
          : static_cast<int64_t>(random_.below(static_cast<uint64_t>(weather_.thinks)));
  at(thought, [this, &client, serial = client.serial] {
    if (client.serial == serial) act(client);
  });
}

CCTL_WORLD::record(Client& client, const SimOperation& operation) {
  const Outcome& outcome = operation.outcome();
  const Goal& goal = operation.goal();
  const bool done = outcome.kind == Outcome::Kind::kDone;
  ++(done ? verdict_.decided : verdict_.undecided);
  if (done) learn(goal.key, outcome.state, "decided");
  if (!client.op) return;
  HistoryOp& op = verdict_.history[*client.op];
  client.op.reset();
  op.ret = now_ * 1000;
  if (outcome.kind == Outcome::Kind::kUnknown) return;
  op.status =
      done && (goal.kind == Goal::Kind::kRead || outcome.swapped) ? OpStatus::kOk : OpStatus::kFail;
  if (!done) return;
  client.known[goal.key] = outcome.state.revision;
  op.result = outcome.swapped ? Versioned{goal.expected + 1, goal.value.text}
                              : Versioned{outcome.state.revision, outcome.state.value.text};
}

// Whatever is decided tells who made the last revisions, and all must tell the same.
CCTL_WORLD::learn(const std::string& key, const RegisterState& state, const char* how) {
  if (only_history) return;
  for (size_t back = 0; back < state.recent.size(); ++back) {
    const auto [at, added] = truth_.try_emplace({key, state.revision - back}, state.recent[back]);
    if (!added && at->second != state.recent[back])
      verdict_.wrong = fmt::format(
          "{}: revision {} was made by two operations (one {} says revision {}, {} back)", key,
          state.revision - back, how, state.revision, back);
  }
}

// ---- a whole schedule ------------------------------------------------------------------------

// Two rivals found it at once; everybody waits for that.
CCTL_WORLD::found() {
  std::vector<HostIdentity> identities;
  for (int i = 0; i < weather_.hosts; ++i)
    identities.push_back({hosts_[static_cast<size_t>(i)].name, AcceptorReply{}});
  std::vector<Member> members;
  for (size_t i = 0; i < identities.size(); ++i) {
    identities[i].reply->acceptor = hosts_[i].acceptor->uuid();
    members.push_back({hosts_[i].name, hosts_[i].acceptor->uuid()});
  }
  first_ = Membership{"c", {1, 1}, {members, false}, std::nullopt};
  if (!weather_.born) {
    // Decided by all of them, installed nowhere yet.
    AcceptorRecord record;
    record.kind = AcceptorRecord::Kind::kAccept;
    record.key = kConfigKey;
    record.accepted = {1, random_.id()};
    record.state = std::make_shared<const RegisterState>(
        RegisterState{1, encodeConfig(first_), {random_.id()}});
    for (int i = 0; i < weather_.hosts; ++i) {
      Host& host = hosts_[static_cast<size_t>(i)];
      host.disk.push_back(record);
      host.durable = host.disk.size();
      host.acceptor->replay(record, now());
    }
    return;
  }
  std::vector<Client*> rivals;
  for (int i = 0; i < 2; ++i) {
    const Beginning beginning = planBirth(identities, i == 0 ? "c" : "d").value();
    Client& client = addClient(false);
    rivals.push_back(&client);
    client.left = 0;
    client.must = true;
    client.beginning = beginning;
    client.view = std::make_unique<View>(beginning.council, random_);
    client.founding = std::make_unique<Founding>(*client.view, beginning.first);
    nextOfProcedure(client);
  }
  runEvents(now_ + 4'000'000);
  for (Client* rival : rivals) rival->must = false;
  std::optional<Membership> born;
  for (const Host& host : hosts_) {
    if (!host.up || !host.acceptor->membership()) continue;
    const Membership& one = *host.acceptor->membership();
    if (born && born->cluster != one.cluster) verdict_.wrong = "two registries were born";
    born = one;
  }
  is_founded_ = born.has_value();
  if (born) first_ = *born;
}

CCTL_WORLD::disturb() {
  const int64_t span = 1'500'000;
  const auto when = [&] {
    return static_cast<int64_t>(random_.below(static_cast<uint64_t>(span)));
  };
  const auto some_host = [this]() -> Host& { return hosts_[random_.below(hosts_.size())]; };
  for (int i = 0; i < weather_.crashes + weather_.wipes; ++i) {
    const bool wipe = i < weather_.wipes;
    at(when(), [this, some_host, wipe] {
      Host& host = some_host();
      crash(host, wipe);
      at(static_cast<int64_t>(random_.below(static_cast<uint64_t>(weather_.most_down))),
         [this, &host] {
           if (!host.up) boot(host);
         });
    });
  }
  for (int i = 0; i < weather_.cuts; ++i)
    at(when(), [this] {
      const std::pair<int, int> cut{static_cast<int>(random_.below(clients_.size())),
                                    static_cast<int>(random_.below(hosts_.size()))};
      cuts_.insert(cut);
      at(static_cast<int64_t>(random_.below(400'000)), [this, cut] { cuts_.erase(cut); });
    });
  for (int i = 0; i < weather_.kills; ++i)
    at(when(), [this] { kill(*clients_[random_.below(clients_.size())]); });
}

// In calm weather, with every host up, whoever comes finishes what was begun and sees what there
// is.
CCTL_WORLD::settle() {
  calm_ = true;
  cuts_.clear();
  for (Host& host : hosts_)
    if (!host.up) boot(host);
  for (const auto& client : clients_) client->left = 0;
  runEvents(now_ + 3'000'000);
  Client& admin = addClient(false);
  admin.left = 0;
  admin.must = true;
  admin.change = std::make_unique<MembershipChange>(*admin.view);
  nextOfProcedure(admin);
  runEvents(now_ + 5'000'000);
  const bool may_be_stuck = weather_.wipes > 0 || weather_.born;
  if (admin.change && !may_be_stuck && !verdict_.wrong)
    verdict_.wrong = "a change of members could not be brought to its end in calm weather";
  admin.must = false;
  kill(admin);
  for (int key = 0; key < weather_.keys; ++key) {
    Client& reader = addClient(false);
    reader.left = 0;
    reader.must = true;
    begin(reader, Goal{Goal::Kind::kRead, "k" + std::to_string(key), 0, {}, {}});
    runEvents(now_ + 5'000'000);
    if (reader.op && !may_be_stuck && !verdict_.wrong)
      verdict_.wrong = "a register could not be read in calm weather";
    reader.must = false;
  }
}

template <typename A, typename P>
Verdict World<A, P>::run() {
  hosts_.reserve(static_cast<size_t>(weather_.hosts + weather_.spares));
  for (int i = 0; i < weather_.hosts + weather_.spares; ++i) addHost(i + 1);
  clients_.reserve(64);
  found();
  if (!is_founded_) return std::move(verdict_);
  for (int i = 0; i < weather_.clients; ++i) addClient(false);
  if (weather_.changes > 0) addClient(true);
  for (const auto& client : clients_) at(delay(), [this, one = client.get()] { act(*one); });
  disturb();
  runEvents(now_ + 4'000'000);
  settle();
  for (const Told& told : told_) {
    const auto found = truth_.find({told.key, told.revision});
    if (!verdict_.wrong && found != truth_.end() && found->second != told.op)
      verdict_.wrong = fmt::format("{}: revision {} was told to learners and never committed",
                                   told.key, told.revision);
  }
  if (!verdict_.wrong) verdict_.wrong = findNonLinearizable(verdict_.history);
  return std::move(verdict_);
}

#undef CCTL_WORLD

}  // namespace cctl::sim
