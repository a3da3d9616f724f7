// The registry's proposer without the command line around it, for benches:
//
//   registry_driver WHERE write COUNT SIZE      writes one register again and again
//   registry_driver WHERE fill SERVICES ENDS    endpoints/svc-N of that many services
//   registry_driver WHERE told COUNT SOCKET     writes, pushes to the first host, until a watcher
//                                               of its naming socket has it
//   registry_driver WHERE echo COUNT            bytes through a bare SSH channel and back
// WHERE: "unix:HOST=CONTROL_SOCKET,…", or the directory of an inventory (SSH sessions).
// Prints a line for each: two times in nanoseconds of CLOCK_MONOTONIC, before and after.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <condition_variable>
#include <cstring>
#include <iostream>
#include <thread>

#include "base/fd.h"
#include "base/file.h"
#include "base/version.h"
#include "model/disk_files.h"
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

void told(Where& where, registry::QuorumRegisters& registers, int count, const std::string& path) {
  Watcher watcher(path);
  ops::ShimClient& shim = *where.first().shim;
  uint64_t revision = must(registers.read("endpoints/bench")).revision;
  for (int i = 0; i < count; ++i) {
    const JsonText value{endpointsOf("bench", 1 + i % 2)};
    revision = must(registers.write("endpoints/bench", revision, value)).current.revision;
    const int64_t before = nanos();
    shim.send<protocol::Empty>(protocol::NamesPushRequest{{{"bench", revision, value}}},
                               [](const Result<protocol::Empty>&) {});
    tell(before, watcher.until(revision));
  }
}

void echo(Where& where, int count) {
  auto stream = must(where.first().link->openExecStream("cat", Deadline::in(Millis(10'000))));
  const std::string bytes(512, 'x');
  for (int i = 0; i < count; ++i) {
    const int64_t before = nanos();
    if (!stream->write(bytes)) die("the channel is gone");
    char buffer[1024];
    for (size_t got = 0; got < bytes.size();)
      got += must(stream->read(buffer, sizeof buffer, Deadline::in(Millis(10'000))));
    tell(before, nanos());
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) die("usage: WHERE write|fill|told|echo COUNT …");
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
  else if (what == "echo")
    echo(where, count);
  else
    die("usage: WHERE write|fill|told|echo COUNT …");
  return 0;
}
