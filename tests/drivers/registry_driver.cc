// The registry's proposer without the command line around it, for benches:
//
//   registry_driver WHERE write COUNT SIZE      writes one register again and again
//   registry_driver WHERE fill SERVICES ENDS    endpoints/svc-N of that many services
//   registry_driver WHERE told COUNT RUN        writes, pushes to the first host, until a watcher
//                                               of its naming socket has it; then writes again, and
//                                               sends as many bytes through a bare channel of the
//                                               same session, until who listens there has them
// WHERE: "unix:HOST=CONTROL_SOCKET,…", or the directory of an inventory (SSH sessions).
// RUN: the first host's directory of sockets, as it is reached from here.
// Prints a line for each, at the end: two times in nanoseconds of CLOCK_MONOTONIC, before and
// after.
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <condition_variable>
#include <cstring>
#include <future>
#include <iostream>
#include <thread>

#include "base/fd.h"
#include "base/file.h"
#include "base/version.h"
#include "model/disk_files.h"
#include "model/host_paths.h"
#include "model/load.h"
#include "ops/fleet_acceptors.h"

using namespace cctl;

namespace {

[[noreturn]] void die(const std::string& why) {
  std::cerr << "registry_driver: " << why << "\n";
  std::exit(1);
}

template <typename T>
T must(Result<T> result) {
  if (!result) die(result.error().message);
  return std::move(*result);
}

int64_t nanos() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

int numberOf(const char* text) {
  int number = 0;
  std::from_chars(text, text + std::strlen(text), number);
  return number;
}

Fd connectTo(const std::string& path) {
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) die(path + ": too long for a socket");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    die(path + ": " + std::strerror(errno));
  return fd;
}

class UnixStream final : public ssh::Stream {
 public:
  explicit UnixStream(Fd fd) : fd_(std::move(fd)) {}
  ~UnixStream() override { close(); }

  Result<void> write(std::string_view bytes, Deadline, const CancelToken*) override {
    const std::lock_guard lock(mutex_);
    if (::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
        static_cast<ssize_t>(bytes.size()))
      return {};
    return fail(Code::kUnreachable, "the socket is gone");
  }
  Result<size_t> read(char*, size_t, Deadline, const CancelToken*) override { return size_t{0}; }
  void setOnData(std::function<void(std::string_view)> on_data) override {
    on_data_ = std::move(on_data);
  }
  // Set last: from here on bytes are taken.
  void setOnClose(std::function<void(const Error&)> on_close) override {
    on_close_ = std::move(on_close);
    reader_ = std::thread([this] { run(); });
  }
  void closeWrite() override {}
  void close() override {
    ::shutdown(fd_.get(), SHUT_RDWR);
    if (reader_.joinable()) reader_.join();
  }

 private:
  void run() {
    std::string buffer(65536, '\0');
    for (;;) {
      const ssize_t got = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
      if (got <= 0) break;
      on_data_(std::string_view(buffer).substr(0, static_cast<size_t>(got)));
    }
    on_close_({Code::kUnreachable, "the socket ended"});
  }

  Fd fd_;
  std::mutex mutex_;
  std::function<void(std::string_view)> on_data_;
  std::function<void(const Error&)> on_close_;
  std::thread reader_;
};

class UnixAcceptors final : public registry::AcceptorLinks {
 public:
  void add(const std::string& host, const std::string& path) {
    shims_[host] =
        std::make_unique<ops::ShimClient>(std::make_unique<UnixStream>(connectTo(path)), host);
  }
  void send(const std::string& host, const registry::AcceptorRequest& request,
            OnReply on_reply) override {
    shims_.at(host)->send<registry::AcceptorReply>(request, std::move(on_reply));
  }
  void identify(const std::string& host, OnReply on_reply) override {
    send(host, registry::AcceptorRequest{}, std::move(on_reply));
  }

 private:
  std::map<std::string, std::unique_ptr<ops::ShimClient>> shims_;
};

class Silent final : public ops::EventSink {
  void onEvent(const ops::OpEvent&) override {}
};

// What all of it runs over.
struct Where {
  Inventory inventory;
  Silent events;
  std::unique_ptr<ops::Fleet> fleet;
  std::unique_ptr<registry::AcceptorLinks> links;
  registry::QuorumOptions options;

  explicit Where(const std::string& text) {
    if (text.starts_with("unix:"))
      overSockets(text.substr(5));
    else
      overSsh(text);
  }

  void overSockets(const std::string& text) {
    auto acceptors = std::make_unique<UnixAcceptors>();
    for (size_t at = 0; at < text.size();) {
      const size_t end = std::min(text.find(',', at), text.size());
      const size_t equals = text.find('=', at);
      const std::string host = text.substr(at, equals - at);
      acceptors->add(host, text.substr(equals + 1, end - equals - 1));
      options.hosts.push_back(host);
      at = end + 1;
    }
    links = std::move(acceptors);
  }

  void overSsh(const std::string& directory) {
    LoadedInventory loaded = loadInventory(DiskFiles(), directory);
    if (!loaded.ok()) die(toError(loaded.problems).message);
    inventory = std::move(*loaded.inventory);
    fleet = must(ops::Fleet::create(inventory, {}, events, nullptr));
    fleet->begin(inventory.registry_hosts, ops::Need::kShim);
    for (const HostName& host : inventory.registry_hosts) must(fleet->await(host));
    options = ops::quorumOptionsOf(inventory);
    links = std::make_unique<ops::FleetAcceptors>(*fleet);
  }

  ops::HostConnection& first() { return *must(fleet->await(inventory.registry_hosts.front())); }
};

// At once: whoever kills a member while this writes reads along.
void tell(int64_t before, int64_t after) {
  std::cout << before << " " << after << "\n" << std::flush;
}

std::string endpointsOf(const std::string& service, int count) {
  std::string text = "[";
  for (int i = 0; i < count; ++i)
    text += fmt::format(
        R"({}{{"instance":"{}/{}","host":"host{}","address":"10.0.{}.{}","ports":{{"main":{}}},)"
        R"("version":"1.0.0","state":"ready"}})",
        i == 0 ? "" : ",", service, i, i, i % 250, i % 250, 21000 + i);
  return text + "]";
}

void write(registry::QuorumRegisters& registers, int count, size_t size) {
  uint64_t revision = must(registers.read("bench/one")).revision;
  for (int i = 0; i < count; ++i) {
    const std::string text = "\"" + std::string(size - 2, static_cast<char>('a' + i % 26)) + "\"";
    const int64_t before = nanos();
    const auto reply = must(registers.write("bench/one", revision, {text}));
    tell(before, nanos());
    if (!reply.swapped) die("somebody else writes it too");
    revision = reply.current.revision;
  }
}

void fill(registry::QuorumRegisters& registers, int services, int endpoints) {
  for (int i = 0; i < services; ++i) {
    const std::string service = fmt::format("svc-{}", i);
    const uint64_t revision = must(registers.read("endpoints/" + service)).revision;
    const int64_t before = nanos();
    must(registers.write("endpoints/" + service, revision, {endpointsOf(service, endpoints)}));
    tell(before, nanos());
  }
}

// A subscriber: takes whole lines off the naming socket.
class Watcher {
 public:
  explicit Watcher(const std::string& path) : fd_(connectTo(path)) {
    const std::string ask = "{\"watch\":\"bench\"}\n";
    if (::send(fd_.get(), ask.data(), ask.size(), 0) < 0) die("the naming socket is gone");
  }
  // Blocks until a line names this revision; returns when it did.
  int64_t until(uint64_t revision) {
    const std::string wanted = fmt::format("\"revision\":{},", revision);
    const std::string last = fmt::format("\"revision\":{}}}", revision);
    for (;;) {
      char buffer[65536];
      const ssize_t got = ::recv(fd_.get(), buffer, sizeof buffer, 0);
      if (got <= 0) die("the naming socket ended");
      const int64_t now = nanos();
      heard_.append(buffer, static_cast<size_t>(got));
      const bool told =
          heard_.find(wanted) != std::string::npos || heard_.find(last) != std::string::npos;
      if (told && heard_.back() == '\n') {
        heard_.clear();
        return now;
      }
    }
  }

 private:
  Fd fd_;
  std::string heard_;
};

// The far end of a bare channel: a socket on the host, at which this process itself listens.
class Probe {
 public:
  Probe(ops::HostConnection& host, const std::string& run) {
    static constexpr const char* kName = "probe.sock";
    const std::string path = run + "/" + kName;
    const Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) die(path + ": too long for a socket");
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    ::unlink(path.c_str());
    if (::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        ::chmod(path.c_str(), 0666) != 0 || ::listen(listener.get(), 1) != 0)
      die(path + ": " + std::strerror(errno));
    stream_ = must(host.link->openUnixSocket(paths::runDir(host.root) + "/" + kName,
                                             Deadline::in(Millis(10'000))));
    fd_.reset(::accept(listener.get(), nullptr, nullptr));
    ::unlink(path.c_str());
  }
  // Returns when the far end has all of it.
  int64_t carry(const std::string& bytes) {
    if (!stream_->write(bytes, Deadline::in(Millis(10'000)), nullptr)) die("the channel is gone");
    char buffer[65536];
    for (size_t got = 0; got < bytes.size();) {
      const ssize_t more = ::recv(fd_.get(), buffer, sizeof buffer, 0);
      if (more <= 0) die("the bare channel ended");
      got += static_cast<size_t>(more);
    }
    return nanos();
  }

 private:
  std::unique_ptr<ssh::Stream> stream_;
  Fd fd_;
};

// In turns, so that both meet what else a commit makes the machine do.
void told(Where& where, registry::QuorumRegisters& registers, int count, const std::string& run) {
  Watcher watcher(run + "/naming.sock");
  Probe probe(where.first(), run);
  ops::ShimClient& shim = *where.first().shim;
  uint64_t revision = must(registers.read("endpoints/bench")).revision;
  std::vector<std::pair<int64_t, int64_t>> times;
  for (int i = 0; i < 2 * count; ++i) {
    const JsonText value{endpointsOf("bench", 1 + i % 2)};
    revision = must(registers.write("endpoints/bench", revision, value)).current.revision;
    const int64_t before = nanos();
    if (i % 2 == 1) {
      times.emplace_back(before, probe.carry(std::string(value.text.size() + 80, 'x')));
      continue;
    }
    std::promise<void> done;
    shim.send<protocol::Empty>(protocol::NamesPushRequest{{{"bench", revision, value}}},
                               [&done](const Result<protocol::Empty>&) { done.set_value(); });
    times.emplace_back(before, watcher.until(revision));
    done.get_future().wait();  // as every command does before it goes on: its files are written
  }
  for (const auto& [before, after] : times) tell(before, after);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) die("usage: WHERE write|fill|told COUNT …");
  const std::string what = argv[2];
  const int count = numberOf(argv[3]);
  Where where(argv[1]);
  registry::QuorumRegisters registers(*where.links, where.options);
  if (what == "write" && argc == 5)
    write(registers, count, static_cast<size_t>(numberOf(argv[4])));
  else if (what == "fill" && argc == 5)
    fill(registers, count, numberOf(argv[4]));
  else if (what == "told" && argc == 5)
    told(where, registers, count, argv[4]);
  else
    die("usage: WHERE write|fill|told COUNT …");
  return 0;
}
