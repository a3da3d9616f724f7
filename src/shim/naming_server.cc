#include "shim/naming_server.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>

#include "model/names.h"
#include "shim/control_server.h"

namespace cctl::shim {

class NamingServer::Client {
 public:
  Client(NamingServer& server, uint64_t id, Fd fd) : server_(server), id_(id), fd_(std::move(fd)) {}

  void open() {
    watch_ = server_.loop_.watch(fd_.get(), EPOLLIN, [this](uint32_t events) { onEvents(events); });
  }

  // Most have taken all that they were told before: then it is one send, and nothing is kept. One
  // that has not is told when it has.
  void onChange(const std::string& service, const Line& line) {
    if (ended_) return;
    if (out_) {
      stale_.insert(service);
      return;
    }
    say(line);
    if (!writeSome()) return end();
    if (out_) watch_.change(EPOLLOUT);
  }

  const std::set<std::string>& watched() const { return watched_; }

 private:
  void onEvents(uint32_t events) {
    if (events & EPOLLIN) {
      char buffer[4096];
      const ssize_t got = ::recv(fd_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
      if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return end();
      if (got > 0) in_.append(buffer, static_cast<size_t>(got));
    } else if (events & (EPOLLHUP | EPOLLERR)) {
      return end();
    }
    takeLines();
    pump();
  }

  // The rest waits while an answer does: what a client may make us hold is bounded.
  void takeLines() {
    while (!out_ && !ended_ && !last_) {
      const size_t end = in_.find('\n');
      if (std::min(end, in_.size()) > kMaxLine)
        return complain(fmt::format("a line has at most {} bytes", kMaxLine));
      if (end == std::string::npos) break;
      const std::string line = in_.substr(0, end);
      in_.erase(0, end + 1);
      if (line.find_first_not_of(" \r\t") != std::string::npos) take(line);
      if (!writeSome()) return this->end();
    }
  }

  void take(const std::string& line) {
    const auto json = parseJson(line);
    if (!json) return complain(json.error().message);
    for (const char* verb : {"resolve", "watch"}) {
      const auto name = json->is_object() ? json->find(verb) : json->end();
      if (name == json->end()) continue;
      if (!name->is_string() || !parseServiceName(name->get<std::string>()))
        return complain("that is not the name of a service");
      const auto service = name->get<std::string>();
      if (verb[0] == 'w' && watched_.size() >= kMaxWatches && watched_.count(service) == 0)
        return complain("too many watches");
      if (verb[0] == 'w' && watched_.insert(service).second)
        server_.watched_[service].clients.push_back(this);
      return say(server_.lineOf(service));
    }
    complain("say {\"resolve\":\"SERVICE\"} or {\"watch\":\"SERVICE\"}");
  }

  void complain(const std::string& why) {
    say(std::make_shared<const std::string>(
        dumpJson(Json{{"error", {{"code", "bad-input"}, {"message", why}}}}) + "\n"));
    last_ = true;
    in_.clear();
  }

  void say(Line line) {
    out_ = std::move(line);
    sent_ = 0;
  }

  bool writeSome() {
    while (out_) {
      const ssize_t put = ::send(fd_.get(), out_->data() + sent_, out_->size() - sent_,
                                 MSG_NOSIGNAL | MSG_DONTWAIT);
      if (put < 0 && errno == EINTR) continue;
      if (put < 0) return errno == EAGAIN;
      sent_ += static_cast<size_t>(put);
      if (sent_ == out_->size()) out_.reset();
    }
    return true;
  }

  void pump() {
    if (ended_) return;
    if (!writeSome()) return end();
    while (!out_ && !stale_.empty()) {
      say(server_.lineOf(*stale_.begin()));
      stale_.erase(stale_.begin());
      if (!writeSome()) return end();
    }
    if (!out_ && last_) return end();
    // Its next lines wait while it does not read.
    watch_.change(out_ ? EPOLLOUT : EPOLLIN);
    if (!out_ && in_.find('\n') != std::string::npos) {
      takeLines();
      pump();
    }
  }

  void end() {
    if (std::exchange(ended_, true)) return;
    watch_.reset();
    server_.loop_.soon([&server = server_, id = id_] { server.drop(id); });
  }

  NamingServer& server_;
  uint64_t id_;
  Fd fd_;
  Watch watch_;
  std::string in_;
  Line out_;
  size_t sent_ = 0;  // of out_
  std::set<std::string> watched_;
  std::set<std::string> stale_;  // changed since it was last told
  bool last_ = false;
  bool ended_ = false;
};

NamingServer::NamingServer(EventLoop& loop, Names& names) : loop_(loop), names_(names) {
  names_.onChange([this](const std::string& service) { onChange(service); });
}

NamingServer::~NamingServer() = default;

Result<void> NamingServer::listen(const std::string& path) {
  CCTL_TRY(socket_, listenUnix(path, 0666));
  watch_ = loop_.watch(socket_.get(), EPOLLIN, [this](uint32_t) { onAccept(); });
  return {};
}

void NamingServer::onAccept() {
  for (int i = 0; i < 64; ++i) {
    Fd fd(::accept4(socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd) {
      admit(std::move(fd));
      continue;
    }
    if (errno != EMFILE && errno != ENFILE && errno != ENOMEM) return;
    watch_.change(0);
    rest_ = loop_.after(Millis(200), [this] { watch_.change(EPOLLIN); });
    return;
  }
}

void NamingServer::admit(Fd fd) {
  if (clients_.size() >= kMaxClients) return;
  const uint64_t id = next_id_++;
  auto client = std::make_shared<Client>(*this, id, std::move(fd));
  clients_[id] = client;
  client->open();
}

// Made once for all who are told the same. Only of what is watched: anybody may ask for any name.
NamingServer::Line NamingServer::lineOf(const std::string& service) {
  const auto watched = watched_.find(service);
  if (watched == watched_.end())
    return std::make_shared<const std::string>(names_.lineFor(service));
  if (Line line = watched->second.line.lock()) return line;
  auto line = std::make_shared<const std::string>(names_.lineFor(service));
  watched->second.line = line;
  return line;
}

void NamingServer::onChange(const std::string& service) {
  const auto watched = watched_.find(service);
  if (watched == watched_.end()) return;
  watched->second.line.reset();
  const Line line = lineOf(service);  // kept until all are told
  // A client that ends, or watches more, does so in a turn of its own.
  for (Client* client : watched->second.clients) client->onChange(service, line);
}

void NamingServer::drop(uint64_t id) {
  const auto client = clients_.find(id);
  for (const std::string& service : client->second->watched()) {
    const auto watched = watched_.find(service);
    std::erase(watched->second.clients, client->second.get());
    if (watched->second.clients.empty()) watched_.erase(watched);
  }
  clients_.erase(client);
}

}  // namespace cctl::shim
