// Every operation of the control protocol (PROTOCOL.md), one function each.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/json.h"
#include "registry/acceptor_store.h"
#include "shim/control_server.h"
#include "shim/hooks.h"
#include "shim/host.h"
#include "shim/names.h"
#include "shim/supervisor.h"
#include "shim/views.h"

namespace cctl::shim {

// What the parts cannot know of the process they are in.
struct ShimFacts {
  std::string digest;  // SHA-256 of the running executable
  WallTime since{};
  std::function<void(const protocol::ShutdownRequest&)> shut_down;
};

class Ops {
 public:
  // All must outlive it. `acceptor` may be the reason why this host cannot serve the registry.
  using Acceptor = Result<std::unique_ptr<registry::AcceptorStore>>;
  Ops(Host& host, Supervisor& supervisor, Acceptor& acceptor, Names& names, ShimFacts facts);

  std::shared_ptr<Request> begin(std::string_view payload, const Responder& responder);

 private:
  using Handler = std::function<std::shared_ptr<Request>(const Json&, const Responder&)>;

  template <typename T>
  void add(std::shared_ptr<Request> (Ops::*handler)(const T&, const Responder&));

  std::shared_ptr<Request> hello(const protocol::HelloRequest&, const Responder&);
  std::shared_ptr<Request> push(const protocol::PushRequest&, const Responder&);
  std::shared_ptr<Request> releases(const protocol::ReleasesRequest&, const Responder&);
  std::shared_ptr<Request> verify(const protocol::VerifyRequest&, const Responder&);
  std::shared_ptr<Request> releaseShow(const protocol::ReleaseShowRequest&, const Responder&);
  std::shared_ptr<Request> releaseRead(const protocol::ReleaseReadRequest&, const Responder&);
  std::shared_ptr<Request> prune(const protocol::PruneRequest&, const Responder&);
  std::shared_ptr<Request> signaturesPut(const protocol::SignaturesRequest&, const Responder&);
  std::shared_ptr<Request> specPut(const protocol::SpecPutRequest&, const Responder&);
  std::shared_ptr<Request> specGet(const protocol::SpecGetRequest&, const Responder&);
  std::shared_ptr<Request> allocate(const protocol::AllocateRequest&, const Responder&);
  std::shared_ptr<Request> prepare(const protocol::PrepareRequest&, const Responder&);
  std::shared_ptr<Request> generation(const protocol::GenerationRequest&, const Responder&);
  std::shared_ptr<Request> start(const protocol::StartRequest&, const Responder&);
  std::shared_ptr<Request> stop(const protocol::StopRequest&, const Responder&);
  std::shared_ptr<Request> restart(const protocol::RestartRequest&, const Responder&);
  std::shared_ptr<Request> signal(const protocol::SignalRequest&, const Responder&);
  std::shared_ptr<Request> reconfigure(const protocol::ReconfigureRequest&, const Responder&);
  std::shared_ptr<Request> forget(const protocol::ForgetRequest&, const Responder&);
  std::shared_ptr<Request> fence(const protocol::FenceRequest&, const Responder&);
  std::shared_ptr<Request> status(const protocol::StatusRequest&, const Responder&);
  std::shared_ptr<Request> logs(const protocol::LogsRequest&, const Responder&);
  std::shared_ptr<Request> events(const protocol::EventsRequest&, const Responder&);
  std::shared_ptr<Request> cores(const protocol::CoresRequest&, const Responder&);
  std::shared_ptr<Request> coreRead(const protocol::CoreReadRequest&, const Responder&);
  std::shared_ptr<Request> doctor(const protocol::DoctorRequest&, const Responder&);
  std::shared_ptr<Request> connections(const protocol::ConnectionsRequest&, const Responder&);
  std::shared_ptr<Request> hooks(const protocol::HooksRequest&, const Responder&);
  std::shared_ptr<Request> views(const protocol::ViewsRequest&, const Responder&);
  std::shared_ptr<Request> settings(const protocol::SettingsRequest&, const Responder&);
  std::shared_ptr<Request> acceptor(const protocol::AcceptorRequest&, const Responder&);
  std::shared_ptr<Request> namesPush(const protocol::NamesPushRequest&, const Responder&);
  std::shared_ptr<Request> names(const protocol::NamesRequest&, const Responder&);
  std::shared_ptr<Request> shutdown(const protocol::ShutdownRequest&, const Responder&);

  void addRetired();
  // Why this host cannot serve the registry; empty: it does.
  std::string registryProblem() const;
  void flushAtTurnEnd();
  void trimAtTurnEnd();

  Host& host_;
  Supervisor& supervisor_;
  Acceptor& acceptor_;
  Names& names_;
  ShimFacts facts_;
  Hooks hooks_;
  Views views_;
  std::map<std::string, Handler, std::less<>> handlers_;
  bool flush_due_ = false;
  bool trim_due_ = false;
};

}  // namespace cctl::shim
