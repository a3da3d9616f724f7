#include "protocol/messages.h"

#include <array>
#include <utility>

#include "protocol/acceptor_fields.h"
#include "protocol/codec.h"

namespace cctl::protocol {

template <typename E>
using EnumName = std::pair<E, std::string_view>;

static auto enumNames(ProbeKind) {
  return std::array{
      EnumName<ProbeKind>{ProbeKind::kNone, "none"}, EnumName<ProbeKind>{ProbeKind::kTcp, "tcp"},
      EnumName<ProbeKind>{ProbeKind::kHttp, "http"}, EnumName<ProbeKind>{ProbeKind::kExec, "exec"},
      EnumName<ProbeKind>{ProbeKind::kNotify, "notify"}};
}

static auto enumNames(RestartWhen) {
  return std::array{EnumName<RestartWhen>{RestartWhen::kAlways, "always"},
                    EnumName<RestartWhen>{RestartWhen::kOnFailure, "on-failure"},
                    EnumName<RestartWhen>{RestartWhen::kNever, "never"}};
}

static auto enumNames(InstanceState) {
  using S = InstanceState;
  return std::array{EnumName<S>{S::kStopped, "stopped"},   EnumName<S>{S::kStarting, "starting"},
                    EnumName<S>{S::kReady, "ready"},       EnumName<S>{S::kUnhealthy, "unhealthy"},
                    EnumName<S>{S::kStopping, "stopping"}, EnumName<S>{S::kBackoff, "backoff"},
                    EnumName<S>{S::kFailed, "failed"}};
}

static auto enumNames(EventKind) {
  using K = EventKind;
  return std::array{EnumName<K>{K::kShimStart, "shim-start"},
                    EnumName<K>{K::kShimStop, "shim-stop"},
                    EnumName<K>{K::kOrder, "order"},
                    EnumName<K>{K::kStart, "start"},
                    EnumName<K>{K::kReady, "ready"},
                    EnumName<K>{K::kExit, "exit"},
                    EnumName<K>{K::kStop, "stop"},
                    EnumName<K>{K::kBackoff, "backoff"},
                    EnumName<K>{K::kFailed, "failed"},
                    EnumName<K>{K::kInstall, "install"},
                    EnumName<K>{K::kRefused, "refused"},
                    EnumName<K>{K::kNames, "names"},
                    EnumName<K>{K::kAdopt, "adopt"},
                    EnumName<K>{K::kLost, "lost"},
                    EnumName<K>{K::kUnhealthy, "unhealthy"},
                    EnumName<K>{K::kHealthy, "healthy"},
                    EnumName<K>{K::kHook, "hook"},
                    EnumName<K>{K::kView, "view"}};
}

static auto enumNames(AlertKind) {
  using K = AlertKind;
  return std::array{EnumName<K>{K::kCrash, "crash"}, EnumName<K>{K::kCrashLoop, "crash-loop"},
                    EnumName<K>{K::kUnhealthy, "unhealthy"}};
}

static auto enumNames(ViewKind) {
  using K = ViewKind;
  return std::array{EnumName<K>{K::kPrometheus, "prometheus"}, EnumName<K>{K::kNginx, "nginx"},
                    EnumName<K>{K::kHaproxy, "haproxy"}, EnumName<K>{K::kPlain, "plain"}};
}

std::string stateName(InstanceState state) { return nameOfEnum(state); }
std::string eventName(EventKind kind) { return nameOfEnum(kind); }

// One list of fields per message. M is the message, const when written.
#define CCTL_FIELDS(Type)                               \
  template <typename V, typename M>                     \
  requires std::is_same_v<std::remove_const_t<M>, Type> \
  static void describe([[maybe_unused]] V& v, [[maybe_unused]] M& m)

CCTL_FIELDS(Caller) { v("by", m.by), v("reason", m.reason), v.maybe("token", m.token); }
CCTL_FIELDS(InstanceRef) { v("service", m.service), v("index", m.index); }
CCTL_FIELDS(HelloRequest) { v("protocol", m.protocol), v("client", m.client); }
CCTL_FIELDS(HelloReply) {
  v("protocol", m.protocol), v("version", m.version), v("digest", m.digest);
  v("cluster", m.cluster), v("host", m.host), v("root", m.root), v.maybe("advertise", m.advertise);
  v("boot_id", m.boot_id), v("acceptor", m.acceptor), v.maybe("membership", m.membership);
  v.maybe("registry_problem", m.registry_problem), v.maybe("link_problem", m.link_problem);
  v("pid", m.pid), v("uid", m.uid);
  v.maybe("user", m.user), v("now", m.now);
}
CCTL_FIELDS(ReleaseFile) {
  v("path", m.path), v.maybe("sha256", m.sha256), v.maybe("size", m.size);
  v.maybe("executable", m.executable), v.maybe("link", m.link);
}
CCTL_FIELDS(PushRequest) {
  v("service", m.service), v("version", m.version), v("digest", m.digest), v("files", m.files);
}
CCTL_FIELDS(PushNeed) { v("files", m.files); }
CCTL_FIELDS(PushReply) { v("installed", m.installed), v("received", m.received); }
CCTL_FIELDS(ReleasesRequest) { v.maybe("service", m.service); }
CCTL_FIELDS(InstalledRelease) {
  v("service", m.service), v("version", m.version), v("digest", m.digest);
}
CCTL_FIELDS(VerifyRequest) { v.maybe("service", m.service); }
CCTL_FIELDS(VerifyItem) {
  v("service", m.service), v("version", m.version), v("digest", m.digest);
  v("problems", m.problems), v.maybe("index", m.index), v.maybe("pid", m.pid);
  v.maybe("exe_sha256", m.exe_sha256);
}
CCTL_FIELDS(ReleaseShowRequest) { v("service", m.service), v("version", m.version); }
CCTL_FIELDS(ReleaseContents) {
  v("digest", m.digest), v("files", m.files), v.maybe("signatures", m.signatures);
}
CCTL_FIELDS(SignaturesRequest) {
  v("service", m.service), v("version", m.version), v("signatures", m.signatures);
}
CCTL_FIELDS(ReleaseReadRequest) {
  v("service", m.service), v("version", m.version), v("path", m.path);
}
CCTL_FIELDS(PruneRequest) {
  v("service", m.service), v.maybe("keep", m.keep), v.maybe("keep_specs", m.keep_specs);
  v.maybe("dry_run", m.dry_run), v("caller", m.caller);
}
CCTL_FIELDS(PrunedRelease) {
  v("version", m.version), v("size", m.size), v.maybe("kept_by", m.kept_by);
}
CCTL_FIELDS(PruneReply) { v("releases", m.releases), v("specs", m.specs); }
CCTL_FIELDS(SpecPutRequest) { v("service", m.service), v("digest", m.digest), v("text", m.text); }
CCTL_FIELDS(SpecGetRequest) { v("service", m.service), v("digest", m.digest); }
CCTL_FIELDS(SpecText) { v("text", m.text); }
CCTL_FIELDS(Probe) {
  v("kind", m.kind), v.maybe("port", m.port), v.maybe("path", m.path), v.maybe("argv", m.argv);
}
CCTL_FIELDS(Liveness) {
  v("probe", m.probe), v("interval", m.interval), v("timeout", m.timeout);
  v("failures", m.failures);
}
CCTL_FIELDS(RestartPolicy) {
  v("when", m.when), v("backoff_min", m.backoff_min), v("backoff_max", m.backoff_max);
  v("limit_count", m.limit_count), v("limit_window", m.limit_window);
}
CCTL_FIELDS(ConfigFile) { v("path", m.path), v("mode", m.mode), v("content", m.content); }
CCTL_FIELDS(GenerationSpec) {
  v("service", m.service), v("index", m.index), v("generation", m.generation);
  v("version", m.version), v("release_digest", m.release_digest), v("spec_digest", m.spec_digest);
  v("argv", m.argv), v("env", m.env), v.maybe("user", m.user), v("ports", m.ports);
  v.maybe("sockets", m.sockets), v.maybe("live", m.live);
  v("config", m.config), v("ready", m.ready), v("start_timeout", m.start_timeout);
  v("restart", m.restart), v("stop_signal", m.stop_signal), v("stop_grace", m.stop_grace);
  v.maybe("limit_nofile", m.limit_nofile), v.maybe("limit_core", m.limit_core);
  v.maybe("limit_nproc", m.limit_nproc), v.maybe("limit_memlock", m.limit_memlock);
  v.maybe("limit_stack", m.limit_stack), v.maybe("umask", m.umask);
  v.maybe("limit_memory", m.limit_memory), v.maybe("limit_cpu", m.limit_cpu);
  v("log_max_size", m.log_max_size), v("log_keep", m.log_keep);
  v.maybe("secrets", m.secrets);
}
CCTL_FIELDS(PortWish) { v("name", m.name), v.maybe("fixed", m.fixed), v.maybe("socket", m.socket); }
CCTL_FIELDS(AllocateRequest) {
  v("instance", m.instance), v("ports", m.ports), v("pool_low", m.pool_low);
  v("pool_high", m.pool_high), v.maybe("avoid", m.avoid), v("caller", m.caller);
}
CCTL_FIELDS(AllocateReply) { v("generation", m.generation), v("ports", m.ports); }
CCTL_FIELDS(PrepareRequest) { v("spec", m.spec), v("caller", m.caller); }
CCTL_FIELDS(GenerationRequest) { v("instance", m.instance), v.maybe("generation", m.generation); }
CCTL_FIELDS(ExitReport) {
  v("pid", m.pid), v.maybe("start_ticks", m.start_ticks), v("at", m.at);
  v.maybe("release_digest", m.release_digest);
  v.maybe("exit_status", m.exit_status), v.maybe("signal", m.signal), v.maybe("core", m.core);
  v.maybe("core_file", m.core_file), v.maybe("stopped_for", m.stopped_for);
  v.maybe("restarts", m.restarts), v("uptime", m.uptime);
  v.maybe("cpu_user", m.cpu_user), v.maybe("cpu_system", m.cpu_system);
  v.maybe("max_rss", m.max_rss), v.maybe("last_lines", m.last_lines);
}
CCTL_FIELDS(StartRequest) {
  v("instance", m.instance), v.maybe("generation", m.generation), v("caller", m.caller);
}
CCTL_FIELDS(StartReply) {
  v("state", m.state), v("generation", m.generation), v("pid", m.pid), v("took", m.took);
  v.maybe("problem", m.problem), v.maybe("health_answer", m.health_answer);
  v.maybe("port_taken", m.port_taken), v.maybe("exit", m.exit);
}
CCTL_FIELDS(StopRequest) {
  v("instance", m.instance), v.maybe("generation", m.generation), v("hold", m.hold);
  v("caller", m.caller);
}
CCTL_FIELDS(StopReply) { v("stopped", m.stopped), v.maybe("killed", m.killed); }
CCTL_FIELDS(RestartRequest) { v("instance", m.instance), v("caller", m.caller); }
CCTL_FIELDS(SignalRequest) {
  v("instance", m.instance), v("signal", m.signal), v("caller", m.caller);
}
CCTL_FIELDS(ReconfigureRequest) {
  v("instance", m.instance), v("generation", m.generation), v("argv", m.argv), v("env", m.env);
  v("config", m.config), v.maybe("secrets", m.secrets);
  v.maybe("signal", m.signal), v("caller", m.caller);
}
CCTL_FIELDS(ForgetRequest) { v("instance", m.instance), v("caller", m.caller); }
CCTL_FIELDS(FenceRequest) { v("service", m.service), v("caller", m.caller); }
CCTL_FIELDS(InstanceStatus) {
  v("service", m.service), v("index", m.index), v("generation", m.generation);
  v("version", m.version), v("release_digest", m.release_digest), v("spec_digest", m.spec_digest);
  v("state", m.state), v("current", m.current), v("wanted", m.wanted), v.maybe("remade", m.remade),
      v("pid", m.pid);
  v("since", m.since), v("ports", m.ports), v("restarts", m.restarts), v.maybe("rss", m.rss);
  v.maybe("cpu", m.cpu), v.maybe("threads", m.threads), v.maybe("fds", m.fds);
  v.maybe("io_read", m.io_read), v.maybe("io_written", m.io_written);
  v.maybe("status_text", m.status_text), v.maybe("not_limited", m.not_limited);
  v.maybe("note", m.note), v.maybe("last_exit", m.last_exit);
}
CCTL_FIELDS(StatusRequest) { v.maybe("service", m.service); }
CCTL_FIELDS(HostStatus) {
  v("host", m.host), v("now", m.now), v("uptime", m.uptime), v("load1", m.load1), v("cpus", m.cpus);
  v("memory_total", m.memory_total), v("memory_available", m.memory_available);
  v("disk_total", m.disk_total), v("disk_free", m.disk_free), v("shim_version", m.shim_version);
  v.maybe("net_received", m.net_received), v.maybe("net_sent", m.net_sent);
  v("shim_since", m.shim_since), v("boot_hook", m.boot_hook);
}
CCTL_FIELDS(LogPosition) {
  v("inode", m.inode), v("offset", m.offset), v.maybe("stem", m.stem);
  v.maybe("after", m.after);
}
CCTL_FIELDS(LogsRequest) {
  v("instance", m.instance), v("lines", m.lines), v.maybe("follow", m.follow);
  v.maybe("positions", m.positions), v.maybe("from", m.from);
}
CCTL_FIELDS(Event) {
  v("seq", m.seq), v("at", m.at), v("kind", m.kind), v.maybe("service", m.service);
  v("index", m.index), v.maybe("generation", m.generation), v.maybe("version", m.version);
  v.maybe("pid", m.pid), v.maybe("by", m.by), v.maybe("reason", m.reason), v("text", m.text);
  v.maybe("exit", m.exit), v.maybe("alert", m.alert);
}
CCTL_FIELDS(EventsRequest) {
  v.maybe("after", m.after), v.maybe("since", m.since), v.maybe("follow", m.follow);
}
CCTL_FIELDS(CoresRequest) { v.maybe("service", m.service); }
CCTL_FIELDS(Core) {
  v("service", m.service), v("index", m.index), v("name", m.name), v("size", m.size), v("at", m.at);
  v.maybe("pid", m.pid), v.maybe("version", m.version), v.maybe("release_digest", m.release_digest);
  v.maybe("executable", m.executable), v.maybe("signal", m.signal);
}
CCTL_FIELDS(CoreReadRequest) { v("instance", m.instance), v("name", m.name); }
CCTL_FIELDS(DoctorRequest) {}
CCTL_FIELDS(DoctorReply) {
  v("now", m.now), v.maybe("boot_hook", m.boot_hook);
  v.maybe("boot_hook_problem", m.boot_hook_problem), v.maybe("core_pattern", m.core_pattern);
  v.maybe("core_uses_pid", m.core_uses_pid), v.maybe("local_port_low", m.local_port_low);
  v.maybe("local_port_high", m.local_port_high);
  v.maybe("local_ports_reserved", m.local_ports_reserved), v.maybe("disk_total", m.disk_total);
  v.maybe("disk_free", m.disk_free), v.maybe("inodes_total", m.inodes_total);
  v.maybe("inodes_free", m.inodes_free), v.maybe("nofile_hard", m.nofile_hard);
  v.maybe("core_hard", m.core_hard);
  v.maybe("cgroup", m.cgroup), v.maybe("cgroup_problem", m.cgroup_problem);
  v.maybe("registry_problem", m.registry_problem), v.maybe("problems", m.problems);
}
CCTL_FIELDS(ConnectionsRequest) {
  v.maybe("service", m.service), v.maybe("index", m.index), v.maybe("generation", m.generation);
  v.maybe("to", m.to), v("most", m.most);
}
CCTL_FIELDS(TcpConnection) {
  v.maybe("service", m.service), v.maybe("index", m.index), v.maybe("generation", m.generation);
  v.maybe("port", m.port), v("local", m.local), v("peer", m.peer), v("state", m.state);
  v.maybe("pid", m.pid), v.maybe("command", m.command);
}
CCTL_FIELDS(ConnectionsReply) { v("total", m.total); }
CCTL_FIELDS(Hook) { v("on", m.on), v("argv", m.argv); }
CCTL_FIELDS(HooksRequest) { v("hooks", m.hooks); }
CCTL_FIELDS(View) {
  v("kind", m.kind), v("path", m.path), v.maybe("services", m.services);
  v.maybe("port", m.port), v.maybe("name", m.name), v.maybe("servers", m.servers);
  v.maybe("labels", m.labels), v.maybe("reload", m.reload);
}
CCTL_FIELDS(ViewsRequest) { v("views", m.views); }
CCTL_FIELDS(SettingsRequest) {}
CCTL_FIELDS(SettingsReply) { v("hooks", m.hooks), v("views", m.views); }
CCTL_FIELDS(NamedService) {
  v("service", m.service), v("revision", m.revision), v("endpoints", m.endpoints);
}
CCTL_FIELDS(NamesPushRequest) { v("services", m.services); }
CCTL_FIELDS(NamesReply) { v("generation", m.generation), v("services", m.services); }
CCTL_FIELDS(NamesRequest) {}
CCTL_FIELDS(ShutdownRequest) {
  v.maybe("stop_services", m.stop_services), v.maybe("replace", m.replace), v("caller", m.caller);
}
CCTL_FIELDS(Empty) {}

#undef CCTL_FIELDS

}  // namespace cctl::protocol

// After every describe(), so that each is found when these are instantiated.
namespace cctl::protocol {

// An optional that `maybe` left out reads back as empty.
static_assert(std::optional<int>{} == std::optional<int>{std::nullopt});

template <typename T>
Json encode(const T& message) {
  return Json::parse(encodeFields(message));
}

template <typename T>
Result<T> decode(const Json& json) {
  return decodeFields<T>(json);
}

template <typename T>
std::string encodeRequest(const T& request) {
  FieldWriter writer;
  writer("op", std::string(opOf<T>()));
  describe(writer, request);
  return writer.take();
}

template <typename T>
std::string encodeReply(const T& reply) {
  return encodeFields(reply);
}

std::string encodeError(const Error& error) {
  return dumpJson(Json{{"error", {{"code", codeName(error.code)}, {"message", error.message}}}});
}

static std::optional<Error> errorIn(const Json& json) {
  if (!json.is_object()) return std::nullopt;
  const auto error = json.find("error");
  if (error == json.end() || !error->is_object()) return std::nullopt;
  const auto text = [&](const char* key) {
    const auto found = error->find(key);
    return found != error->end() && found->is_string() ? found->get<std::string>()
                                                       : std::string("?");
  };
  return Error{codeFromName(text("code")), text("message")};
}

template <typename T>
Result<T> decodeReply(std::string_view payload) {
  CCTL_TRY(const Json json, parseJson(payload));
  if (auto error = errorIn(json)) return fail(std::move(*error));
  return decodeFields<T>(json);
}

#define CCTL_VALUE(Type)                         \
  template Json encode(const Type&);             \
  template Result<Type> decode(const Json&);     \
  template std::string encodeReply(const Type&); \
  template Result<Type> decodeReply(std::string_view);

#define CCTL_REQUEST(Type, name)             \
  template <>                                \
  const char* opOf<Type>() {                 \
    return name;                             \
  }                                          \
  template Json encode(const Type&);         \
  template Result<Type> decode(const Json&); \
  template std::string encodeRequest(const Type&);

CCTL_REQUEST(HelloRequest, "hello")
CCTL_REQUEST(PushRequest, "push")
CCTL_REQUEST(ReleasesRequest, "releases")
CCTL_REQUEST(VerifyRequest, "verify")
CCTL_REQUEST(ReleaseShowRequest, "release-show")
CCTL_REQUEST(ReleaseReadRequest, "release-read")
CCTL_REQUEST(SignaturesRequest, "signatures-put")
CCTL_REQUEST(PruneRequest, "prune")
CCTL_REQUEST(SpecPutRequest, "spec-put")
CCTL_REQUEST(SpecGetRequest, "spec-get")
CCTL_REQUEST(AllocateRequest, "allocate")
CCTL_REQUEST(PrepareRequest, "prepare")
CCTL_REQUEST(GenerationRequest, "generation")
CCTL_REQUEST(StartRequest, "start")
CCTL_REQUEST(StopRequest, "stop")
CCTL_REQUEST(RestartRequest, "restart")
CCTL_REQUEST(SignalRequest, "signal")
CCTL_REQUEST(ReconfigureRequest, "reconfigure")
CCTL_REQUEST(ForgetRequest, "forget")
CCTL_REQUEST(FenceRequest, "fence")
CCTL_REQUEST(StatusRequest, "status")
CCTL_REQUEST(LogsRequest, "logs")
CCTL_REQUEST(EventsRequest, "events")
CCTL_REQUEST(CoresRequest, "cores")
CCTL_REQUEST(CoreReadRequest, "core-read")
CCTL_REQUEST(DoctorRequest, "doctor")
CCTL_REQUEST(ConnectionsRequest, "connections")
CCTL_REQUEST(HooksRequest, "hooks")
CCTL_REQUEST(ViewsRequest, "views")
CCTL_REQUEST(SettingsRequest, "settings")
CCTL_REQUEST(AcceptorRequest, "acceptor")
CCTL_REQUEST(NamesPushRequest, "names-push")
CCTL_REQUEST(NamesRequest, "names")
CCTL_REQUEST(ShutdownRequest, "shutdown")

CCTL_VALUE(Caller)
CCTL_VALUE(InstanceRef)
CCTL_VALUE(LogPosition)
CCTL_VALUE(HelloReply)
CCTL_VALUE(ReleaseFile)
CCTL_VALUE(PushNeed)
CCTL_VALUE(PushReply)
CCTL_VALUE(InstalledRelease)
CCTL_VALUE(VerifyItem)
CCTL_VALUE(ReleaseContents)
CCTL_VALUE(PruneReply)
CCTL_VALUE(SpecText)
CCTL_VALUE(Probe)
CCTL_VALUE(RestartPolicy)
CCTL_VALUE(GenerationSpec)
CCTL_VALUE(AllocateReply)
CCTL_VALUE(StartReply)
CCTL_VALUE(StopReply)
CCTL_VALUE(ExitReport)
CCTL_VALUE(InstanceStatus)
CCTL_VALUE(HostStatus)
CCTL_VALUE(Event)
CCTL_VALUE(Core)
CCTL_VALUE(DoctorReply)
CCTL_VALUE(TcpConnection)
CCTL_VALUE(ConnectionsReply)
CCTL_VALUE(SettingsReply)
CCTL_VALUE(AcceptorReply)
CCTL_VALUE(NamedService)
CCTL_VALUE(NamesReply)
CCTL_VALUE(Empty)

}  // namespace cctl::protocol
