// Everything of the shim that reads bytes which somebody else may have written, fed with mutated
// ones.
//   fuzz_shim TARGET [SECONDS [SEED]]
// An input that crashes, hangs or breaks an assertion is left in fuzz-TARGET.input.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "model/host_paths.h"
#include "mutate.h"
#include "protocol/frame.h"
#include "registry/record_log.h"
#include "runner.h"
#include "shim/cores.h"
#include "shim/generation_files.h"
#include "shim/haproxy.h"
#include "shim/hooks.h"
#include "shim/identity.h"
#include "shim/naming_server.h"
#include "shim/notify_socket.h"
#include "shim/ops.h"
#include "shim/proc.h"
#include "shim/sealed_file.h"
#include "shim/views.h"

namespace cctl::shim {
namespace {

using fuzz::Corpus;
using fuzz::Mutator;
using fuzz::require;
using fuzz::Target;

class TempDir {
 public:
  TempDir() {
    char name[] = "/tmp/cctl-fuzz-XXXXXX";
    require(::mkdtemp(name) != nullptr, "a temporary directory");
    path_ = name;
  }
  ~TempDir() { require(removeTree(path_).has_value(), "the temporary directory goes"); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

void put(const std::string& path, std::string_view bytes) {
  const Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  require(file.valid() && writeAll(file.get(), bytes).has_value(), "a file can be written");
}

void makeTree(const std::string& root) {
  for (const std::string& dir :
       {paths::shimStateDir(root), paths::releaseRecordsDir(root), paths::runDir(root),
        paths::registryServicesDir(root), paths::acceptorDir(root), paths::journalDir(root),
        paths::generationDir(root, "svc", 0, 1)})
    require(makeDirs(dir).has_value(), "directories");
}

// ---- valid inputs ------------------------------------------------------------------------------

constexpr char kDigest[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

protocol::GenerationSpec sampleSpec() {
  protocol::GenerationSpec spec;
  spec.service = "svc";
  spec.generation = 1;
  spec.version = "1.0";
  spec.release_digest = kDigest;
  spec.argv = {"bin/none", "--port", "21000"};
  spec.env = {{"A", "b"}};
  spec.ports = {{"main", 21000}};
  spec.sockets = {"main"};
  spec.config = {{"a.conf", "0640", "x = 1\n"}};
  spec.ready.kind = protocol::ProbeKind::kHttp;
  spec.ready.port = "main";
  spec.ready.path = "/health";
  spec.live = protocol::Liveness{spec.ready, Millis(1000), Millis(500), 3};
  spec.limit_nofile = 1024;
  spec.limit_memory = 64u << 20;
  spec.limit_cpu = 500;
  return spec;
}

protocol::ExitReport sampleExit() {
  protocol::ExitReport exit;
  exit.pid = 123;
  exit.start_ticks = 456;
  exit.signal = 11;
  exit.core = true;
  exit.last_lines = {"one", "two"};
  return exit;
}

protocol::Event sampleEvent(uint64_t seq) {
  protocol::Event event;
  event.seq = seq;
  event.at = WallTime(Millis(1'700'000'000'123));
  event.kind = protocol::EventKind::kExit;
  event.service = "svc";
  event.index = 0;
  event.generation = 1;
  event.pid = 123;
  event.text = "signal 11 (SEGV)";
  event.exit = sampleExit();
  event.alert = protocol::AlertKind::kCrash;
  return event;
}

StateData sampleState() {
  StateData state;
  state.boot_id = "f5d4e6a0-0000-4000-8000-000000000000";
  state.tokens = {{"svc", 7}};
  InstanceRecord instance;
  instance.ref = {"svc", 0};
  instance.current = 1;
  instance.next_generation = 3;
  GenerationRecord generation;
  generation.generation = 1;
  generation.ports = {{"main", 21000}};
  generation.sockets = {"main"};
  generation.prepared = generation.up = true;
  generation.process = ProcessRecord{123, 456, WallTime(Millis(1'700'000'000'000)), true, 1, 2};
  generation.last_exit.text = protocol::encodeReply(sampleExit());
  instance.generations = {generation};
  state.instances = {instance};
  return state;
}

// One of each request but those that run programs: mutated ones would run anything.
Corpus sampleRequests() {
  using namespace protocol;
  const InstanceRef svc{"svc", 0};
  const Caller caller{"me@here", "a test", 0};
  Corpus all;
  const auto add = [&](const auto& request) { all.push_back(encodeRequest(request)); };
  add(HelloRequest{1, "0.1.0"});
  PushRequest push{"svc", "1.0", kDigest, {}};
  push.files = {{"bin/none", kDigest, 3, true, ""}, {"lib/l.so", "", 0, false, "l.so.1"}};
  add(push);
  add(ReleasesRequest{"svc"});
  add(VerifyRequest{"svc"});
  add(AllocateRequest{
      svc, {{"main", 0, false}, {"other", 21001, false}}, 21000, 21010, {}, caller});
  add(PrepareRequest{sampleSpec(), caller});
  add(GenerationRequest{svc, 1});
  add(StopRequest{svc, 0, true, caller});
  add(SignalRequest{svc, 1, caller});
  add(FenceRequest{svc.service, caller});
  ReconfigureRequest reconfigure;
  reconfigure.instance = svc;
  reconfigure.generation = 1;
  reconfigure.argv = {"bin/none"};
  reconfigure.config = {{"a.conf", "0640", "x = 2\n"}};
  add(reconfigure);
  add(ForgetRequest{svc, caller});
  add(StatusRequest{"svc"});
  add(LogsRequest{svc, 100, true, true, LogPosition{5, 10, "2026-11-23T10:00:00.123Z-000001", {}}});
  add(EventsRequest{1, WallTime(Millis(1'700'000'000'000)), true});
  add(CoresRequest{"svc"});
  add(CoreReadRequest{svc, "core.1.0.123.20261123T100000Z"});
  add(DoctorRequest{});
  add(ConnectionsRequest{"svc", 0, 1, {"127.0.0.1:80", "[::1]:80"}, 5});
  add(HooksRequest{{{{AlertKind::kCrash}, {"/bin/true"}}}});
  AcceptorRequest acceptor{
      AcceptorAct::kAccept, 7, "0123abcd", {1, 2}, false, "lock/svc", "", {}, {}, {}, {}};
  acceptor.ballot = {3, {4, 5}};
  acceptor.next = {6, {7, 8}};
  acceptor.state = RegisterState{2, {R"({"a":[1,2.5,null]})"}, {{9, 10}}};
  add(acceptor);
  acceptor.act = AcceptorAct::kInstall;
  acceptor.membership = Membership{
      "demo", {1, 1}, {{{"host1", "0123abcd"}}, false}, MemberSet{{{"host2", "4567"}}, true}};
  add(acceptor);
  add(AcceptorRequest{});
  add(NamesPushRequest{{{"svc", 3, {R"([{"instance":"svc/0","ports":{"main":1}}])"}}}});
  add(NamesRequest{});
  add(SettingsRequest{});
  add(ReleaseShowRequest{"svc", "1.0"});
  add(ReleaseReadRequest{"svc", "1.0", "bin/none"});
  add(PruneRequest{"svc", {"1.0"}, {kDigest}, true, caller});
  add(SignaturesRequest{"svc", "1.0", {"-----BEGIN SSH SIGNATURE-----"}});
  add(SpecPutRequest{"svc", kDigest, "{}"});
  add(SpecGetRequest{"svc", kDigest});
  add(ShutdownRequest{false, true, caller});
  return all;
}

std::string frame(protocol::FrameKind kind, uint32_t id, std::string_view payload) {
  return protocol::encodeFrame(kind, id, payload);
}

// As a client would send them: one request, or several with data behind.
Corpus sampleStreams() {
  using protocol::FrameKind;
  Corpus all;
  std::string everything;
  for (const std::string& request : sampleRequests()) {
    all.push_back(frame(FrameKind::kRequest, 1, request));
    everything += frame(FrameKind::kRequest, static_cast<uint32_t>(all.size() + 1), request);
  }
  all.push_back(everything);
  all.push_back(all[1] + frame(FrameKind::kData, 1, "abc") + frame(FrameKind::kEnd, 1, ""));
  all.push_back(all[12] + frame(FrameKind::kCancel, 1, ""));
  return all;
}

// ---- a shim in this process --------------------------------------------------------------------

// All that the daemon is made of but processes: requests come in by the real sockets.
class Shim {
 public:
  Shim()
      : survivors_(value(Survivors::open(Fd()))),
        mover_(value(LogMover::open(Fd(), survivors_))),
        exits_(value(ExitLog::makeMemory())),
        fds_(Fd(), Fd()),
        sockets_(fds_),
        cgroups_("/nonexistent", "", "fuzz"),
        loop_(clock_),
        state_(paths::stateFile(root()), loop_),
        store_(root(), clock_),
        journal_(paths::journalDir(root()), loop_),
        host_{root(),   {"demo", "host1", "127.0.0.1", false},
              loop_,    state_,
              store_,   journal_,
              exits_,   survivors_,
              mover_,   fds_,
              sockets_, cgroups_,
              0},
        acceptor_(registry::AcceptorStore::open(paths::acceptorDir(root()), clock_)),
        names_(root(), "demo", loop_),
        supervisor_(host_),
        ops_(host_, supervisor_, acceptor_, names_, {kDigest, clock_.wall(), [](const auto&) {}}),
        control_(
            loop_, [](unsigned) { return true; },
            [this](std::string_view payload, const Responder& responder) {
              return ops_.begin(payload, responder);
            }),
        naming_(loop_, names_) {
    makeTree(root());
    require(journal_.open() && store_.load() && names_.load() &&
                control_.listen(paths::controlSocket(root())) &&
                naming_.listen(paths::namingSocket(root())),
            "the shim begins");
  }

  // What a client hears that sends this, piece by piece, and shuts its side of the connection.
  std::string talk(const std::string& path, std::string_view bytes, Mutator& mutator) {
    Fd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    require(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0,
            "the shim takes connections");
    std::string heard;
    for (int idle = 0; idle < 4;) {
      const size_t part = std::min(bytes.size(), mutator.below(4) == 0 ? mutator.below(20) : 65536);
      const ssize_t put =
          part > 0 ? ::send(client.get(), bytes.data(), part, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
      if (put > 0) bytes.remove_prefix(static_cast<size_t>(put));
      loop_.turn(Millis(0));
      char buffer[16384];
      const ssize_t got = ::recv(client.get(), buffer, sizeof buffer, MSG_DONTWAIT);
      if (got > 0) heard.append(buffer, static_cast<size_t>(got));
      if (got == 0) break;
      idle = put > 0 || got > 0 ? 0 : idle + 1;
    }
    client.reset();
    loop_.turn(Millis(0));
    return heard;
  }

  std::string root() const { return dir_.path(); }

 private:
  template <typename T>
  static T value(Result<T> result) {
    require(result.has_value(), "a part of the shim");
    return std::move(*result);
  }

  TempDir dir_;
  SystemClock clock_;
  Survivors survivors_;
  LogMover mover_;
  ExitLog exits_;
  FdStore fds_;
  Sockets sockets_;
  Cgroups cgroups_;
  EventLoop loop_;
  State state_;
  Store store_;
  Journal journal_;
  Host host_;
  Ops::Acceptor acceptor_;
  Names names_;
  Supervisor supervisor_;
  Ops ops_;
  ControlServer control_;
  NamingServer naming_;
};

// ---- targets -----------------------------------------------------------------------------------

// Each input gets a call; what it needs between calls lives in the closure.

Target control() {
  auto shim = std::make_shared<Shim>();
  return {sampleStreams(), [shim](const std::string& input, Mutator& mutator) {
            const std::string heard =
                shim->talk(paths::controlSocket(shim->root()), input, mutator);
            protocol::FrameDecoder decoder;
            decoder.feed(heard);
            for (auto next = decoder.next(); next && *next; next = decoder.next())
              if ((*next)->kind != protocol::FrameKind::kData)
                require(parseJson((*next)->payload).has_value(), "answers are JSON");
          }};
}

Target naming() {
  auto shim = std::make_shared<Shim>();
  Corpus corpus = {"{\"resolve\":\"svc\"}\n", "{\"watch\":\"svc\"}\n",
                   "{\"watch\":\"a\"}\n{\"watch\":\"b\"}\n{\"resolve\":\"svc\"}\n"};
  return {std::move(corpus), [shim](const std::string& input, Mutator& mutator) {
            std::string_view heard;
            const std::string text = shim->talk(paths::namingSocket(shim->root()), input, mutator);
            heard = text;
            while (!heard.empty()) {
              const size_t end = heard.find('\n');
              require(end != std::string_view::npos && parseJson(heard.substr(0, end)),
                      "answers are lines of JSON");
              heard.remove_prefix(end + 1);
            }
          }};
}

// In pieces or at once: the same frames, or the same end.
Target frames() {
  return {sampleStreams(), [](const std::string& input, Mutator& mutator) {
            using protocol::FrameDecoder;
            const auto drain = [](FrameDecoder& decoder, std::string& seen) {
              for (;;) {
                auto next = decoder.next();
                if (!next) {
                  if (!seen.ends_with("!")) seen += "!";
                  return;
                }
                if (!*next) return;
                seen += fmt::format("{} {} {};", static_cast<int>((*next)->kind), (*next)->id,
                                    (*next)->payload);
              }
            };
            FrameDecoder whole;
            FrameDecoder pieces;
            std::string at_once;
            std::string bit_by_bit;
            whole.feed(input);
            drain(whole, at_once);
            for (size_t at = 0; at < input.size();) {
              const size_t part = mutator.below(64) + 1;
              pieces.feed(std::string_view(input).substr(at, part));
              drain(pieces, bit_by_bit);
              at += part;
            }
            if (input.empty()) drain(pieces, bit_by_bit);
            require(at_once == bit_by_bit, "frames do not depend on how they arrive");
          }};
}

// What decodes must survive being written and read again.
template <typename T>
void roundTrip(const Json& json) {
  const auto message = protocol::decode<T>(json);
  if (!message) return;
  const std::string text = dumpJson(protocol::encode(*message));
  const auto parsed = parseJson(text);
  require(parsed.has_value(), "what was encoded is JSON");
  const auto again = protocol::decode<T>(*parsed);
  require(again && dumpJson(protocol::encode(*again)) == text, "encoding is stable");
}

template <typename... T>
void roundTrips(const Json& json) {
  (roundTrip<T>(json), ...);
}

Target messages() {
  using namespace protocol;
  Corpus corpus = sampleRequests();
  corpus.push_back(encodeReply(sampleSpec()));
  corpus.push_back(encodeReply(sampleEvent(7)));
  corpus.push_back(encodeReply(sampleExit()));
  return {
      std::move(corpus), [](const std::string& input, Mutator&) {
        const auto json = parseJson(input);
        if (!json) return;
        roundTrips<HelloRequest, PushRequest, ReleasesRequest, VerifyRequest, ReleaseShowRequest,
                   ReleaseReadRequest, PruneRequest, SignaturesRequest, SpecPutRequest,
                   SpecGetRequest, AllocateRequest, PrepareRequest, GenerationRequest, StartRequest,
                   StopRequest, RestartRequest, SignalRequest, FenceRequest, ReconfigureRequest,
                   ForgetRequest, StatusRequest, LogsRequest, EventsRequest, CoresRequest,
                   CoreReadRequest, DoctorRequest, HooksRequest, ConnectionsRequest, ViewsRequest,
                   AcceptorRequest, AcceptorReply, NamesPushRequest, NamesRequest, SettingsRequest,
                   SettingsReply, ShutdownRequest, GenerationSpec, Event, ExitReport, NamedService>(
            *json);
        if (const auto spec = decode<GenerationSpec>(*json); spec && checkSpec(*spec)) {
          require(spec->generation > 0, "a spec that was checked has a generation");
        }
        if (const auto push = decode<PushRequest>(*json)) (void)manifestOf(*push);
      }};
}

// Half of them with a checksum that holds: else nothing gets as far as the fields.
std::string maybeSealed(const std::string& input, const char* kind, Mutator& mutator) {
  return mutator.oneIn(2) ? sealText(kind, input) : input;
}

Target state() {
  auto dir = std::make_shared<TempDir>();
  makeTree(dir->path());
  const std::string body = encodeState(sampleState());
  return {{body, sealText("state", body)}, [dir](const std::string& input, Mutator& mutator) {
            const std::string text = maybeSealed(input, "state", mutator);
            put(paths::stateFile(dir->path()), text);
            Fd memory(::memfd_create("state", MFD_CLOEXEC));
            if (mutator.oneIn(3)) (void)StateMemory(Fd(::dup(memory.get()))).write(text);
            if (mutator.oneIn(3))
              (void)::pwrite(memory.get(), input.data(), std::min<size_t>(input.size(), 64), 0);
            SystemClock clock;
            EventLoop loop(clock);
            State loaded(paths::stateFile(dir->path()), loop, StateMemory(std::move(memory)));
            if (!loaded.load()) return;
            const std::string once = encodeState(loaded.data());
            require(loaded.writeNow().has_value(), "what was loaded can be written");
            State again(paths::stateFile(dir->path()), loop);
            require(again.load() && encodeState(again.data()) == once,
                    "the state is the same when it is read again");
          }};
}

Target journal() {
  std::string lines;
  for (uint64_t seq = 1; seq < 6; ++seq) lines += encodeJournalLine(sampleEvent(seq)) + "\n";
  const std::string event = protocol::encodeReply(sampleEvent(3));
  return {{lines, event}, [](const std::string& input, Mutator& mutator) {
            TempDir dir;
            const std::string good = encodeJournalLine(sampleEvent(1)) + "\n";
            const std::string sum = fmt::format("{:08x} ", crc32c(input));
            put(dir.path() + "/00000000000000000001.log",
                mutator.oneIn(3) ? good + sum + input + "\n" : input);
            if (mutator.oneIn(3)) put(dir.path() + "/00000000000000000004.log", input);
            if (mutator.oneIn(10))
              put(dir.path() + "/" + std::to_string(input.size()) + ".log", "x");
            SystemClock clock;
            EventLoop loop(clock);
            uint64_t last = 0;
            {
              Journal first(dir.path(), loop);
              if (!first.open()) return;
              first.append(sampleEvent(0));
              first.flush();
              last = first.lastSeq();
              for (const auto& read : first.read(0, std::nullopt, 1000))
                require(read.seq <= last, "no event has a number to come");
              (void)first.tellsExitOf(123, 456);
            }
            Journal second(dir.path(), loop);
            require(second.open() && second.lastSeq() == last, "what was appended is found again");
            loop.turn(Millis(0));
          }};
}

Target hooks() {
  auto dir = std::make_shared<TempDir>();
  makeTree(dir->path());
  const std::string body = dumpJson(protocol::encode(
      protocol::HooksRequest{{{{protocol::AlertKind::kCrash}, {"/bin/true", "x"}}}}));
  return {{body, sealText("hooks", body)}, [dir](const std::string& input, Mutator& mutator) {
            put(paths::hooksFile(dir->path()), maybeSealed(input, "hooks", mutator));
            SystemClock clock;
            EventLoop loop(clock);
            Journal silent(paths::journalDir(dir->path()), loop);
            const Hooks loaded(dir->path(), {}, loop, silent);
            for (const auto& hook : loaded.hooks())
              require(!hook.argv.empty() && hook.argv[0].starts_with('/'), "hooks are checked");
            loop.turn(Millis(0));
          }};
}

// The acceptor's log, and that of the single store of earlier versions.
Target records() {
  const std::vector<std::string> lines = {
      R"({"kind":"identity","uuid":"0123456789abcdef"})",
      R"({"kind":"promise","key":"lock/x","promised":"3:00000000000000040000000000000005"})",
      R"({"key":"lock/x","revision":1,"value":{"a":1}})"};
  Corpus corpus = lines;
  std::string log(registry::logMagic());
  for (const std::string& line : lines) corpus.push_back(log += registry::encodeRecord(line));
  return {corpus, [lines](const std::string& input, Mutator& mutator) {
            std::string bytes = input;
            if (mutator.oneIn(2) && !input.empty())
              bytes = std::string(registry::logMagic()) + registry::encodeRecord(lines[0]) +
                      registry::encodeRecord(input);
            const auto content = registry::parseLog(bytes, "log");
            if (content)
              require(content->valid_size + content->torn == bytes.size(), "all bytes are told");
            TempDir dir;
            put(dir.path() + (mutator.oneIn(3) ? "/registers.log" : "/1.log"), bytes);
            SystemClock clock;
            auto store = registry::AcceptorStore::open(dir.path(), clock);
            if (!store) return;
            protocol::AcceptorRequest request;
            request.act = protocol::AcceptorAct::kDiscard;
            request.forced = true;
            request.acceptor = (*store)->uuid();
            std::string fresh;
            (*store)->submit(request, [&](const auto& reply) { fresh = reply.acceptor; });
            (*store)->flush();
            require(!fresh.empty() && fresh != request.acceptor, "an open store takes orders");
            store->reset();
            store = registry::AcceptorStore::open(dir.path(), clock);
            require(store && (*store)->uuid() == fresh, "and keeps them");
          }};
}

Target names() {
  auto dir = std::make_shared<TempDir>();
  makeTree(dir->path());
  return {{R"({"format":1,"cluster":"demo","generation":3,"services":{"svc":{"revision":2,)"
           R"("endpoints":[{"instance":"svc/0","ports":{"main":1}}]}}})",
           R"({"format":1,"service":"svc","revision":7,"endpoints":[]})"},
          [dir](const std::string& input, Mutator& mutator) {
            const std::string& root = dir->path();
            if (mutator.oneIn(2))
              put(paths::registryFile(root), input);
            else
              put(paths::registryServiceFile(root, "svc"), input);
            SystemClock clock;
            EventLoop loop(clock);
            Names loaded(root, "demo", loop);
            if (!loaded.load()) return;
            for (const auto& service : loaded.all().services)
              require(parseJson(loaded.lineFor(service.service)).has_value(), "a line of JSON");
          }};
}

Target generation() {
  auto dir = std::make_shared<TempDir>();
  makeTree(dir->path());
  return {{protocol::encodeReply(sampleSpec())}, [dir](const std::string& input, Mutator&) {
            put(paths::specFile(dir->path(), "svc", 0, 1), input);
            const auto spec = readGeneration(dir->path(), {"svc", 0}, 1);
            if (spec) require(checkSpec(*spec).has_value(), "what was read is checked");
          }};
}

Target release() {
  auto dir = std::make_shared<TempDir>();
  makeTree(dir->path());
  ReleaseManifest manifest{"svc", "1.0", kDigest, {{"bin/none", kDigest, 3, true, ""}}};
  const std::string body = dumpJson(encodeManifest(manifest));
  return {{body, sealText("release", body)}, [dir](const std::string& input, Mutator& mutator) {
            const std::string text = maybeSealed(input, "release", mutator);
            put(paths::releaseRecord(dir->path(), "svc", "1.0"), text);
            SystemClock clock;
            Store store(dir->path(), clock);
            (void)store.load();
            if (const auto json = unsealText(text, "release", "x"); json)
              (void)decodeManifest(*json);
          }};
}

Target identity() {
  auto dir = std::make_shared<TempDir>();
  makeTree(dir->path());
  const std::string body =
      R"({"advertise":"10.0.0.1","boot_hook":true,"cluster":"demo","host":"host1"})";
  return {{body, sealText("identity", body), "0\n1000\n4294967295\n", "/opt/clusterctl/demo"},
          [dir](const std::string& input, Mutator& mutator) {
            put(paths::clusterFile(dir->path()), maybeSealed(input, "identity", mutator));
            put(paths::operatorsFile(dir->path()), input);
            (void)loadIdentity(dir->path());
            (void)loadOperators(dir->path());
            (void)checkRoot(input);
          }};
}

// ---- views ----

std::string sampleView(protocol::ViewKind kind) {
  protocol::View view;
  view.kind = kind;
  view.path = kind == protocol::ViewKind::kHaproxy ? "/run/haproxy.sock" : "web.conf";
  view.services = {"web"};
  view.port = "main";
  view.name = "web";
  if (kind == protocol::ViewKind::kHaproxy) view.servers = {"s1", "s2", "s3"};
  view.labels = {{"team", "a"}};
  view.reload = {"/usr/sbin/nginx", "-s", "reload"};
  Json json = protocol::encode(protocol::ViewsRequest{{view}});
  json["cluster"] = "demo";
  for (const char* state : {"ready", "unhealthy", "draining"})
    json["endpoints"].push_back({{"instance", "web/0"},
                                 {"host", "h1"},
                                 {"address", "10.0.0.1"},
                                 {"ports", {{"main", 21000}, {"admin", 21001}}},
                                 {"version", "1.0.0"},
                                 {"state", state}});
  json["haproxy"] =
      "1\n# be_id be_name srv_id srv_name srv_addr srv_admin_state srv_port\n3 web 1 s1 - 1 0\n"
      "3 web 2 s2 10.0.0.1 0 21000\n";
  return dumpJson(json);
}

// What ends a word, a line or a statement for somebody.
void spoil(Json& json, Mutator& mutator) {
  static const std::vector<std::string> kHostile = {"\n",
                                                    "\r\n",
                                                    ";",
                                                    "}",
                                                    "{",
                                                    "\"",
                                                    "'",
                                                    "\\",
                                                    "#",
                                                    "$(id)",
                                                    "`id`",
                                                    "%0a",
                                                    "\tx",
                                                    " ",
                                                    "<<",
                                                    "],[",
                                                    "/../",
                                                    "\x01",
                                                    "\xff\xfe",
                                                    "\u2028",
                                                    "; include /x;",
                                                    " addr 6.6.6.6",
                                                    "\nmaster;\n"};
  if (json.is_structured())
    for (Json& child : json) spoil(child, mutator);
  if (json.is_string() && mutator.oneIn(6)) {
    std::string text = json.get<std::string>();
    json = text.insert(mutator.below(text.size() + 1), mutator.pick(kHostile));
  }
}

bool isTarget(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == 0 || colon == std::string_view::npos) return false;
  for (const char c : text)
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 &&
        std::string_view(".:-_%[]").find(c) == std::string_view::npos)
      return false;
  return text.find_first_not_of("0123456789", colon + 1) == std::string_view::npos;
}

std::vector<std::string_view> linesOf(std::string_view text) {
  std::vector<std::string_view> lines;
  for (size_t end; (end = text.find('\n')) != std::string_view::npos; text.remove_prefix(end + 1))
    lines.push_back(text.substr(0, end));
  require(text.empty(), "the last line ends");
  return lines;
}

std::string_view without(std::string_view text, std::string_view head, std::string_view tail) {
  require(
      text.size() >= head.size() + tail.size() && text.starts_with(head) && text.ends_with(tail),
      "a line is what it is meant to be");
  return text.substr(head.size(), text.size() - head.size() - tail.size());
}

void checkNginx(const std::string& text, const protocol::View& view, size_t most) {
  const auto lines = linesOf(text);
  require(lines.size() >= 4 && lines.size() <= 3 + std::max<size_t>(most, 1),
          "a server for each endpoint, or one that is nowhere");
  require(lines[0].starts_with("# ") && lines[1] == "upstream " + view.name + " {" &&
              lines.back() == "}",
          "one upstream");
  for (size_t i = 2; i + 1 < lines.size(); ++i) {
    std::string_view target = without(lines[i], "    server ", ";");
    if (target.ends_with(" down")) target = without(target, "", " down");
    require(isTarget(target), "nothing but a server");
  }
}

void checkPrometheus(const std::string& text, size_t most) {
  const auto groups = parseJson(text);
  require(groups && groups->is_array() && groups->size() <= most, "a list of groups");
  for (const Json& group : *groups) {
    require(group.size() == 2 && group["targets"].size() == 1 &&
                isTarget(group["targets"][0].get<std::string>()),
            "a target for each group");
    for (const Json& label : group["labels"]) require(label.is_string(), "labels are text");
  }
}

void checkHaproxy(const protocol::View& view, const std::string& answer,
                  const ShownService& service) {
  const auto servers = parseServers(answer, view.name);
  const HaproxyPlan plan =
      planServers(view, servers.value_or(std::vector<HaproxyServer>()), service);
  for (const std::string& command : plan.commands) {
    std::string_view rest = without(command, "set server " + view.name + "/", "");
    const size_t space = rest.find(' ');
    require(std::find(view.servers.begin(), view.servers.end(), rest.substr(0, space)) !=
                view.servers.end(),
            "servers that the view may use");
    rest.remove_prefix(space + 1);
    if (rest.starts_with("state ")) {
      rest = without(rest, "state ", "");
      require(rest == "ready" || rest == "drain" || rest == "maint", "a state");
    } else {
      std::string target(without(rest, "addr ", ""));
      const size_t port = target.find(" port ");
      require(port != std::string::npos, "an address and a port");
      require(isTarget(target.replace(port, 6, ":")), "nothing but an address and a port");
    }
  }
}

// Names, addresses and labels that would end a statement or a line of who reads the view.
Target views() {
  using protocol::ViewKind;
  Corpus corpus;
  for (const ViewKind kind :
       {ViewKind::kPrometheus, ViewKind::kNginx, ViewKind::kHaproxy, ViewKind::kPlain})
    corpus.push_back(sampleView(kind));
  for (const std::string& text : corpus) {
    const auto request = protocol::decode<protocol::ViewsRequest>(*parseJson(text));
    require(request && checkViews(request->views), "what is spoiled made sense before");
  }
  return {corpus, [corpus](const std::string& input, Mutator& mutator) {
            // Few mutated texts are JSON still: the others are of the corpus, each word in danger.
            auto json = parseJson(input);
            if (!json || !json->is_object()) json = parseJson(mutator.pick(corpus));
            spoil(*json, mutator);
            const auto request = protocol::decode<protocol::ViewsRequest>(*json);
            if (!request || !checkViews(request->views)) return;
            ShownService service{"web", {}};
            for (const Json& one : json->value("endpoints", Json::array()))
              if (auto endpoint = parseEndpoint(one)) service.endpoints.push_back(*endpoint);
            const Json cluster = json->value("cluster", Json());
            const Json answer = json->value("haproxy", Json());
            for (const protocol::View& view : request->views) {
              const std::string text =
                  viewText(view, cluster.is_string() ? cluster.get<std::string>() : "", {service});
              const size_t most = service.endpoints.size();
              if (view.kind == ViewKind::kNginx) checkNginx(text, view, most);
              if (view.kind == ViewKind::kPrometheus) checkPrometheus(text, most);
              if (view.kind == ViewKind::kPlain)
                for (const std::string_view line : linesOf(text))
                  require(isTarget(line), "a target a line");
              if (view.kind == ViewKind::kHaproxy)
                checkHaproxy(view, answer.is_string() ? answer.get<std::string>() : "", service);
            }
          }};
}

Target notification() {
  return {{"READY=1\nSTATUS=fine\n", "WATCHDOG=1", "STOPPING=1\nSTATUS=bye\nMAINPID=7"},
          [](const std::string& input, Mutator&) {
            size_t bytes = 0;
            for (const auto& [key, text] : parseNotification(input))
              bytes += key.size() + text.size();
            require(bytes <= input.size(), "no more is told than was said");
          }};
}

Target proc() {
  auto dir = std::make_shared<TempDir>();
  require(makeDirs(dir->path() + "/sys/kernel").has_value(), "directories");
  std::string stat = "123 (a (b) c) S 1 123 123 0 -1 4194560";
  for (int i = 0; i < 43; ++i) stat += " " + std::to_string(i * 1000);
  return {{stat, stat + "\n", "core", "/var/cores/core.%e.%p.%h.%t.%%", "|/usr/bin/x %p",
           "core.1.0.123.20261123T100000Z"},
          [dir](const std::string& input, Mutator& mutator) {
            (void)parseProcStat(input);
            put(dir->path() + "/sys/kernel/core_pattern", input);
            put(dir->path() + "/sys/kernel/core_uses_pid", mutator.oneIn(2) ? "1\n" : input);
            const CorePattern pattern = readCorePattern(dir->path());
            const CrashedProcess process{{"svc", 0}, "1.0", 123, 11, {}, {}};
            (void)pattern.piped();
            (void)matchesCorePattern(pattern.text.substr(0, 500), pattern.uses_pid, process,
                                     std::string_view(input).substr(0, 255));
            if (const auto name = parseCoreFileName(input))
              require(parseCoreFileName(coreFileName(*name)).has_value(), "names are read back");
          }};
}

const fuzz::Targets& targets() {
  static const fuzz::Targets all = {{"control", control},
                                    {"naming", naming},
                                    {"frames", frames},
                                    {"messages", messages},
                                    {"state", state},
                                    {"journal", journal},
                                    {"hooks", hooks},
                                    {"records", records},
                                    {"names", names},
                                    {"generation", generation},
                                    {"release", release},
                                    {"identity", identity},
                                    {"notification", notification},
                                    {"views", views},
                                    {"proc", proc}};
  return all;
}

}  // namespace
}  // namespace cctl::shim

int main(int argc, char** argv) { return cctl::fuzz::runFuzzer(cctl::shim::targets(), argc, argv); }
