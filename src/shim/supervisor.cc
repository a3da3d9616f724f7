#include "shim/supervisor.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <set>

#include "base/cancel.h"
#include "base/file.h"
#include "model/host_paths.h"
#include "model/names.h"
#include "shim/generation_files.h"
#include "shim/proc.h"
#include "shim/spawn.h"

namespace cctl::shim {
namespace {

using protocol::Caller;
using protocol::EventKind;
using protocol::InstanceRef;
using protocol::InstanceState;

constexpr size_t kKeepGenerations = 5;
constexpr Millis kUnbegunEnd{1'000};  // longest wait for what was killed

std::string nameOf(const InstanceRef& ref) { return fmt::format("{}/{}", ref.service, ref.index); }

Result<void> checkRef(const InstanceRef& ref) {
  CCTL_CHECK(parseInstanceId(nameOf(ref)));
  return {};
}

}  // namespace

Supervisor::Supervisor(Host& host)
    : host_(host),
      ports_([](int port) { return portFree(port, PortTest::kUnused); }),
      archiver_(host.loop, 1000) {}

Supervisor::~Supervisor() = default;

// ---- looking up --------------------------------------------------------------------------------

// A token lower than one seen before comes from an operation that has lost its lock without
// noticing. 0 is an order without a lock, which an operator may give.
Result<void> Supervisor::fence(const std::string& service, const Caller& caller) {
  if (caller.token == 0) return {};
  uint64_t& highest = host_.state.data().tokens[service];
  if (caller.token < highest)
    return fail(Code::kLocked,
                "{}: this order's lock (token {}) was taken over by another operation (token {})",
                service, caller.token, highest);
  if (caller.token > highest) {
    highest = caller.token;
    host_.state.touch();
  }
  return {};
}

Result<InstanceRecord*> Supervisor::instance(const InstanceRef& ref) {
  CCTL_CHECK(checkRef(ref));
  InstanceRecord* record = host_.state.find(ref);
  if (!record)
    return fail(Code::kNotFound, "{} is not on host {}", nameOf(ref), host_.identity.host);
  return record;
}

// 0: the current one, or else the newest that was prepared.
Result<GenerationRecord*> Supervisor::chooseGeneration(InstanceRecord& record, int generation) {
  if (generation == 0) generation = record.current;
  if (generation == 0)
    for (const GenerationRecord& candidate : record.generations)
      if (candidate.prepared) generation = candidate.generation;
  GenerationRecord* chosen = record.find(generation);
  if (!chosen || !chosen->prepared)
    return fail(Code::kNotFound, "{} has no prepared generation{}", nameOf(record.ref),
                generation == 0 ? "" : fmt::format(" {}", generation));
  return chosen;
}

ServiceProcess* Supervisor::findProcess(const InstanceRef& ref, int generation) const {
  const auto found = processes_.find({ref, generation});
  return found == processes_.end() ? nullptr : found->second.get();
}

Result<ServiceProcess*> Supervisor::process(const InstanceRef& ref, int generation) {
  if (ServiceProcess* existing = findProcess(ref, generation)) return existing;
  CCTL_TRY(protocol::GenerationSpec spec, readGeneration(host_.root, ref, generation));
  LogFile& log = openLog(ref, {spec.log_max_size, spec.log_keep});
  auto made = std::make_unique<ServiceProcess>(
      host_, std::move(spec), log, [this](ServiceProcess& which) { onReady(which); },
      [this, ref] { quietSockets(ref); });
  ServiceProcess* raw = made.get();
  processes_[{ref, generation}] = std::move(made);
  return raw;
}

// Generation 0: all.
std::vector<ServiceProcess*> Supervisor::processesOf(const InstanceRef& ref, int generation) {
  std::vector<ServiceProcess*> found;
  for (const auto& [key, process] : processes_)
    if (key.ref == ref && (generation == 0 || key.generation == generation))
      found.push_back(process.get());
  return found;
}

LogFile& Supervisor::openLog(const InstanceRef& ref, LogLimits limits) {
  auto& log = logs_[ref];
  if (!log)
    log = std::make_shared<LogFile>(paths::logDir(host_.root, ref.service, ref.index), limits,
                                    host_.loop.clock(), &archiver_);
  log->setLimits(limits);
  return *log;
}

std::shared_ptr<LogFile> Supervisor::logOf(const InstanceRef& ref) {
  if (!host_.state.find(ref)) return nullptr;
  auto& log = logs_[ref];
  if (!log)
    log = std::make_shared<LogFile>(paths::logDir(host_.root, ref.service, ref.index), LogLimits{},
                                    host_.loop.clock(), &archiver_);
  return log;
}

void Supervisor::order(const InstanceRef& ref, int generation, const Caller& caller,
                       std::string text) {
  note(EventKind::kOrder, ref, generation, std::move(text), caller);
}

void Supervisor::note(EventKind kind, const InstanceRef& ref, int generation, std::string text,
                      const Caller& caller) {
  protocol::Event event;
  event.kind = kind;
  event.service = ref.service;
  event.index = ref.index;
  event.generation = generation;
  event.by = caller.by;
  event.reason = caller.reason;
  event.text = std::move(text);
  host_.journal.append(std::move(event));
}

template <typename T>
void Supervisor::answerDurably(Done<T> done, T value, const char* outcome) {
  host_.state.whenDurable(
      [done = std::move(done), value = std::move(value), outcome](Result<void> written) {
        if (written)
          done(value);
        else
          done(fail(written.error().context(
              fmt::format("{}, but the shim cannot write it down, and a loss of power would undo "
                          "it: make room on its disk",
                          outcome))));
      });
}

void Supervisor::answerStart(Done<protocol::StartReply> done, protocol::StartReply reply) {
  const bool ready = reply.state == InstanceState::kReady;
  answerDurably(std::move(done), std::move(reply), ready ? kDone : "it did not become ready");
}

// ---- generations -------------------------------------------------------------------------------

ReservedPorts Supervisor::reservedPorts(const protocol::AllocateRequest& request) {
  ReservedPorts reserved;
  reserved.avoid.insert(request.avoid.begin(), request.avoid.end());
  for (const InstanceRecord& record : host_.state.data().instances)
    for (const GenerationRecord& generation : record.generations)
      for (const auto& [name, port] : generation.ports)
        (record.ref == request.instance ? reserved.own : reserved.others).insert(port);
  return reserved;
}

// A socket that an older generation has is the new one's too, unless another port was asked for.
Result<std::map<std::string, int>> Supervisor::choosePorts(
    const protocol::AllocateRequest& request) {
  std::vector<protocol::PortWish> others;
  std::map<std::string, int> shared;
  for (const protocol::PortWish& wish : request.ports) {
    const int bound =
        wish.socket ? host_.sockets.portOf({request.instance, wish.name}).value_or(0) : 0;
    const bool avoided =
        std::find(request.avoid.begin(), request.avoid.end(), bound) != request.avoid.end();
    if (bound != 0 && !avoided && (wish.fixed == 0 || wish.fixed == bound))
      shared[wish.name] = bound;
    else
      others.push_back(wish);
  }
  CCTL_TRY(auto ports,
           ports_.choose(others, {request.pool_low, request.pool_high}, reservedPorts(request)));
  for (const protocol::PortWish& wish : others)
    if (wish.socket)
      CCTL_CHECK(host_.sockets.bind({request.instance, wish.name}, ports.at(wish.name)));
  ports.insert(shared.begin(), shared.end());
  return ports;
}

void Supervisor::allocate(const protocol::AllocateRequest& request,
                          Done<protocol::AllocateReply> done) {
  if (auto checked = checkRef(request.instance); !checked) return done(fail(checked.error()));
  if (auto fenced = fence(request.instance.service, request.caller); !fenced)
    return done(fail(fenced.error()));
  prune(request.instance);
  auto ports = choosePorts(request);
  if (!ports) return done(fail(ports.error().context(nameOf(request.instance))));
  InstanceRecord& record = host_.state.findOrMake(request.instance);
  GenerationRecord generation;
  generation.generation = record.next_generation++;
  generation.ports = *ports;
  for (const protocol::PortWish& wish : request.ports)
    if (wish.socket) generation.sockets.push_back(wish.name);
  generation.since = host_.loop.clock().wall();
  record.generations.push_back(generation);
  host_.state.touch();
  answerDurably(std::move(done), protocol::AllocateReply{generation.generation, *ports});
}

void Supervisor::prepare(const protocol::PrepareRequest& request, Done<protocol::Empty> done) {
  const protocol::GenerationSpec& spec = request.spec;
  const InstanceRef ref{spec.service, spec.index};
  const auto prepared = [&]() -> Result<void> {
    CCTL_CHECK(checkSpec(spec));
    CCTL_CHECK(fence(ref.service, request.caller));
    CCTL_TRY(InstanceRecord * record, instance(ref));
    GenerationRecord* generation = record->find(spec.generation);
    if (!generation)
      return fail(Code::kNotFound, "generation {} of {} was not allocated", spec.generation,
                  nameOf(ref));
    if (generation->ports != spec.ports)
      return fail(Code::kBadInput, "generation {} of {} was allocated other ports", spec.generation,
                  nameOf(ref));
    const ReleaseManifest* release = host_.store.find(spec.service, spec.version);
    if (!release)
      return fail(Code::kNotFound, "{} {} is not installed on host {}", spec.service, spec.version,
                  host_.identity.host);
    if (release->digest != spec.release_digest)
      return fail(Code::kRefused, "{} {} is installed on host {} with digest {}, not {}",
                  spec.service, spec.version, host_.identity.host, release->digest.substr(0, 12),
                  spec.release_digest.substr(0, 12));
    CCTL_CHECK(writeGeneration(host_.root, spec));
    generation->prepared = true;
    host_.state.touch();
    return {};
  }();
  if (!prepared) return done(fail(prepared.error()));
  answerDurably(std::move(done), protocol::Empty{});
}

Result<protocol::GenerationSpec> Supervisor::generation(
    const protocol::GenerationRequest& request) {
  CCTL_TRY(InstanceRecord * record, instance(request.instance));
  int number = request.generation;
  if (number == 0)
    for (const GenerationRecord& candidate : record->generations)
      if (candidate.prepared) number = candidate.generation;
  CCTL_TRY(const GenerationRecord* chosen, chooseGeneration(*record, number));
  return readGeneration(host_.root, request.instance, chosen->generation);
}

// The newest few, the current one, and whatever runs.
void Supervisor::prune(const InstanceRef& ref) {
  const InstanceRecord* record = host_.state.find(ref);
  if (!record || record->generations.size() < kKeepGenerations) return;
  std::vector<int> old;
  for (size_t i = 0; i + kKeepGenerations <= record->generations.size(); ++i) {
    const int generation = record->generations[i].generation;
    const ServiceProcess* process = findProcess(ref, generation);
    const bool busy = process && process->state() != InstanceState::kStopped &&
                      process->state() != InstanceState::kFailed;
    if (generation != record->current && !busy) old.push_back(generation);
  }
  for (const int generation : old) removeGeneration(ref, generation);
}

void Supervisor::removeGeneration(const InstanceRef& ref, int generation) {
  processes_.erase({ref, generation});
  InstanceRecord* record = host_.state.find(ref);
  auto& all = record->generations;
  all.erase(std::remove_if(all.begin(), all.end(),
                           [&](const auto& g) { return g.generation == generation; }),
            all.end());
  host_.survivors.release(processName(ref, generation));
  releaseSockets(ref);
  host_.state.touch();
  // What stays on the disk is found by nobody and costs a few kilobytes.
  [[maybe_unused]] const auto removed = removeTree(
      paths::generationDir(host_.root, ref.service, ref.index, static_cast<uint64_t>(generation)));
}

// ---- orders ------------------------------------------------------------------------------------

void Supervisor::start(const protocol::StartRequest& request, Done<protocol::StartReply> done) {
  const InstanceRef& ref = request.instance;
  const auto chosen = [&]() -> Result<ServiceProcess*> {
    CCTL_CHECK(fence(ref.service, request.caller));
    CCTL_TRY(InstanceRecord * record, instance(ref));
    CCTL_TRY(const GenerationRecord* generation, chooseGeneration(*record, request.generation));
    CCTL_TRY(ServiceProcess * found, process(ref, generation->generation));
    record->held = false;
    record->held_by.clear();
    record->remade = false;
    return found;
  }();
  if (!chosen) return done(fail(chosen.error()));
  order(ref, (*chosen)->spec().generation, request.caller, "start");
  (*chosen)->start([this, done = std::move(done)](const protocol::StartReply& reply) {
    answerStart(done, reply);
  });
}

void Supervisor::restart(const protocol::RestartRequest& request, Done<protocol::StartReply> done) {
  const InstanceRef& ref = request.instance;
  const auto chosen = [&]() -> Result<ServiceProcess*> {
    CCTL_CHECK(fence(ref.service, request.caller));
    CCTL_TRY(InstanceRecord * record, instance(ref));
    CCTL_TRY(const GenerationRecord* generation, chooseGeneration(*record, 0));
    CCTL_TRY(ServiceProcess * found, process(ref, generation->generation));
    record->held = false;
    record->held_by.clear();
    record->remade = false;
    return found;
  }();
  if (!chosen) return done(fail(chosen.error()));
  order(ref, (*chosen)->spec().generation, request.caller, "restart");
  (*chosen)->restart([this, done = std::move(done)](const protocol::StartReply& reply) {
    answerStart(done, reply);
  });
}

// A newly ready generation is what a boot starts from now on.
void Supervisor::onReady(ServiceProcess& process) {
  const InstanceRef ref{process.spec().service, process.spec().index};
  InstanceRecord* record = host_.state.find(ref);
  const int generation = process.spec().generation;
  if (record->current == generation || !record->find(generation)->up) return;
  // A restarted older one does not take over from a newer one that runs beside it.
  const ServiceProcess* current = findProcess(ref, record->current);
  if (current && current->running() && record->current > generation &&
      process.status().restarts > 0)
    return;
  makeCurrent(*record, generation);
}

void Supervisor::makeCurrent(InstanceRecord& record, int generation) {
  record.current = generation;
  host_.state.touch();
  if (auto linked = linkCurrent(host_.root, record.ref, generation); !linked)
    note(EventKind::kFailed, record.ref, generation,
         "cannot point `current` at it: " + linked.error().message);
}

// The current generation of a roll-out that is put back was given up: an older one that still runs
// beside it is what later orders and boots are about.
void Supervisor::passOnCurrent(InstanceRecord& record) {
  const GenerationRecord* current = record.find(record.current);
  if (current && current->up) return;
  for (auto it = record.generations.rbegin(); it != record.generations.rend(); ++it)
    if (it->up && it->was_ready) return makeCurrent(record, it->generation);
}

void Supervisor::stopAll(const std::vector<ServiceProcess*>& processes,
                         Done<protocol::StopReply> done) {
  struct Progress {
    protocol::StopReply reply;
    size_t left = 1;  // this function itself
    Done<protocol::StopReply> done;
  };
  auto progress = std::make_shared<Progress>();
  progress->done = std::move(done);
  const auto finish_one = [this, progress] {
    if (--progress->left == 0) answerDurably(std::move(progress->done), progress->reply);
  };
  for (ServiceProcess* process : processes) {
    ++progress->left;
    const bool ran = process->running();
    process->stop([progress, finish_one, ran](bool killed) {
      progress->reply.stopped += ran ? 1 : 0;
      progress->reply.killed |= killed && ran;
      finish_one();
    });
  }
  finish_one();
}

void Supervisor::stop(const protocol::StopRequest& request, Done<protocol::StopReply> done) {
  const InstanceRef& ref = request.instance;
  if (auto fenced = fence(ref.service, request.caller); !fenced) return done(fail(fenced.error()));
  auto record = instance(ref);
  if (!record) return done(fail(record.error()));
  if (request.generation != 0 && !(*record)->find(request.generation))
    return done(fail(Code::kNotFound, "{} has no generation {}", nameOf(ref), request.generation));
  const bool all = request.generation == 0 || request.generation == (*record)->current;
  if (request.hold && all) {
    (*record)->held = true;
    (*record)->held_by = request.caller.by;
    (*record)->remade = false;
  }
  for (GenerationRecord& generation : (*record)->generations)
    if (request.generation == 0 || generation.generation == request.generation)
      generation.up = false;
  host_.state.touch();
  passOnCurrent(**record);
  order(ref, request.generation, request.caller, request.hold ? "stop" : "stop this generation");
  stopAll(processesOf(ref, request.generation), std::move(done));
}

void Supervisor::signal(const protocol::SignalRequest& request, Done<protocol::Empty> done) {
  if (auto fenced = fence(request.instance.service, request.caller); !fenced)
    return done(fail(fenced.error()));
  auto record = instance(request.instance);
  if (!record) return done(fail(record.error()));
  if (request.signal < 1 || request.signal > 64)
    return done(fail(Code::kBadInput, "{} is not a signal", request.signal));
  ServiceProcess* process = findProcess(request.instance, (*record)->current);
  if (!process || !process->signal(request.signal))
    return done(fail(Code::kFailed, "{} does not run", nameOf(request.instance)));
  order(request.instance, (*record)->current, request.caller,
        fmt::format("signal {}", request.signal));
  done(protocol::Empty{});
}

void Supervisor::reconfigure(const protocol::ReconfigureRequest& request,
                             Done<protocol::Empty> done) {
  const InstanceRef& ref = request.instance;
  protocol::GenerationSpec spec;
  const auto written = [&]() -> Result<int> {
    CCTL_CHECK(fence(ref.service, request.caller));
    CCTL_TRY(InstanceRecord * record, instance(ref));
    CCTL_TRY(const GenerationRecord* generation, chooseGeneration(*record, request.generation));
    CCTL_TRY(spec, readGeneration(host_.root, ref, generation->generation));
    spec.argv = request.argv;
    spec.env = request.env;
    spec.config = request.config;
    spec.secrets = request.secrets;
    CCTL_CHECK(checkSpec(spec));
    CCTL_CHECK(rewriteConfig(host_.root, spec));
    return generation->generation;
  }();
  if (!written) return done(fail(written.error()));
  order(ref, *written, request.caller, "reconfigure");
  if (ServiceProcess* process = findProcess(ref, *written)) {
    process->rerender(spec);
    if (request.signal > 0) process->signal(request.signal);  // one that is down reads it at start
  }
  done(protocol::Empty{});
}

void Supervisor::fence(const protocol::FenceRequest& request, Done<protocol::Empty> done) {
  if (auto name = parseServiceName(request.service); !name) return done(fail(name.error()));
  if (auto fenced = fence(request.service, request.caller); !fenced)
    return done(fail(fenced.error()));
  answerDurably(std::move(done), protocol::Empty{});
}

void Supervisor::forget(const protocol::ForgetRequest& request, Done<protocol::StopReply> done) {
  const InstanceRef ref = request.instance;
  if (auto fenced = fence(ref.service, request.caller); !fenced) return done(fail(fenced.error()));
  auto record = instance(ref);
  if (!record) return done(fail(record.error()));
  (*record)->held = true;  // should the shim die before all has ended
  order(ref, 0, request.caller, "forget");
  stopAll(processesOf(ref, 0), [this, ref, done = std::move(done)](auto reply) {
    if (!reply) return done(reply);
    finishForget(ref);
    answerDurably(done, *reply);
  });
}

void Supervisor::finishForget(const InstanceRef& ref) {
  if (host_.state.find(ref) == nullptr) return;  // another order to forget it was faster
  for (auto it = processes_.begin(); it != processes_.end();)
    it = it->first.ref == ref ? processes_.erase(it) : std::next(it);
  if (const auto log = logs_.extract(ref); !log.empty()) log.mapped()->close();
  for (const GenerationRecord& generation : host_.state.find(ref)->generations)
    host_.survivors.release(processName(ref, generation.generation));
  host_.state.find(ref)->generations.clear();
  releaseSockets(ref);
  host_.state.erase(ref);
  ::unlink(paths::currentLink(host_.root, ref.service, ref.index).c_str());
  // A leftover is overwritten when the instance comes back.
  [[maybe_unused]] const auto removed =
      removeTree(paths::generationsDir(host_.root, ref.service, ref.index));
}

// Those that no generation has any more.
void Supervisor::releaseSockets(const InstanceRef& ref) {
  std::set<std::string> used;
  for (const GenerationRecord& generation : host_.state.find(ref)->generations)
    used.insert(generation.sockets.begin(), generation.sockets.end());
  for (const std::string& name : host_.sockets.namesOf(ref))
    if (used.count(name) == 0) host_.sockets.release({ref, name});
}

// Nothing of the instance runs or is about to: its clients are refused instead of kept waiting.
void Supervisor::quietSockets(const InstanceRef& ref) {
  for (const ServiceProcess* process : processesOf(ref, 0))
    if (process->state() != InstanceState::kStopped && process->state() != InstanceState::kFailed)
      return;
  for (const std::string& name : host_.sockets.namesOf(ref)) host_.sockets.quiet({ref, name});
}

void Supervisor::stopEverything(std::function<void()> done) {
  std::vector<ServiceProcess*> all;
  for (const auto& [key, process] : processes_) all.push_back(process.get());
  std::vector<Key> wanted;
  for (const auto& [key, process] : processes_)
    if (const InstanceRecord* record = host_.state.find(key.ref); record)
      if (host_.state.find(key.ref)->find(key.generation)->up) wanted.push_back(key);
  stopAll(all, [this, wanted, done = std::move(done)](const auto&) {
    for (const Key& key : wanted)
      if (InstanceRecord* record = host_.state.find(key.ref))
        if (GenerationRecord* generation = record->find(key.generation)) generation->up = true;
    [[maybe_unused]] const auto written =
        host_.state.writeNow();  // the boot starts `current` anyway
    done();
  });
}

// ---- resuming ----------------------------------------------------------------------------------

void Supervisor::resume() {
  StateData& data = host_.state.data();
  const std::string boot = bootId();
  const bool same_boot = data.boot_id == boot;
  const bool rebooted = !same_boot && !data.boot_id.empty();  // so nothing of ours runs
  data.boot_id = boot;
  std::vector<InstanceRef> refs;
  for (InstanceRecord& record : data.instances) {
    refs.push_back(record.ref);
    if (same_boot) continue;
    for (GenerationRecord& generation : record.generations) {
      generation.process.reset();  // pids of another boot
      generation.up = generation.generation == record.current && !record.held;
      if (generation.up) generation.failure.clear();
    }
  }
  host_.state.touch();
  if (!host_.survivors.inherited() && !rebooted) findUnknown();
  host_.survivors.markInherited();
  recoverSockets();
  resumeAll(refs);
  if (!same_boot)
    for (const InstanceRef& ref : refs) tellHeld(ref);
  host_.fds.dropUntaken();
}

// Whose lines were being written comes first: those of another would be written over them.
void Supervisor::resumeAll(const std::vector<InstanceRef>& refs) {
  std::vector<Resumed> all;
  for (const InstanceRef& ref : refs)
    for (const Resumed& one : toResume(ref)) all.push_back(one);
  if (const auto move = host_.mover.unfinished()) {
    const auto is_owner = [&](const Resumed& one) {
      return processName(one.ref, one.generation) == move->name;
    };
    const auto others = std::stable_partition(all.begin(), all.end(), is_owner);
    if (others != all.begin()) resumeGeneration(all.front());
    if (host_.mover.unfinished()) {
      note(EventKind::kLost, {}, 0,
           "lines that were being written when the last shim ended are lost: their process is "
           "unknown");
      host_.mover.finish();
    }
    all.erase(all.begin(), others);
  }
  for (const Resumed& one : all) resumeGeneration(one);
}

// A child that the supervisor before this one had begun, and that has not come to its exec, has all
// of that supervisor but its pid: nothing tells yet what it becomes.
static void endUnbegun(const std::string& root) {
  const std::string supervisor =
      fmt::format("clusterctl-shim{0}supervise{0}--root{0}{1}{0}", '\0', root);
  const auto is_one = [&](int pid) {
    return commandLineOf(pid).starts_with(supervisor) && isOfThisHost(pid, root);
  };
  const Deadline deadline = Deadline::in(kUnbegunEnd);
  for (const int pid : allPids()) {
    if (pid == ::getpid() || !is_one(pid)) continue;
    const Fd handle = openPidfd(pid);
    if (!is_one(pid)) continue;  // again, now that the descriptor pins it
    signalProcess(handle, pid, SIGKILL);
    while (is_one(pid) && !deadline.passed()) ::usleep(1'000);
  }
}

// Supervisor and anchor were killed together, perhaps before a process that had just begun was
// written down: its environment still tells which one it is. One that has ended since is known to
// nobody; what it left behind ends as it would have.
void Supervisor::findUnknown() {
  endUnbegun(host_.root);
  const std::string ours = markOf(host_.root);
  const Marked marked = processesWith(ours, host_.root);
  for (const int pid : marked.orphans) {
    const Fd handle = openPidfd(pid);
    const auto environment = environmentOf(pid);  // again, now that the descriptor pins it
    if (std::find(environment.begin(), environment.end(), ours) != environment.end())
      signalProcess(handle, pid, SIGKILL);
  }
  for (const int pid : marked.mains)
    if (PidSlot* slot = host_.survivors.slot(nameByEnvironment(environmentOf(pid))))
      slot->pid = pid;
}

void Supervisor::recoverSockets() {
  for (const InstanceRecord& record : host_.state.data().instances)
    for (const GenerationRecord& generation : record.generations)
      for (const std::string& name : generation.sockets)
        host_.sockets.recover({record.ref, name}, generation.ports.at(name));
}

// By its session: what a service starts may speak for it.
void Supervisor::onNotification(int pid, const std::map<std::string, std::string>& said) {
  const auto stat = readProcStat(pid);
  for (const auto& [key, process] : processes_)
    if (process->running() && (process->pid() == pid || (stat && stat->session == process->pid())))
      return process->onNotification(said);
}

std::vector<Supervisor::Resumed> Supervisor::toResume(const InstanceRef& ref) const {
  std::vector<Resumed> found;
  // One that is in a slot alone was begun by an order that nobody has written down.
  for (const GenerationRecord& generation : host_.state.find(ref)->generations)
    if (generation.prepared &&
        (generation.up || generation.process || !generation.failure.empty() ||
         host_.survivors.pidOf(processName(ref, generation.generation)) != 0))
      found.push_back({ref, generation.generation, generation.up});
  return found;
}

void Supervisor::tellHeld(const InstanceRef& ref) {
  const InstanceRecord* record = host_.state.find(ref);
  if (record->held && record->current != 0)
    note(EventKind::kStop, ref, record->current,
         fmt::format("stays down: stopped by {}", record->held_by));
}

void Supervisor::noteLost(const InstanceRef& ref, const GenerationRecord& record,
                          const ServiceProcess& process, std::vector<std::string> last_lines) {
  if (host_.journal.tellsExitOf(record.process->pid, record.process->start_ticks)) return;
  protocol::Event event;
  event.kind = EventKind::kLost;
  event.version = process.spec().version;
  if (record.up) event.alert = protocol::AlertKind::kCrash;
  event.service = ref.service;
  event.index = ref.index;
  event.generation = record.generation;
  event.pid = record.process->pid;
  event.text =
      "ended while the process of the shim that would have been told was not running; its status "
      "is "
      "not known";
  // By which a later supervisor sees that it was told, if both processes are killed once more.
  event.exit.emplace();
  event.exit->pid = record.process->pid;
  event.exit->start_ticks = record.process->start_ticks;
  event.exit->release_digest = process.spec().release_digest;
  event.exit->at = host_.loop.clock().wall();  // when it was noticed
  event.exit->restarts = record.restarts;
  event.exit->last_lines = std::move(last_lines);
  host_.journal.append(std::move(event));
}

void Supervisor::resumeGeneration(const Resumed& one) {
  const auto& [ref, generation, should_run] = one;
  auto found = process(ref, generation);
  if (!found) {
    note(EventKind::kFailed, ref, generation, "cannot be started: " + found.error().message);
    return;
  }
  if ((*found)->adopt()) {
    // An order to stop it was under way when the last shim died.
    if (!should_run) (*found)->stop([](bool) {});
    return;
  }
  std::vector<std::string> last_lines;
  if ((*found)->takeMissedExit(last_lines)) return;
  GenerationRecord* record = host_.state.find(ref)->find(generation);
  if (record->process) {
    noteLost(ref, *record, **found, std::move(last_lines));
    if (should_run) ++record->restarts;
  }
  if (PidSlot* slot = host_.survivors.slot(processName(ref, generation))) slot->pid = 0;
  record->process.reset();
  host_.state.touch();
  if (should_run) (*found)->startByPolicy();
}

// ---- telling -----------------------------------------------------------------------------------

std::vector<protocol::InstanceStatus> Supervisor::status(const std::string& service) {
  std::vector<protocol::InstanceStatus> found;
  for (const InstanceRecord& record : host_.state.data().instances) {
    if (!service.empty() && record.ref.service != service) continue;
    for (const GenerationRecord& generation : record.generations) {
      const bool current = generation.generation == record.current;
      if (!generation.prepared) continue;
      const ServiceProcess* known = findProcess(record.ref, generation.generation);
      if (!current && (!known || known->state() == InstanceState::kStopped)) continue;
      auto made = process(record.ref, generation.generation);
      if (!made) continue;
      protocol::InstanceStatus status = (*made)->status();
      status.current = current;
      status.wanted = generation.up;
      status.remade = record.remade;
      if (current && record.held && status.state == InstanceState::kStopped && status.note.empty())
        status.note = record.held_by.empty() ? "stopped" : "stopped by " + record.held_by;
      found.push_back(std::move(status));
    }
  }
  return found;
}

std::optional<bool> Supervisor::isReady(const InstanceRef& ref,
                                        const std::map<std::string, int>& ports) const {
  const InstanceRecord* record = host_.state.find(ref);
  std::optional<bool> ready;
  // Generations with passed sockets have the same ports: one of them is enough.
  for (const GenerationRecord& generation :
       record ? record->generations : std::vector<GenerationRecord>()) {
    if (generation.ports != ports) continue;
    const ServiceProcess* process = findProcess(ref, generation.generation);
    ready = ready.value_or(false) || (process && process->state() == InstanceState::kReady);
  }
  return ready;
}

std::vector<Supervisor::Running> Supervisor::running() const {
  std::vector<Running> found;
  for (const auto& [key, process] : processes_)
    if (process->running())
      found.push_back({key.ref, process->spec().version, process->pid(), key.generation,
                       process->spec().ports, process->spec().sockets});
  return found;
}

}  // namespace cctl::shim
