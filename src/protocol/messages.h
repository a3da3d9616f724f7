// Every message between clusterctl and a shim, as plain values (PROTOCOL.md lists them for people).
//
// A request's JSON is its fields plus "op"; a reply's is its fields, or
// {"error":{"code","message"}}. Strings are UTF-8; times RFC 3339 in UTC; durations whole
// milliseconds; sizes bytes.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "base/result.h"
#include "protocol/acceptor.h"

namespace cctl::protocol {

// Raised by one whenever an old peer could misread a new one. A shim serves this and the one
// before.
constexpr int kProtocolVersion = 2;
constexpr int kOldestProtocol = 1;

// Who orders, why, and the fencing token of the lock held (0: none). A shim refuses an order whose
// token is lower than the highest it has seen for the service.
struct Caller {
  std::string by;      // "login@machine", or a CI job
  std::string reason;  // the command, as typed
  uint64_t token = 0;
  bool operator==(const Caller&) const = default;
};

struct InstanceRef {
  std::string service;
  int index = 0;
  auto operator<=>(const InstanceRef&) const = default;
};

// ---- session ---------------------------------------------------------------------------------

struct HelloRequest {
  int protocol = kProtocolVersion;
  std::string client;  // version of clusterctl
};
struct HelloReply {
  int protocol = 0;  // the newest that both sides speak
  std::string version;
  std::string digest;  // SHA-256 of the shim's executable
  std::string cluster;
  std::string host;
  std::string root;
  std::string advertise;  // the address found at bootstrap; may be empty
  std::string boot_id;
  // Of this host's acceptor: its UUID and the membership that it takes part in, or why it cannot
  // serve the registry.
  std::string acceptor;
  std::optional<Membership> membership;
  std::string registry_problem;
  std::string link_problem;  // why nothing could start this shim again
  int pid = 0;
  unsigned uid = 0;
  std::string user;  // the login that the shim runs as
  WallTime now{};
};

// ---- releases --------------------------------------------------------------------------------

struct ReleaseFile {
  std::string path;    // relative, no ".."
  std::string sha256;  // of the content; empty for a symbolic link
  uint64_t size = 0;
  bool executable = false;
  std::string link;  // target of a symbolic link; else empty
  bool operator==(const ReleaseFile&) const = default;
};

// Answered by one item PushNeed. When it names files, the client sends their contents one after the
// other as data frames, then the end frame; the reply says what became of it.
struct PushRequest {
  std::string service;
  std::string version;
  std::string digest;  // of the whole release
  std::vector<ReleaseFile> files;
};
struct PushNeed {
  std::vector<uint32_t> files;  // indices into PushRequest::files; empty: all is here
};
struct PushReply {
  bool installed = false;  // false: it was there already
  uint64_t received = 0;   // bytes
};

struct ReleasesRequest {
  std::string service;  // empty: all
};
struct InstalledRelease {
  std::string service;
  std::string version;
  std::string digest;
};

// Items VerifyItem, reply Empty. Rehashes every file: slow on purpose.
struct VerifyRequest {
  std::string service;  // empty: all
};
struct VerifyItem {
  std::string service;
  std::string version;
  std::string digest;                 // recorded at install
  std::vector<std::string> problems;  // "bin/x: content differs"; empty: exact
  // For a running process instead of an installed release:
  std::optional<int> index;
  int pid = 0;
  std::string exe_sha256;  // of /proc/PID/exe
};

// What an installed release consists of, to bring it to a store that lacks it.
struct ReleaseShowRequest {
  std::string service;
  std::string version;
};
struct ReleaseContents {
  std::string digest;
  std::vector<ReleaseFile> files;
  std::vector<std::string> signatures{};  // as SignaturesRequest brought them, not judged here
};
// Keeps signature files beside an installed release, for whoever fetches it from here. Those that
// are there stay. Reply Empty; kNotFound without the release.
struct SignaturesRequest {
  std::string service;
  std::string version;
  std::vector<std::string> signatures;  // texts in the OpenSSH format (PROTOCOL.sshsig)
};
// Data frames with one file's bytes; reply Empty.
struct ReleaseReadRequest {
  std::string service;
  std::string version;
  std::string path;
};

// Removes releases and specs of a service that nothing here needs: none that runs, that a
// generation of an instance was made of, or that has cores, whatever the lists say.
struct PruneRequest {
  std::string service;
  std::vector<std::string> keep;        // versions
  std::vector<std::string> keep_specs;  // digests
  bool dry_run = false;                 // say only what would go
  Caller caller;
};
struct PrunedRelease {
  std::string version;
  uint64_t size = 0;    // bytes of its files
  std::string kept_by;  // why it stays; empty: removed
};
struct PruneReply {
  std::vector<PrunedRelease> releases;  // those that `keep` does not name
  int specs = 0;                        // removed
};

// ---- specs ------------------------------------------------------------------------------------

// Manifest, templates and version as canonicalSpec() writes them; SHA-256 of the text is its name.
struct SpecPutRequest {
  std::string service;
  std::string digest;
  std::string text;
};  // → Empty; the same again is fine
struct SpecGetRequest {
  std::string service;
  std::string digest;
};
struct SpecText {
  std::string text;
};

// ---- generations -----------------------------------------------------------------------------

// kNotify: the service says so itself, by sd_notify(3).
enum class ProbeKind { kNone, kTcp, kHttp, kExec, kNotify };
struct Probe {
  ProbeKind kind = ProbeKind::kNone;
  std::string port;               // name, for tcp and http
  std::string path;               // for http
  std::vector<std::string> argv;  // for exec
  bool operator==(const Probe&) const = default;
};

// Asked again and again once the service is ready. `failures` failures in a row: unhealthy, and
// restarted. With kNotify a watchdog: WATCHDOG=1 must come within interval × failures.
struct Liveness {
  Probe probe;
  Millis interval{1'000};
  Millis timeout{500};  // of one attempt
  int failures = 3;
  bool operator==(const Liveness&) const = default;
};

enum class RestartWhen { kAlways, kOnFailure, kNever };
struct RestartPolicy {
  RestartWhen when = RestartWhen::kAlways;
  Millis backoff_min{100};
  Millis backoff_max{30'000};
  int limit_count = 10;  // more restarts than this within the window: failed
  Millis limit_window{60'000};
  bool operator==(const RestartPolicy&) const = default;
};

struct ConfigFile {
  std::string path;  // relative to the generation's conf directory
  std::string mode;  // "0640"
  std::string content;
  bool operator==(const ConfigFile&) const = default;
};

// One rendering of a spec for one instance: all that a shim needs to run it, today or after a boot.
struct GenerationSpec {
  std::string service;
  int index = 0;
  int generation = 0;
  std::string version;
  std::string release_digest;
  std::string spec_digest;
  std::vector<std::string> argv;  // argv[0] relative: inside the release; else absolute
  std::map<std::string, std::string> env;
  std::string user;  // empty: as the shim
  std::map<std::string, int> ports;
  std::vector<std::string> sockets;  // those of the ports that the shim binds and passes on
  std::vector<ConfigFile> config;
  Probe ready;
  std::optional<Liveness> live;
  Millis start_timeout{30'000};
  RestartPolicy restart;
  int stop_signal = 15;
  Millis stop_grace{10'000};
  std::optional<uint64_t> limit_nofile;  // of setrlimit(2), as the next four; UINT64_MAX: unlimited
  std::optional<uint64_t> limit_nproc;
  std::optional<uint64_t> limit_core;     // bytes
  std::optional<uint64_t> limit_memlock;  // bytes
  std::optional<uint64_t> limit_stack;    // bytes
  std::optional<int> umask;               // nullopt: 022
  std::optional<uint64_t> limit_memory;   // bytes, of all its processes together
  std::optional<int> limit_cpu;           // thousandths of a processor
  uint64_t log_max_size = 64u << 20;
  int log_keep = 5;
  // Values in it that people are not to be shown. Only whoever shows it needs them.
  std::vector<std::string> secrets;
  bool operator==(const GenerationSpec&) const = default;
};

struct PortWish {
  std::string name;
  int fixed = 0;  // 0: any free one of the pool
  // Bound by the shim and passed on: all generations of the instance share one port.
  bool socket = false;
};

// A new generation number and ports that were free on 0.0.0.0 and :: a moment ago, kept for this
// generation; no other instance of this shim gets them while it exists.
struct AllocateRequest {
  InstanceRef instance;
  std::vector<PortWish> ports;
  int pool_low = 0;
  int pool_high = 0;
  std::vector<int> avoid;
  Caller caller;
};
struct AllocateReply {
  int generation = 0;
  std::map<std::string, int> ports;
};

struct PrepareRequest {
  GenerationSpec spec;
  Caller caller;
};

// Reads back what was prepared.
struct GenerationRequest {
  InstanceRef instance;
  int generation = 0;  // 0: the newest that was prepared
};

// ---- processes -------------------------------------------------------------------------------

enum class InstanceState { kStopped, kStarting, kReady, kUnhealthy, kStopping, kBackoff, kFailed };

struct ExitReport {
  int pid = 0;
  uint64_t start_ticks = 0;    // since boot: with the pid, which process it was
  std::string release_digest;  // of what it ran
  WallTime at{};
  std::optional<int> exit_status;  // neither: not known (the shim was not its parent)
  std::optional<int> signal;
  bool core = false;        // the kernel says that it wrote one
  std::string core_file;    // where it was found
  std::string stopped_for;  // why the shim itself had stopped it; empty: it had not
  int restarts = 0;         // before this run, since it was started by order
  Millis uptime{0};
  Millis cpu_user{0};
  Millis cpu_system{0};
  uint64_t max_rss = 0;
  std::vector<std::string> last_lines;  // of this run's output, oldest first, at most 50
  bool operator==(const ExitReport&) const = default;
};

struct StartRequest {
  InstanceRef instance;
  int generation = 0;  // 0: the current one
  Caller caller;
};
// Replied to when the instance is ready, has failed, or its start time-out is over.
struct StartReply {
  InstanceState state = InstanceState::kStopped;
  int generation = 0;
  int pid = 0;
  Millis took{0};
  std::string problem;                  // why it is not ready, in words
  std::string health_answer;            // what the readiness probe last saw
  std::vector<std::string> port_taken;  // names of its ports that another process holds
  std::optional<ExitReport> exit;
};

struct StopRequest {
  InstanceRef instance;
  int generation = 0;  // 0: every generation that runs
  // Stays down over boots and restarts of the shim until started again. False for the old one of a
  // roll-out: only that generation is given up.
  bool hold = true;
  Caller caller;
};
struct StopReply {
  int stopped = 0;      // processes ended by this order
  bool killed = false;  // the grace ran out for the main process of one of them
};

struct RestartRequest {
  InstanceRef instance;
  Caller caller;
};  // → StartReply

struct SignalRequest {
  InstanceRef instance;
  int signal = 0;
  Caller caller;
};  // → Empty

// A generation rendered again, with the ports, user and process that it has: each generated file is
// replaced whole, files that are not named are removed, and restarts and boots use the new files,
// arguments and environment. Then `signal` is sent to the process, unless it is 0.
struct ReconfigureRequest {
  InstanceRef instance;
  int generation = 0;
  std::vector<std::string> argv;
  std::map<std::string, std::string> env;
  std::vector<ConfigFile> config;
  std::vector<std::string> secrets;
  int signal = 0;
  Caller caller;
};  // → Empty

// Stops what runs of it and takes the instance off this host; its logs and data stay.
struct ForgetRequest {
  InstanceRef instance;
  Caller caller;
};  // → StopReply

// Raises the highest token seen for a service: sent by whoever takes over a lock, so that the old
// owner's orders are refused from now on.
struct FenceRequest {
  std::string service;
  Caller caller;
};  // → Empty

struct InstanceStatus {
  std::string service;
  int index = 0;
  int generation = 0;
  std::string version;
  std::string release_digest;
  std::string spec_digest;
  InstanceState state = InstanceState::kStopped;
  bool current = false;  // the generation that a boot would start
  bool wanted = false;   // should run
  bool remade = false;   // its host no longer knew whether it was stopped, and started it
  int pid = 0;
  WallTime since{};  // of the state
  std::map<std::string, int> ports;
  int restarts = 0;  // since the generation was started by order
  uint64_t rss = 0;
  Millis cpu{0};
  int threads = 0;
  int fds = 0;
  uint64_t io_read = 0;  // bytes from and to disks, of the main process
  uint64_t io_written = 0;
  std::string status_text;               // what the service says of itself, by sd_notify(3)
  std::vector<std::string> not_limited;  // limits that this host cannot apply, and why
  std::string note;  // "backoff 3.2 s", "bin/x: content differs", "stopped by alice@ws"
  std::optional<ExitReport> last_exit;
};

// Items InstanceStatus, reply HostStatus.
struct StatusRequest {
  std::string service;  // empty: all
};
struct HostStatus {
  std::string host;
  WallTime now{};
  Millis uptime{0};
  double load1 = 0;
  int cpus = 0;
  uint64_t memory_total = 0;
  uint64_t memory_available = 0;
  uint64_t disk_total = 0;  // of the file system of ROOT
  uint64_t disk_free = 0;
  uint64_t net_received = 0;  // bytes since boot, all interfaces but lo
  uint64_t net_sent = 0;
  std::string shim_version;
  WallTime shim_since{};
  bool boot_hook = false;
};

// ---- output and journal ------------------------------------------------------------------------

// Where a reader of an instance's output is: a file, known again after it was rotated, and a byte.
struct LogPosition {
  uint64_t inode = 0;
  uint64_t offset = 0;
  std::string stem;   // of a rotated file
  std::string after;  // of one that is not: the stem of the newest that was
  bool operator==(const LogPosition&) const = default;
};
// Data frames: lines "TIME STREAM TEXT\n" (STREAM is O or E). Reply Empty, for `follow` when the
// instance is forgotten or the request cancelled.
struct LogsRequest {
  InstanceRef instance;
  int lines = 100;
  bool follow = false;
  // Each data frame is followed by an item, the LogPosition behind it.
  bool positions = false;
  // Go on from there: `lines` does not count.
  std::optional<LogPosition> from;
};

enum class EventKind {
  kShimStart,
  kShimStop,
  kOrder,
  kStart,
  kReady,
  kExit,
  kStop,
  kBackoff,
  kFailed,
  kInstall,
  kRefused,
  kNames,
  kAdopt,
  kLost,
  kUnhealthy,
  kHealthy,
  kHook,  // a hook of `alerts` failed
  kView,  // a view could not be written, or its reload failed
};
// What an operator may want to be told of at once.
enum class AlertKind { kCrash, kCrashLoop, kUnhealthy };
struct Event {
  uint64_t seq = 0;
  WallTime at{};
  EventKind kind = EventKind::kOrder;
  std::string service;
  int index = -1;  // -1: not about an instance
  int generation = 0;
  std::string version;
  int pid = 0;
  std::string by;
  std::string reason;
  std::string text;  // in words, for people
  std::optional<ExitReport> exit;
  std::optional<AlertKind> alert;  // the hooks of this kind are run
};

// Items Event, oldest first.
struct EventsRequest {
  uint64_t after = 0;  // only events with a greater number
  std::optional<WallTime> since;
  bool follow = false;
};

// ---- cores -----------------------------------------------------------------------------------

// Items Core, newest first; reply Empty.
struct CoresRequest {
  std::string service;  // empty: all
};
struct Core {
  std::string service;
  int index = 0;
  std::string name;  // of the file in the instance's core directory
  uint64_t size = 0;
  WallTime at{};
  // From the journal, where its exit is still there; else empty.
  int pid = 0;
  std::string version;
  std::string release_digest;
  std::string executable;  // relative to the release, or absolute
  int signal = 0;
};

// Data frames with the file's bytes; reply Empty.
struct CoreReadRequest {
  InstanceRef instance;
  std::string name;
};

// ---- doctor ----------------------------------------------------------------------------------

// What a host is like, for `clusterctl doctor`. What cannot be read is empty or 0.
struct DoctorRequest {};
struct DoctorReply {
  WallTime now{};
  std::string boot_hook;  // "systemd", "cron.d", "crontab"; empty: none
  std::string boot_hook_problem;
  std::string core_pattern;  // /proc/sys/kernel/core_pattern
  bool core_uses_pid = false;
  int local_port_low = 0;  // ip_local_port_range
  int local_port_high = 0;
  std::string local_ports_reserved;  // ip_local_reserved_ports
  uint64_t disk_total = 0;           // of the file system of ROOT
  uint64_t disk_free = 0;
  uint64_t inodes_total = 0;
  uint64_t inodes_free = 0;
  uint64_t nofile_hard = 0;
  std::optional<uint64_t> core_hard;  // bytes; nullopt: no limit that could not be raised
  std::string cgroup;            // "v2", "v1"; empty: limits on memory and CPU cannot be applied
  std::string cgroup_problem;    // why not
  std::string registry_problem;  // why this host cannot serve its registers
  std::vector<std::string> problems;  // damaged files and the like, in words
};

// ---- connections -------------------------------------------------------------------------------

// Items TcpConnection, reply ConnectionsReply: TCP connections as the kernel of this host tells
// them. Without `to`: those to the ports of what runs here of the service. With `to`
// ("10.0.0.1:21000",
// "[::1]:21000"): those that any process of this host has to these addresses.
struct ConnectionsRequest {
  std::string service;       // empty: all
  std::optional<int> index;  // none: all instances
  int generation = 0;        // 0: all generations
  std::vector<std::string> to;
  int most = 1'000;  // items; 0: only the count
};
struct TcpConnection {
  std::string service;  // whose it is here; empty: of a process that is no service
  int index = 0;
  int generation = 0;
  std::string port;   // name of the service's own port; empty with `to`
  std::string local;  // address:port
  std::string peer;
  std::string state;    // "established", "close-wait", …
  int pid = 0;          // 0: nobody has accepted it, or it may not be seen
  std::string command;  // name of that process
};
struct ConnectionsReply {
  int total = 0;  // those beyond `most` too
};

// ---- hooks -----------------------------------------------------------------------------------

// Run by the shim with the event as one JSON object on standard input, whoever is connected.
struct Hook {
  std::vector<AlertKind> on;
  std::vector<std::string> argv;  // absolute path first
  bool operator==(const Hook&) const = default;
};
// Replaces all hooks of this host; the same again is fine.
struct HooksRequest {
  std::vector<Hook> hooks;
};  // → Empty

// ---- views -----------------------------------------------------------------------------------

enum class ViewKind { kPrometheus, kNginx, kHaproxy, kPlain };
// The names of services, written by the shim for other software whenever they change.
struct View {
  ViewKind kind = ViewKind::kPlain;
  std::string path;                           // the file, absolute or below ROOT/registry/views;
                                              // of HAProxy its runtime socket
  std::vector<std::string> services;          // empty: all
  std::string port;                           // its name; empty: a service's only one
  std::string name;                           // nginx: the upstream; HAProxy: the backend
  std::vector<std::string> servers;           // HAProxy: those that may be used
  std::map<std::string, std::string> labels;  // Prometheus
  std::vector<std::string> reload;            // run after each change; an absolute path first
  bool operator==(const View&) const = default;
};
// Replaces all views of this host; the same again is fine.
struct ViewsRequest {
  std::vector<View> views;
};  // → Empty

// What the two requests above have brought last.
struct SettingsRequest {};
struct SettingsReply {
  std::vector<Hook> hooks;
  std::vector<View> views;
};

// ---- registers -------------------------------------------------------------------------------

// What registry::Registers answers: made by a proposer of what acceptors say (acceptor.h).
struct RegisterValue {
  uint64_t revision = 0;  // 0: never written
  JsonText value;         // null when revision is 0 or after a delete
  Millis age{0};          // since it was last written: a quorum says at least that
};
struct RegisterWriteReply {
  bool swapped = false;
  RegisterValue current;  // after the write, or what stood in its way
};
// ---- names -----------------------------------------------------------------------------------

struct NamedService {
  std::string service;
  uint64_t revision = 0;
  JsonText endpoints;  // a list, as in registry.json
};
struct NamesPushRequest {
  std::vector<NamedService> services;  // applied where the revision rises
};
struct NamesReply {
  uint64_t generation = 0;
  std::vector<NamedService> services;
};
struct NamesRequest {};  // → NamesReply

// ---- the shim itself -------------------------------------------------------------------------

struct ShutdownRequest {
  bool stop_services = false;
  bool replace = false;  // goes on as the executable that ROOT/shim/current names by now
  Caller caller;
};
struct Empty {};

// The fields as JSON and back. Decoding answers Code::kCorrupt for what does not fit.
template <typename T>
Json encode(const T& message);
template <typename T>
[[nodiscard]] Result<T> decode(const Json& json);

// The "op" of each request type, e.g. "start".
template <typename T>
const char* opOf();

std::string stateName(InstanceState state);
std::string eventName(EventKind kind);

// A whole request or reply as payload bytes.
template <typename T>
std::string encodeRequest(const T& request);
template <typename T>
std::string encodeReply(const T& reply);
std::string encodeError(const Error& error);

// What came back: the decoded reply, or the peer's error as it was there.
template <typename T>
[[nodiscard]] Result<T> decodeReply(std::string_view payload);

}  // namespace cctl::protocol
