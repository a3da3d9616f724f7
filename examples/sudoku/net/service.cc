#include "net/service.h"

#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace sudoku {
namespace {

sigset_t handledSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, signal);
  return set;
}

std::string environment(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value == nullptr ? "" : value;
}

std::string upperCase(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

struct PortText {
  std::string text;
  std::string from;  // where it was said
};

PortText findPort(const std::string& name, const Options& options) {
  const std::string option = name == "main" ? "--port" : "--" + name + "-port";
  if (const auto given = options.get(option)) return {*given, option};
  const std::string variable = "PORT_" + upperCase(name);
  return {environment(variable), variable};
}

}  // namespace

Signals::Signals(EventLoop& loop, OnSignal on_signal) : loop_(loop) {
  const sigset_t set = handledSignals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  fd_.reset(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  loop_.add(fd_.get(), EPOLLIN, [this, on_signal = std::move(on_signal)](EventLoop::Events) {
    signalfd_siginfo info{};
    while (::read(fd_.get(), &info, sizeof info) == sizeof info) {
      on_signal(static_cast<int>(info.ssi_signo));
    }
  });
}

Signals::~Signals() { loop_.remove(fd_.get()); }

Notifier::Notifier() : path_(environment("NOTIFY_SOCKET")) {
  const auto period = parseNumber(environment("WATCHDOG_USEC"), 1, UINT64_MAX / 4);
  const std::string pid = environment("WATCHDOG_PID");
  if (!period || (!pid.empty() && pid != std::to_string(getpid()))) return;
  watchdog_period_ = std::chrono::microseconds(*period / 2);
}

void Notifier::send(const std::string& state) const {
  sockaddr_un address{};
  if (path_.empty() || path_.size() >= sizeof address.sun_path) return;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path_.data(), path_.size());
  if (path_.front() == '@') address.sun_path[0] = '\0';  // the abstract namespace
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path_.size());
  const Fd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // A supervisor that does not listen is no reason not to serve.
  ::sendto(fd.get(), state.data(), state.size(), MSG_NOSIGNAL,
           reinterpret_cast<const sockaddr*>(&address), length);
}

void startWatchdog(EventLoop& loop, const Notifier& notifier) {
  const auto period = notifier.watchdogPeriod();
  if (!period) return;
  notifier.send("WATCHDOG=1");
  loop.runAfter(*period, [&loop, &notifier] { startWatchdog(loop, notifier); });
}

OrError<std::optional<PortChoice>> choosePort(const std::string& name, const Options& options,
                                              std::vector<InheritedSocket>& inherited) {
  const auto passed =
      std::find_if(inherited.begin(), inherited.end(),
                   [&](const InheritedSocket& socket) { return socket.name == name; });
  if (passed != inherited.end()) return std::optional(PortChoice{std::move(passed->fd), {}});
  const PortText said = findPort(name, options);
  if (said.text.empty()) return std::optional<PortChoice>();
  const auto port = parseNumber(said.text, 0, 65535);
  if (!port) return Failure{said.from + ": \"" + said.text + "\" is not a port"};
  // Port 0 passes here, though not in parseHostPort: the kernel chooses one.
  const auto address = parseHostPort(options.get("--listen").value_or("0.0.0.0") + ":1");
  if (!address) return Failure{"--listen: " + address.error()};
  return std::optional(PortChoice{Fd(), {address.value().host, static_cast<std::uint16_t>(*port)}});
}

OrError<ListenSocket> openPort(PortChoice choice) {
  if (choice.inherited.valid()) return ListenSocket{std::move(choice.inherited), true};
  auto fd = listenOn(choice.address);
  if (!fd) return Failure{fd.error()};
  return ListenSocket{std::move(fd.value()), false};
}

}  // namespace sudoku
