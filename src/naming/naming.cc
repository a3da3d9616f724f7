#include "clusterctl/naming.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <random>
#include <set>
#include <utility>

#include "naming/decode.h"

namespace clusterctl {
namespace {

using Millis = std::chrono::milliseconds;
using SteadyClock = std::chrono::steady_clock;

// A service's value is at most 256 KiB in the registry; this is what we hold for one line.
constexpr std::size_t kMaxLine = 4u << 20;
constexpr std::size_t kMaxFile = 64u << 20;  // registry.json
constexpr int kReadsAtOnce = 64;             // of 16 KiB, before other work gets its turn

class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { reset(); }
  int get() const { return fd_; }
  bool isOpen() const { return fd_ >= 0; }
  void reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

// False when there is no such file, it cannot be read, or it is longer than `most`.
bool readWhole(const std::string& path, std::size_t most, std::string* text) {
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd.isOpen()) return false;
  text->clear();
  char buffer[16384];
  for (;;) {
    const ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got == 0;
    text->append(buffer, static_cast<std::size_t>(got));
    if (text->size() > most) return false;
  }
}

// What changes when a file is replaced.
struct FileStamp {
  dev_t dev = 0;
  ino_t ino = 0;
  off_t size = -1;
  std::int64_t seconds = 0;
  std::int64_t nanos = 0;

  static FileStamp of(const std::string& path) {
    struct stat st {};
    if (::stat(path.c_str(), &st) != 0) return {};
    return {st.st_dev, st.st_ino, st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec};
  }
  bool operator==(const FileStamp& o) const {
    return dev == o.dev && ino == o.ino && size == o.size && seconds == o.seconds &&
           nanos == o.nanos;
  }
};

std::string directoryOf(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? std::string() : path.substr(0, slash);
}

NamingOptions completed(NamingOptions options) {
  if (options.socket.empty())
    if (const char* socket = std::getenv("CLUSTERCTL_NAMING")) options.socket = socket;
  const std::string root = directoryOf(directoryOf(options.socket));
  if (options.registry.empty() && !root.empty()) options.registry = root + "/registry";
  options.retry_first = std::max(options.retry_first, Millis(1));
  options.retry_most = std::max(options.retry_most, options.retry_first);
  return options;
}

bool sameList(const Service& a, const Service& b) {
  return a.known == b.known && a.revision == b.revision && a.endpoints == b.endpoints;
}

}  // namespace

std::uint16_t Endpoint::port(const std::string& name) const {
  if (name.empty()) return ports.size() == 1 ? ports.begin()->second : std::uint16_t{0};
  const auto found = ports.find(name);
  return found == ports.end() ? std::uint16_t{0} : found->second;
}

std::vector<Endpoint> Service::ready() const {
  std::vector<Endpoint> found;
  std::copy_if(endpoints.begin(), endpoints.end(), std::back_inserter(found),
               [](const Endpoint& endpoint) { return endpoint.isReady(); });
  return found;
}

class Naming::Impl {
 public:
  explicit Impl(NamingOptions options)
      : options_(completed(std::move(options))),
        delay_(options_.retry_first),
        random_(std::random_device{}()) {
    // One descriptor for the caller, whatever becomes of the socket.
    epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
    timer_.reset(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (timer_.isOpen() && wake_.isOpen() && add(timer_.get()) && add(wake_.get())) return;
    error_ = std::string("no descriptors: ") + std::strerror(errno);
    epoll_.reset();
  }

  bool watch(const std::string& name, OnChange on_change) {
    if (!internal::isServiceName(name)) return complain("\"" + name + "\" is no service's name");
    if (watches_.count(name) == 0 && watches_.size() >= kMaxWatches)
      return complain("more than " + std::to_string(kMaxWatches) + " watches");
    const auto [found, fresh] = watches_.try_emplace(name);
    found->second.on_change = std::make_shared<OnChange>(std::move(on_change));
    if (!fresh) {
      if (found->second.has_value) deliverLater(name);
      return true;
    }
    if (socket_.isOpen())
      ask(name);
    else if (!retrying_)
      connect();  // asks for all
    else
      readFile(name, found->second);
    return true;
  }

  // The shim goes on telling about it; that is passed over.
  void unwatch(const std::string& name) { watches_.erase(name); }

  const Service* find(const std::string& name) const {
    const auto found = watches_.find(name);
    return found == watches_.end() || !found->second.has_value ? nullptr : &found->second.value;
  }

  int fd() const { return epoll_.get(); }
  bool isConnected() const { return socket_.isOpen(); }
  const std::string& error() const { return error_; }

  void process() {
    drain(timer_);
    if (retrying_ && SteadyClock::now() >= retry_at_) connect();
    if (socket_.isOpen()) readSocket();
    if (socket_.isOpen()) writeSocket();
    deliver();
  }

 private:
  struct Watched {
    // Shared: a callback may end its own watch.
    std::shared_ptr<OnChange> on_change;
    bool has_value = false;
    Service value;
    FileStamp read;  // as it was when it was last read
  };

  bool complain(std::string why) {
    error_ = std::move(why);
    return false;
  }

  bool add(int fd, std::uint32_t events = EPOLLIN) {
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    return ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
  }

  static void drain(const Descriptor& fd) {
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = ::read(fd.get(), &count, sizeof count);
  }

  // ---- the connection ----

  void connect() {
    retrying_ = false;
    if (const int error = tryConnect(); error != 0) return retryLater(whyNot(error));
    in_.clear();
    out_.clear();
    scanned_ = 0;
    error_.clear();
    for (const auto& [name, watched] : watches_) ask(name);
  }

  std::string whyNot(int error) const {
    if (options_.socket.empty()) return "CLUSTERCTL_NAMING is not set";
    return options_.socket + ": " + std::strerror(error);
  }

  int tryConnect() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (options_.socket.empty() || options_.socket.size() >= sizeof address.sun_path) return EINVAL;
    std::memcpy(address.sun_path, options_.socket.c_str(), options_.socket.size() + 1);
    socket_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket_.isOpen()) return errno;
    // Of a unix socket this is decided at once.
    if (::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
            0 &&
        add(socket_.get()))
      return 0;
    const int error = errno;
    socket_.reset();
    return error;
  }

  void retryLater(std::string why) {
    error_ = std::move(why);
    socket_.reset();  // out of the epoll set with it
    retrying_ = true;
    // Not all clients of a shim that comes back at the same instant.
    const Millis wait(
        std::uniform_int_distribution<long>(delay_.count() / 2 + 1, delay_.count() + 1)(random_));
    delay_ = std::min(2 * delay_, options_.retry_most);
    retry_at_ = SteadyClock::now() + wait;
    itimerspec when{};
    when.it_value.tv_sec = static_cast<time_t>(wait.count() / 1000);
    when.it_value.tv_nsec = static_cast<long>(wait.count() % 1000) * 1'000'000L;
    ::timerfd_settime(timer_.get(), 0, &when, nullptr);
    readFiles();
  }

  void ask(const std::string& name) {
    out_ += "{\"watch\":\"" + name + "\"}\n";
    writeSocket();
  }

  void writeSocket() {
    while (!out_.empty()) {
      const ssize_t put = ::send(socket_.get(), out_.data(), out_.size(), MSG_NOSIGNAL);
      if (put < 0 && errno == EINTR) continue;
      // A shim that is gone is noticed when reading.
      if (put < 0) break;
      out_.erase(0, static_cast<std::size_t>(put));
    }
    epoll_event event{};
    event.events = out_.empty() ? EPOLLIN : EPOLLIN | EPOLLOUT;
    event.data.fd = socket_.get();
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, socket_.get(), &event);
  }

  void readSocket() {
    char buffer[16384];
    for (int i = 0; i < kReadsAtOnce && socket_.isOpen(); ++i) {
      const ssize_t got = ::recv(socket_.get(), buffer, sizeof buffer, 0);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && errno == EAGAIN) return;
      if (got <= 0)
        return retryLater(got == 0 ? options_.socket + ": closed by the shim" : whyNot(errno));
      in_.append(buffer, static_cast<std::size_t>(got));
      takeLines();
    }
  }

  void takeLines() {
    std::size_t begin = 0;
    for (std::size_t end = in_.find('\n', scanned_); end != std::string::npos;
         end = in_.find('\n', begin)) {
      if (!takeLine(std::string_view(in_).substr(begin, end - begin))) return;
      begin = end + 1;
    }
    in_.erase(0, begin);
    scanned_ = in_.size();
    if (in_.size() > kMaxLine) retryLater(options_.socket + ": a line without an end");
  }

  bool takeLine(std::string_view line) {
    Service service;
    std::string error;
    if (!internal::decodeService(line, &service, &error)) {
      retryLater(options_.socket + ": " + error);
      return false;
    }
    delay_ = options_.retry_first;
    service.source = Source::kSocket;
    learn(std::move(service));
    return true;
  }

  // ---- files, where there is no socket ----

  void readFiles() {
    for (auto& [name, watched] : watches_) readFile(name, watched);
  }

  // Those of a shim that is away do not change; those of one whose socket is out of reach do.
  void readFile(const std::string& name, Watched& watched) {
    if (options_.registry.empty()) return;
    const std::string registry = options_.registry + "/registry.json";
    const std::string path = options_.registry + "/services/" + name + ".json";
    FileStamp stamp = FileStamp::of(path);
    const bool alone = stamp.size >= 0;
    if (!alone) stamp = FileStamp::of(registry);
    if (stamp.size < 0 || (watched.has_value && stamp == watched.read)) return;
    watched.read = stamp;
    Service service;
    std::string text, error;
    // A file of one service is not synced: after a loss of power the other one is whole.
    bool holds = alone && readWhole(path, kMaxLine, &text) &&
                 internal::decodeService(text, &service, &error) && service.name == name;
    if (!holds)
      holds = readWhole(registry, kMaxFile, &text) &&
              internal::decodeFromRegistry(text, name, &service, &error);
    if (!holds) return;
    service.source = Source::kFile;
    service.confirmed = false;
    learn(std::move(service));
  }

  // ---- what is known ----

  void learn(Service service) {
    const auto found = watches_.find(service.name);
    if (found == watches_.end()) return;
    Watched& watched = found->second;
    // A host that lost its disk knows less than we do.
    const bool older = watched.has_value && (service.revision < watched.value.revision ||
                                             (watched.value.known && !service.known));
    if (older) return;
    const bool changed = !watched.has_value || !sameList(watched.value, service);
    watched.value = std::move(service);
    watched.has_value = true;
    if (changed) deliverLater(found->first);
  }

  void deliverLater(const std::string& name) {
    changed_.insert(name);
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t put = ::write(wake_.get(), &one, sizeof one);
  }

  // What callbacks bring about comes in the next round.
  void deliver() {
    drain(wake_);
    for (const std::string& name : std::exchange(changed_, {})) {
      const auto found = watches_.find(name);
      if (found == watches_.end()) continue;
      const std::shared_ptr<OnChange> on_change = found->second.on_change;
      const Service value = found->second.value;
      if (*on_change) (*on_change)(value);
    }
  }

  const NamingOptions options_;
  Descriptor epoll_, timer_, wake_, socket_;
  std::map<std::string, Watched> watches_;
  std::set<std::string> changed_;  // callbacks that are due
  std::string in_, out_;
  std::size_t scanned_ = 0;  // of in_, without an end of line
  std::string error_;
  bool retrying_ = false;
  SteadyClock::time_point retry_at_{};
  Millis delay_;
  std::minstd_rand random_;
};

Naming::Naming(NamingOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Naming::~Naming() = default;

bool Naming::watch(const std::string& name, OnChange on_change) {
  return impl_->watch(name, std::move(on_change));
}
void Naming::unwatch(const std::string& name) { impl_->unwatch(name); }
const Service* Naming::find(const std::string& name) const { return impl_->find(name); }
int Naming::fd() const { return impl_->fd(); }
void Naming::process() { impl_->process(); }
bool Naming::isConnected() const { return impl_->isConnected(); }
const std::string& Naming::error() const { return impl_->error(); }

bool Naming::wait(Millis timeout) {
  const auto end = SteadyClock::now() + timeout;
  for (;;) {
    const auto left = std::chrono::duration_cast<Millis>(end - SteadyClock::now());
    pollfd fd{impl_->fd(), POLLIN, 0};
    const int ready = ::poll(
        &fd, 1, static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, std::int64_t{1} << 30)));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return false;
    process();
    return true;
  }
}

const Service* Naming::waitFor(const std::string& name, Millis timeout) {
  const auto end = SteadyClock::now() + timeout;
  for (;;) {
    if (const Service* found = find(name)) return found;
    const auto left = std::chrono::duration_cast<Millis>(end - SteadyClock::now());
    if (left.count() <= 0 || !wait(left)) return find(name);
  }
}

}  // namespace clusterctl
