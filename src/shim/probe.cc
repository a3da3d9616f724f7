#include "shim/probe.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <optional>
#include <string_view>

namespace cctl::shim {
namespace {

using protocol::ProbeKind;

constexpr Millis kFirstInterval{20};
constexpr Millis kLongestInterval{250};
constexpr Millis kSettle{250};
constexpr size_t kMaxAnswer = 4096;

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
};

std::optional<SocketAddress> parseAddress(const std::string& text, int port) {
  SocketAddress address;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
  if (::inet_pton(AF_INET, text.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(static_cast<uint16_t>(port));
    address.length = sizeof(sockaddr_in);
    return address;
  }
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
  if (::inet_pton(AF_INET6, text.c_str(), &v6->sin6_addr) != 1) return std::nullopt;
  v6->sin6_family = AF_INET6;
  v6->sin6_port = htons(static_cast<uint16_t>(port));
  address.length = sizeof(sockaddr_in6);
  return address;
}

std::string printable(std::string_view text) {
  std::string shown(text.substr(0, 300));
  for (char& c : shown)
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  return shown;
}

// Common to all: the callback at most once, last, and the deadline.
class Attempt : public ProbeAttempt {
 public:
  Attempt(EventLoop& loop, Millis timeout, Done done) : loop_(loop), done_(std::move(done)) {
    deadline_ = loop_.after(timeout, [this] { finish(false, "no answer in time" + detail_); });
  }

 protected:
  // This object may be gone when it returns.
  void finish(bool ok, std::string answer) {
    const Done done = std::exchange(done_, nullptr);
    if (done) done(ok, std::move(answer));
  }

  EventLoop& loop_;
  std::string detail_;

 private:
  Done done_;
  Timer deadline_;
};

// tcp: connects. http: asks for the path as well.
class SocketAttempt final : public Attempt {
 public:
  SocketAttempt(EventLoop& loop, const ProbeTarget& target, Done done)
      : Attempt(loop, target.attempt_timeout, std::move(done)), target_(target) {
    start_ = loop_.after(Millis(0), [this] { connectNext("no address to try"); });
  }

 private:
  // Whoever began it may keep it until the next attempt: a socket that has ended, or can be written
  // to, would tell the loop so without end.
  void conclude(bool ok, std::string answer) {
    watch_.reset();
    socket_.reset();
    finish(ok, std::move(answer));
  }

  void connectNext(std::string why) {
    watch_.reset();
    socket_.reset();
    while (next_ < target_.addresses.size()) {
      const std::string& text = target_.addresses[next_++];
      const auto address = parseAddress(text, target_.port);
      if (!address) continue;
      detail_ = fmt::format(" from {}:{}", text, target_.port);
      if (begin(*address)) return;
      why = std::strerror(errno) + detail_;
    }
    finish(false, why);
  }

  bool begin(const SocketAddress& address) {
    socket_.reset(
        ::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!socket_) return false;
    const auto* raw = reinterpret_cast<const sockaddr*>(&address.storage);
    if (::connect(socket_.get(), raw, address.length) != 0 && errno != EINPROGRESS) return false;
    watch_ = loop_.watch(socket_.get(), EPOLLOUT, [this](uint32_t) { onConnected(); });
    return true;
  }

  void onConnected() {
    int error = 0;
    socklen_t length = sizeof error;
    ::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) return connectNext(std::strerror(error) + detail_);
    if (target_.probe.kind == ProbeKind::kTcp) return conclude(true, "connected");
    const std::string request = fmt::format(
        "GET {} HTTP/1.1\r\nHost: localhost:{}\r\nUser-Agent: clusterctl-shim\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n",
        target_.probe.path, target_.port);
    // A fresh socket's buffer takes this whole.
    if (::send(socket_.get(), request.data(), request.size(), MSG_NOSIGNAL) !=
        static_cast<ssize_t>(request.size()))
      return conclude(false, "the connection was closed at once");
    watch_.reset();
    watch_ = loop_.watch(socket_.get(), EPOLLIN, [this](uint32_t) { onAnswer(); });
  }

  void onAnswer() {
    std::array<char, kMaxAnswer> buffer;
    const ssize_t got = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got > 0) answer_.append(buffer.data(), static_cast<size_t>(got));
    const bool ended = got <= 0 || answer_.size() >= kMaxAnswer;
    const bool have_status = answer_.find('\n') != std::string::npos;
    if (!have_status && !ended) return;
    if (have_status && isGood()) return conclude(true, statusLine());
    if (ended) conclude(false, answer_.empty() ? "closed without an answer" : refusal());
  }

  std::string statusLine() const {
    return printable(answer_.substr(0, answer_.find_first_of("\r\n")));
  }

  // What it says of itself. Its headers stay out of records: they may carry tokens.
  std::string refusal() const {
    const size_t headers_end = answer_.find("\r\n\r\n");
    const std::string body = headers_end == std::string::npos
                                 ? std::string()
                                 : printable(answer_.substr(headers_end + 4));
    return statusLine() + (body.empty() ? "" : ": " + body);
  }

  // "HTTP/1.1 204 …": 200 to 399.
  bool isGood() const {
    return answer_.size() > 12 && answer_.starts_with("HTTP/1.") && answer_[8] == ' ' &&
           (answer_[9] == '2' || answer_[9] == '3');
  }

  const ProbeTarget target_;
  Timer start_;
  size_t next_ = 0;
  Fd socket_;
  Watch watch_;
  std::string answer_;
};

// exec: exit status 0.
class ExecAttempt final : public Attempt {
 public:
  ExecAttempt(EventLoop& loop, const ProbeTarget& target, Done done)
      : Attempt(loop, target.attempt_timeout, std::move(done)), command_(target.command) {
    start_ = loop_.after(Millis(0), [this] { begin(); });
  }
  ~ExecAttempt() override {
    if (pid_ <= 0) return;
    signalOwnGroup(pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }

 private:
  void begin() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return finish(false, std::strerror(errno));
    output_.reset(ends[0]);
    const Fd write_end(ends[1]);
    ::fcntl(output_.get(), F_SETFL, O_NONBLOCK);
    command_.out_fd = command_.err_fd = write_end.get();
    auto child = spawn(command_, nullptr);
    if (!child) return finish(false, child.error().message);
    pid_ = child->pid;
    pidfd_ = std::move(child->pidfd);
    output_watch_ = loop_.watch(output_.get(), EPOLLIN, [this](uint32_t) { readOutput(); });
    if (pidfd_)
      exit_watch_ = loop_.watch(pidfd_.get(), EPOLLIN, [this](uint32_t) { onExit(); });
    else
      poll();
  }

  // Below Linux 5.3.
  void poll() {
    poll_timer_ = loop_.after(Millis(20), [this] {
      if (!onExit()) poll();
    });
  }

  bool readOutput() {
    std::array<char, kMaxAnswer> buffer;
    const ssize_t got = ::read(output_.get(), buffer.data(), buffer.size());
    if (got == 0) output_watch_.reset();
    if (got <= 0) return false;
    if (text_.size() < kMaxAnswer) text_.append(buffer.data(), static_cast<size_t>(got));
    return true;
  }

  bool onExit() {
    siginfo_t info{};
    if (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
        info.si_pid != pid_)
      return false;
    signalOwnGroup(pid_, SIGKILL);  // what it left behind
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = 0;
    exit_watch_.reset();  // it would go on telling, and pid 0 is the shim's own group
    while (text_.size() < kMaxAnswer && readOutput()) {
    }
    const bool ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    const std::string how = WIFEXITED(status) ? fmt::format("exit status {}", WEXITSTATUS(status))
                                              : fmt::format("signal {}", WTERMSIG(status));
    while (!text_.empty() && std::isspace(static_cast<unsigned char>(text_.back())))
      text_.pop_back();
    finish(ok, text_.empty() ? how : how + ": " + printable(text_));
    return true;
  }

  SpawnRequest command_;
  Timer start_;
  Timer poll_timer_;
  int pid_ = 0;
  Fd pidfd_;
  Fd output_;
  Watch exit_watch_;
  Watch output_watch_;
  std::string text_;
};

}  // namespace

std::unique_ptr<ProbeAttempt> ProbeAttempt::begin(EventLoop& loop, const ProbeTarget& target,
                                                  Done done) {
  if (target.probe.kind == ProbeKind::kExec)
    return std::make_unique<ExecAttempt>(loop, target, std::move(done));
  return std::make_unique<SocketAttempt>(loop, target, std::move(done));
}

ReadinessProbe::ReadinessProbe(EventLoop& loop, ProbeTarget target, Accept accept,
                               std::function<void()> on_ready)
    : loop_(loop),
      target_(std::move(target)),
      accept_(std::move(accept)),
      on_ready_(std::move(on_ready)),
      interval_(kFirstInterval) {
  if (target_.probe.kind == ProbeKind::kNotify) return;  // the service says so itself
  if (target_.probe.kind == ProbeKind::kNone)
    timer_ = loop_.after(kSettle, [on_ready = on_ready_] { on_ready(); });
  else
    timer_ = loop_.after(Millis(0), [this] { attempt(); });
}

void ReadinessProbe::attempt() {
  attempt_ = ProbeAttempt::begin(
      loop_, target_, [this](bool ok, std::string answer) { onAnswer(ok, std::move(answer)); });
}

void ReadinessProbe::onAnswer(bool ok, std::string answer) {
  last_answer_ = std::move(answer);
  if (ok) {
    const std::string objection = accept_ ? accept_() : std::string();
    if (objection.empty()) {
      const auto on_ready = on_ready_;  // it may destroy this
      return on_ready();
    }
    last_answer_ = objection;
  }
  timer_ = loop_.after(interval_, [this] { attempt(); });
  interval_ = std::min(interval_ * 2, kLongestInterval);
}

LivenessProbe::LivenessProbe(EventLoop& loop, ProbeTarget target, Millis interval, int failures,
                             OnChange on_change)
    : loop_(loop),
      target_(std::move(target)),
      interval_(interval),
      failures_(failures),
      on_change_(std::move(on_change)) {
  timer_ = loop_.after(interval_, [this] { attempt(); });
}

void LivenessProbe::attempt() {
  begun_ = loop_.now();
  attempt_ = ProbeAttempt::begin(
      loop_, target_, [this](bool ok, const std::string& answer) { onAnswer(ok, answer); });
}

void LivenessProbe::onAnswer(bool ok, const std::string& answer) {
  const bool was_failing = failed_ >= failures_;
  failed_ = ok ? 0 : failed_ + 1;
  // Not before the answer: an attempt that may take longer than the interval would never end.
  const Millis left = interval_ - std::chrono::duration_cast<Millis>(loop_.now() - begun_);
  timer_ = loop_.after(std::max(Millis(0), left), [this] { attempt(); });
  const auto on_change = on_change_;  // it may destroy this
  if (ok && was_failing) return on_change(true, answer);
  if (!ok && failed_ == failures_) on_change(false, answer);
}

}  // namespace cctl::shim
