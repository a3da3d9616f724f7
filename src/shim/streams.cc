#include "shim/streams.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"

namespace cctl::shim {
namespace {

constexpr size_t kSlice = 8u << 20;  // bytes hashed or copied in one turn of the loop

// Work that continues from the loop as long as the request lives.
template <typename Self, typename Step>
void later(EventLoop& loop, const std::shared_ptr<Self>& self, Step step) {
  loop.soon([weak = std::weak_ptr<Self>(self), step] {
    if (const auto alive = weak.lock()) step(*alive);
  });
}

// ---- push --------------------------------------------------------------------------------------

class Push final : public Request, public std::enable_shared_from_this<Push> {
 public:
  Push(Host& host, std::unique_ptr<Incoming> incoming, const protocol::PushRequest& request,
       const Responder& responder)
      : host_(host),
        incoming_(std::move(incoming)),
        name_(request.service),
        version_(request.version),
        digest_(request.digest),
        responder_(responder) {}

  void prepare() {
    if (!incoming_) return;  // failed meanwhile: data came before it was asked for
    auto ready = incoming_->reuse(kSlice);
    if (!ready) return failWith(ready.error());
    if (!*ready) return later(host_.loop, shared_from_this(), [](Push& self) { self.prepare(); });
    asked_ = true;
    responder_.item(protocol::encodeReply(protocol::PushNeed{incoming_->needed()}));
    if (incoming_->needed().empty()) finish();
  }

  void onData(std::string_view bytes) override {
    if (!incoming_) return;  // failed before
    if (!asked_) return failWith({Code::kCorrupt, "data before the shim has asked for any"});
    if (auto fed = incoming_->feed(bytes); !fed) failWith(fed.error());
  }

  void onEnd() override {
    if (incoming_ && asked_) finish();
  }

 private:
  void finish() {
    protocol::PushReply reply;
    reply.received = incoming_->received();
    auto installed = incoming_->finish();
    if (!installed) return failWith(installed.error());
    reply.installed = *installed;
    incoming_.reset();
    if (reply.installed) record(protocol::EventKind::kInstall, "installed");
    responder_.reply(protocol::encodeReply(reply));
  }

  void failWith(const Error& error) {
    incoming_.reset();
    record(protocol::EventKind::kRefused, error.message);
    responder_.error(error.context(fmt::format("{} {}", name_, version_)));
  }

  void record(protocol::EventKind kind, std::string text) {
    protocol::Event event;
    event.kind = kind;
    event.service = name_;
    event.version = version_;
    event.text = std::move(text);
    host_.journal.append(std::move(event));
  }

  Host& host_;
  std::unique_ptr<Incoming> incoming_;
  std::string name_;
  std::string version_;
  std::string digest_;
  Responder responder_;
  bool asked_ = false;
};

// ---- verify ------------------------------------------------------------------------------------

class Verify final : public Request, public std::enable_shared_from_this<Verify> {
 public:
  Verify(Host& host, std::vector<Supervisor::Running> running,
         const protocol::VerifyRequest& request, const Responder& responder)
      : host_(host), responder_(responder) {
    for (const ReleaseManifest* release : host.store.releases(request.service))
      releases_.push_back(*release);
    for (Supervisor::Running& process : running)
      if (request.service.empty() || process.ref.service == request.service)
        running_.push_back(std::move(process));
  }

  void step() {
    if (responder_.congested()) return;  // onDrained goes on
    if (!stepRelease() && !stepProcess())
      return responder_.reply(protocol::encodeReply(protocol::Empty{}));
    later(host_.loop, shared_from_this(), [](Verify& self) { self.step(); });
  }

  void onDrained() override { step(); }

 private:
  // False when no release is left.
  bool stepRelease() {
    if (releases_.empty()) return false;
    const ReleaseManifest& release = releases_.front();
    if (!check_)
      check_ = std::make_unique<ReleaseCheck>(host_.store.dirOf(release),
                                              std::make_shared<ReleaseManifest>(release), nullptr);
    if (!check_->step(kSlice)) return true;
    protocol::VerifyItem item;
    item.service = release.service;
    item.version = release.version;
    item.digest = release.digest;
    item.problems = check_->problems();
    responder_.item(protocol::encodeReply(item));
    check_.reset();
    releases_.pop_front();
    return true;
  }

  bool stepProcess() {
    if (running_.empty()) return false;
    const Supervisor::Running& process = running_.front();
    if (!exe_) {
      exe_.reset(::open(fmt::format("/proc/{}/exe", process.pid).c_str(), O_RDONLY | O_CLOEXEC));
      sha_ = Sha256();
    }
    if (exe_ && hashSome()) return true;
    protocol::VerifyItem item;
    item.service = process.ref.service;
    item.version = process.version;
    item.index = process.ref.index;
    item.pid = process.pid;
    if (const auto* release = host_.store.find(process.ref.service, process.version))
      item.digest = release->digest;
    if (exe_)
      item.exe_sha256 = sha_.hex();
    else
      item.problems.emplace_back("its executable cannot be read");
    exe_.reset();
    responder_.item(protocol::encodeReply(item));
    running_.pop_front();
    return true;
  }

  // True while there is more.
  bool hashSome() {
    std::string buffer(kSlice, '\0');
    const ssize_t got = ::read(exe_.get(), buffer.data(), buffer.size());
    if (got <= 0) return false;
    sha_.update({buffer.data(), static_cast<size_t>(got)});
    return true;
  }

  Host& host_;
  Responder responder_;
  std::deque<ReleaseManifest> releases_;
  std::deque<Supervisor::Running> running_;
  std::unique_ptr<ReleaseCheck> check_;
  Fd exe_;
  Sha256 sha_;
};

// ---- logs --------------------------------------------------------------------------------------

class Logs final : public Request, public std::enable_shared_from_this<Logs> {
 public:
  Logs(Host& host, std::shared_ptr<LogFile> log, const protocol::LogsRequest& request,
       const Responder& responder)
      : host_(host),
        log_(std::move(log)),
        responder_(responder),
        follow_(request.follow),
        positions_(request.positions) {
    position_ = request.from ? *request.from : log_->tail(std::max(request.lines, 0));
    if (follow_) subscription_ = log_->subscribe([this] { wake(); });
  }
  ~Logs() override {
    if (follow_) log_->unsubscribe(subscription_);
  }

  void pump() {
    waking_ = false;
    while (!responder_.congested()) {
      const std::string text = log_->read(position_, protocol::kMaxDataPayload);
      if (text.empty()) return follow_ && !log_->closed() ? void() : finish();
      responder_.data(text);
      if (positions_) responder_.item(protocol::encodeReply(position_));
    }
  }

  void onDrained() override { pump(); }

 private:
  void wake() {
    if (std::exchange(waking_, true)) return;
    later(host_.loop, shared_from_this(), [](Logs& self) { self.pump(); });
  }
  void finish() { responder_.reply(protocol::encodeReply(protocol::Empty{})); }

  Host& host_;
  std::shared_ptr<LogFile> log_;
  Responder responder_;
  const bool follow_;
  const bool positions_;
  bool waking_ = false;
  uint64_t subscription_ = 0;
  LogFile::Position position_;
};

// ---- events ------------------------------------------------------------------------------------

class Events final : public Request, public std::enable_shared_from_this<Events> {
 public:
  Events(Host& host, const protocol::EventsRequest& request, const Responder& responder)
      : host_(host), responder_(responder), request_(request) {
    if (request_.follow) subscription_ = host_.journal.subscribe([this] { wake(); });
  }
  ~Events() override {
    if (request_.follow) host_.journal.unsubscribe(subscription_);
  }

  void pump() {
    static constexpr size_t kBatch = 256;
    waking_ = false;
    while (!responder_.congested()) {
      const auto events = host_.journal.read(request_.after, request_.since, kBatch);
      for (const protocol::Event& event : events) responder_.item(protocol::encodeReply(event));
      if (!events.empty()) request_.after = events.back().seq;
      if (events.size() == kBatch) continue;
      if (!request_.follow) responder_.reply(protocol::encodeReply(protocol::Empty{}));
      return;
    }
  }

  void onDrained() override { pump(); }

 private:
  void wake() {
    if (std::exchange(waking_, true)) return;
    later(host_.loop, shared_from_this(), [](Events& self) { self.pump(); });
  }

  Host& host_;
  Responder responder_;
  protocol::EventsRequest request_;
  bool waking_ = false;
  uint64_t subscription_ = 0;
};

}  // namespace

std::shared_ptr<Request> beginPush(Host& host, std::unique_ptr<Incoming> incoming,
                                   const protocol::PushRequest& request,
                                   const Responder& responder) {
  auto push = std::make_shared<Push>(host, std::move(incoming), request, responder);
  later(host.loop, push, [](Push& self) { self.prepare(); });
  return push;
}

std::shared_ptr<Request> beginVerify(Host& host, std::vector<Supervisor::Running> running,
                                     const protocol::VerifyRequest& request,
                                     const Responder& responder) {
  auto verify = std::make_shared<Verify>(host, std::move(running), request, responder);
  later(host.loop, verify, [](Verify& self) { self.step(); });
  return verify;
}

std::shared_ptr<Request> beginLogs(Host& host, std::shared_ptr<LogFile> log,
                                   const protocol::LogsRequest& request,
                                   const Responder& responder) {
  auto logs = std::make_shared<Logs>(host, std::move(log), request, responder);
  later(host.loop, logs, [](Logs& self) { self.pump(); });
  return logs;
}

std::shared_ptr<Request> beginEvents(Host& host, const protocol::EventsRequest& request,
                                     const Responder& responder) {
  auto events = std::make_shared<Events>(host, request, responder);
  later(host.loop, events, [](Events& self) { self.pump(); });
  return events;
}

}  // namespace cctl::shim
