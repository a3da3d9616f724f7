#include "shim/ops.h"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/version.h"
#include "shim/connections.h"
#include "shim/cores.h"
#include "shim/doctor.h"
#include "shim/install.h"
#include "shim/proc.h"
#include "shim/specs.h"
#include "shim/streams.h"
#include "shim/users.h"

namespace cctl::shim {
namespace {

using namespace protocol;  // its messages are what this file is about
using Kept = std::shared_ptr<cctl::shim::Request>;

constexpr size_t kLarge = 256u << 10;

// A callback that sends the outcome.
template <typename T>
auto answer(const Responder& responder) {
  return [responder](Result<T> outcome) {
    if (outcome)
      responder.reply(encodeReply(*outcome));
    else
      responder.error(outcome.error());
  };
}

}  // namespace

template <typename T>
void Ops::add(std::shared_ptr<Request> (Ops::*handler)(const T&, const Responder&)) {
  handlers_[opOf<T>()] = [this, handler](const Json& json, const Responder& responder) -> Kept {
    auto request = decode<T>(json);
    if (request) return (this->*handler)(*request, responder);
    responder.error(request.error().context(fmt::format("request \"{}\"", opOf<T>())));
    return nullptr;
  };
}

Ops::Ops(Host& host, Supervisor& supervisor, Acceptor& acceptor, Names& names, ShimFacts facts)
    : host_(host),
      supervisor_(supervisor),
      acceptor_(acceptor),
      names_(names),
      facts_(std::move(facts)),
      hooks_(host.root, host.identity, host.loop, host.journal),
      views_(host.root, host.identity, host.loop, host.journal, names) {
  add(&Ops::hello);
  add(&Ops::push);
  add(&Ops::releases);
  add(&Ops::verify);
  add(&Ops::releaseShow);
  add(&Ops::releaseRead);
  add(&Ops::prune);
  add(&Ops::signaturesPut);
  add(&Ops::specPut);
  add(&Ops::specGet);
  add(&Ops::allocate);
  add(&Ops::prepare);
  add(&Ops::generation);
  add(&Ops::start);
  add(&Ops::stop);
  add(&Ops::restart);
  add(&Ops::signal);
  add(&Ops::reconfigure);
  add(&Ops::forget);
  add(&Ops::fence);
  add(&Ops::status);
  add(&Ops::logs);
  add(&Ops::events);
  add(&Ops::cores);
  add(&Ops::coreRead);
  add(&Ops::doctor);
  add(&Ops::connections);
  add(&Ops::hooks);
  add(&Ops::views);
  add(&Ops::settings);
  add(&Ops::acceptor);
  add(&Ops::namesPush);
  add(&Ops::names);
  add(&Ops::shutdown);
  addRetired();
}

// What clients of protocol 1 ask of the one host that decided alone then. To serve them beside the
// quorum would be to decide twice.
void Ops::addRetired() {
  for (const char* op : {"register-read", "register-write", "register-list"})
    handlers_[op] = [](const Json&, const Responder& responder) -> Kept {
      responder.error({Code::kRefused,
                       fmt::format("the registry of this cluster is kept by a quorum of hosts "
                                   "since it was used with clusterctl {}: use that or a newer one",
                                   kVersion)});
      return nullptr;
    };
}

std::string Ops::registryProblem() const {
  return acceptor_ ? (*acceptor_)->problem() : acceptor_.error().message;
}

Kept Ops::begin(std::string_view payload, const Responder& responder) {
  if (payload.size() >= kLarge) trimAtTurnEnd();
  const auto json = parseJson(payload);
  if (!json) {
    responder.error(json.error());
    return nullptr;
  }
  const auto op = json->is_object() ? json->find("op") : json->end();
  const auto handler = op != json->end() && op->is_string() ? handlers_.find(op->get<std::string>())
                                                            : handlers_.end();
  if (handler != handlers_.end()) return handler->second(*json, responder);
  responder.error(
      {Code::kBadInput, fmt::format("this shim ({}) knows no such operation", kVersion)});
  return nullptr;
}

Kept Ops::hello(const HelloRequest& request, const Responder& responder) {
  if (request.protocol < kOldestProtocol) {
    responder.error(
        {Code::kRefused,
         fmt::format("this shim ({}) speaks protocol {} to {}, clusterctl {} speaks {}: "
                     "use a newer clusterctl",
                     kVersion, kOldestProtocol, kProtocolVersion, request.client,
                     request.protocol)});
    return nullptr;
  }
  HelloReply reply;
  reply.protocol = std::min(request.protocol, kProtocolVersion);
  reply.version = kVersion;
  reply.digest = facts_.digest;
  reply.cluster = host_.identity.cluster;
  reply.host = host_.identity.host;
  reply.root = host_.root;
  reply.advertise = host_.identity.advertise;
  reply.boot_id = bootId();
  if (acceptor_) {
    reply.acceptor = (*acceptor_)->uuid();
    reply.membership = (*acceptor_)->membership();
  }
  reply.registry_problem = registryProblem();
  reply.link_problem = brokenLink(host_.root, facts_.digest);
  reply.pid = ::getpid();
  reply.uid = ::geteuid();
  reply.user = thisUser().name;
  reply.now = host_.loop.clock().wall();
  responder.reply(encodeReply(reply));
  return nullptr;
}

Kept Ops::push(const PushRequest& request, const Responder& responder) {
  auto incoming = host_.store.push(request);
  if (!incoming) {
    responder.error(incoming.error());
    return nullptr;
  }
  if (*incoming) return beginPush(host_, std::move(*incoming), request, responder);
  responder.item(encodeReply(PushNeed{}));
  responder.reply(encodeReply(PushReply{}));
  return nullptr;
}

Kept Ops::releases(const ReleasesRequest& request, const Responder& responder) {
  for (const ReleaseManifest* release : host_.store.releases(request.service))
    responder.item(
        encodeReply(InstalledRelease{release->service, release->version, release->digest}));
  responder.reply(encodeReply(Empty{}));
  return nullptr;
}

Kept Ops::verify(const VerifyRequest& request, const Responder& responder) {
  return beginVerify(host_, supervisor_.running(), request, responder);
}

Kept Ops::releaseShow(const ReleaseShowRequest& request, const Responder& responder) {
  const ReleaseManifest* release = host_.store.find(request.service, request.version);
  if (release)
    responder.reply(
        encodeReply(ReleaseContents{release->digest, release->files,
                                    host_.store.signatures(request.service, request.version)}));
  else
    responder.error({Code::kNotFound, fmt::format("{} {} is not on host {}", request.service,
                                                  request.version, host_.identity.host)});
  return nullptr;
}

Kept Ops::releaseRead(const ReleaseReadRequest& request, const Responder& responder) {
  auto file = openReleaseFile(host_, request);
  if (file) return beginFileRead(host_, std::move(*file), responder);
  responder.error(file.error());
  return nullptr;
}

Kept Ops::signaturesPut(const SignaturesRequest& request, const Responder& responder) {
  if (auto kept = host_.store.keepSignatures(request); !kept)
    responder.error(kept.error());
  else
    responder.reply(encodeReply(Empty{}));
  return nullptr;
}

Kept Ops::prune(const PruneRequest& request, const Responder& responder) {
  answer<PruneReply>(responder)(shim::prune(host_, request));
  return nullptr;
}

Kept Ops::specPut(const SpecPutRequest& request, const Responder& responder) {
  if (auto put = putSpec(host_.root, request); !put)
    responder.error(put.error());
  else
    responder.reply(encodeReply(Empty{}));
  return nullptr;
}

Kept Ops::specGet(const SpecGetRequest& request, const Responder& responder) {
  auto text = getSpec(host_.root, request);
  if (text)
    responder.reply(encodeReply(SpecText{std::move(*text)}));
  else
    responder.error(text.error());
  return nullptr;
}

Kept Ops::allocate(const AllocateRequest& request, const Responder& responder) {
  supervisor_.allocate(request, answer<AllocateReply>(responder));
  return nullptr;
}

Kept Ops::prepare(const PrepareRequest& request, const Responder& responder) {
  supervisor_.prepare(request, answer<Empty>(responder));
  return nullptr;
}

Kept Ops::generation(const GenerationRequest& request, const Responder& responder) {
  answer<GenerationSpec>(responder)(supervisor_.generation(request));
  return nullptr;
}

Kept Ops::start(const StartRequest& request, const Responder& responder) {
  supervisor_.start(request, answer<StartReply>(responder));
  return nullptr;
}

Kept Ops::stop(const StopRequest& request, const Responder& responder) {
  supervisor_.stop(request, answer<StopReply>(responder));
  return nullptr;
}

Kept Ops::restart(const RestartRequest& request, const Responder& responder) {
  supervisor_.restart(request, answer<StartReply>(responder));
  return nullptr;
}

Kept Ops::signal(const SignalRequest& request, const Responder& responder) {
  supervisor_.signal(request, answer<Empty>(responder));
  return nullptr;
}

Kept Ops::reconfigure(const ReconfigureRequest& request, const Responder& responder) {
  supervisor_.reconfigure(request, answer<Empty>(responder));
  return nullptr;
}

Kept Ops::forget(const ForgetRequest& request, const Responder& responder) {
  supervisor_.forget(request, answer<StopReply>(responder));
  return nullptr;
}

Kept Ops::fence(const FenceRequest& request, const Responder& responder) {
  supervisor_.fence(request, answer<Empty>(responder));
  return nullptr;
}

Kept Ops::status(const StatusRequest& request, const Responder& responder) {
  for (const InstanceStatus& status : supervisor_.status(request.service))
    responder.item(encodeReply(status));
  const HostFigures figures = hostFigures(host_.root);
  HostStatus reply;
  reply.host = host_.identity.host;
  reply.now = host_.loop.clock().wall();
  reply.uptime = figures.uptime;
  reply.load1 = figures.load1;
  reply.cpus = figures.cpus;
  reply.memory_total = figures.memory_total;
  reply.memory_available = figures.memory_available;
  reply.disk_total = figures.disk_total;
  reply.disk_free = figures.disk_free;
  reply.net_received = figures.net_received;
  reply.net_sent = figures.net_sent;
  reply.shim_version = kVersion;
  reply.shim_since = facts_.since;
  reply.boot_hook = host_.identity.boot_hook;
  responder.reply(encodeReply(reply));
  return nullptr;
}

Kept Ops::logs(const LogsRequest& request, const Responder& responder) {
  if (auto log = supervisor_.logOf(request.instance))
    return beginLogs(host_, std::move(log), request, responder);
  responder.error({Code::kNotFound, fmt::format("{}/{} is not on host {}", request.instance.service,
                                                request.instance.index, host_.identity.host)});
  return nullptr;
}

Kept Ops::events(const EventsRequest& request, const Responder& responder) {
  return beginEvents(host_, request, responder);
}

Kept Ops::cores(const CoresRequest& request, const Responder& responder) {
  return beginCores(host_, request, responder);
}

Kept Ops::coreRead(const CoreReadRequest& request, const Responder& responder) {
  auto file = openCore(host_.root, request);
  if (file) return beginFileRead(host_, std::move(*file), responder);
  responder.error(file.error());
  return nullptr;
}

Kept Ops::doctor(const DoctorRequest&, const Responder& responder) {
  DoctorReply reply = examineHost(host_);
  examineNames(host_, names_, reply);
  reply.registry_problem = registryProblem();
  if (reply.registry_problem.empty()) reply.registry_problem = lostPromises(host_);
  responder.reply(encodeReply(reply));
  return nullptr;
}

Kept Ops::connections(const ConnectionsRequest& request, const Responder& responder) {
  const std::vector<TcpConnection> found =
      request.to.empty() ? connectionsToServices(request, supervisor_.running())
                         : connectionsFromHere(request.to, supervisor_.running());
  const auto most = static_cast<size_t>(std::clamp(request.most, 0, kMostConnections));
  for (size_t i = 0; i < std::min(most, found.size()); ++i) responder.item(encodeReply(found[i]));
  responder.reply(encodeReply(ConnectionsReply{static_cast<int>(found.size())}));
  return nullptr;
}

Kept Ops::hooks(const HooksRequest& request, const Responder& responder) {
  if (auto replaced = hooks_.replace(request.hooks); !replaced)
    responder.error(replaced.error());
  else
    responder.reply(encodeReply(Empty{}));
  return nullptr;
}

Kept Ops::views(const ViewsRequest& request, const Responder& responder) {
  if (auto replaced = views_.replace(request.views); !replaced)
    responder.error(replaced.error());
  else
    responder.reply(encodeReply(Empty{}));
  return nullptr;
}

Kept Ops::settings(const SettingsRequest&, const Responder& responder) {
  responder.reply(encodeReply(SettingsReply{hooks_.hooks(), views_.views()}));
  return nullptr;
}

Kept Ops::acceptor(const AcceptorRequest& request, const Responder& responder) {
  if (!acceptor_) {
    responder.reply(encodeReply(registry::AcceptorStore::refusal(request, registryProblem())));
    return nullptr;
  }
  (*acceptor_)->submit(request, [responder](const AcceptorReply& reply) {
    responder.reply(encodeReply(reply));
  });
  if ((*acceptor_)->hasWork()) flushAtTurnEnd();
  return nullptr;
}

// Taking a large request apart needs many times its size for a moment, in pieces between which what
// is kept comes to lie: the allocator gives such pages back only when told to.
void Ops::trimAtTurnEnd() {
  if (std::exchange(trim_due_, true)) return;
  host_.loop.atTurnEnd([this] {
    trim_due_ = false;
    ::malloc_trim(0);
  });
}

// One sync for all that came in this turn.
void Ops::flushAtTurnEnd() {
  if (std::exchange(flush_due_, true)) return;
  host_.loop.atTurnEnd([this] {
    flush_due_ = false;
    (*acceptor_)->flush();
  });
}

Kept Ops::namesPush(const NamesPushRequest& request, const Responder& responder) {
  const auto applied = names_.apply(request.services);
  if (!applied) {
    responder.error(applied.error());
    return nullptr;
  }
  names_.whenWritten([this, applied = *applied, responder](const Result<void>& written) {
    for (const std::string& service : applied) {
      Event event;
      event.kind = EventKind::kNames;
      event.service = service;
      event.text =
          fmt::format("names of {} are now at revision {}", service, names_.revisionOf(service));
      host_.journal.append(std::move(event));
    }
    if (written)
      responder.reply(encodeReply(NamesReply{names_.generation(), {}}));
    else
      responder.error(written.error());
  });
  return nullptr;
}

Kept Ops::names(const NamesRequest&, const Responder& responder) {
  responder.reply(encodeReply(names_.all()));
  return nullptr;
}

Kept Ops::shutdown(const ShutdownRequest& request, const Responder& responder) {
  Event event;
  event.kind = EventKind::kOrder;
  event.by = request.caller.by;
  event.reason = request.caller.reason;
  event.text = request.stop_services ? "shut down, services too" : "shut down, services live on";
  host_.journal.append(std::move(event));
  responder.reply(encodeReply(Empty{}));
  facts_.shut_down(request);
  return nullptr;
}

}  // namespace cctl::shim
