#include "shim/haproxy.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <map>
#include <sstream>

namespace cctl::shim {
namespace {

// srv_admin_state, of haproxy/server-t.h.
constexpr unsigned kForcedMaint = 0x01;
constexpr unsigned kForcedDrain = 0x08;

std::vector<std::string_view> splitAt(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const size_t end = std::min(text.find(separator), text.size());
    if (end > 0) parts.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

unsigned numberIn(std::string_view text) {
  unsigned number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

HaproxyState stateOf(unsigned admin) {
  if (admin & kForcedMaint) return HaproxyState::kMaint;
  return admin & kForcedDrain ? HaproxyState::kDrain : HaproxyState::kReady;
}

std::string_view stateName(HaproxyState state) {
  switch (state) {
    case HaproxyState::kReady:
      return "ready";
    case HaproxyState::kDrain:
      return "drain";
    case HaproxyState::kMaint:
      break;
  }
  return "maint";
}

// The columns are named in a line that begins with '#'.
class Columns {
 public:
  explicit Columns(std::string_view header) {
    const auto names = splitAt(header, ' ');
    for (size_t i = 1; i < names.size(); ++i) at_[std::string(names[i])] = i - 1;
  }
  std::string_view in(const std::vector<std::string_view>& words, const char* name) const {
    const auto found = at_.find(name);
    return found == at_.end() || found->second >= words.size() ? std::string_view()
                                                               : words[found->second];
  }

 private:
  std::map<std::string, size_t> at_;
};

// An endpoint and the server that shall have it.
struct Wish {
  std::string address;
  uint16_t port = 0;
  HaproxyState state = HaproxyState::kMaint;
};

std::vector<Wish> wishesFor(const protocol::View& view, const ShownService& service) {
  std::vector<Wish> wishes;
  for (const Endpoint& endpoint : service.endpoints) {
    const uint16_t port = portFor(view, endpoint);
    if (port == 0) continue;
    const HaproxyState state = endpoint.state == EndpointState::kReady      ? HaproxyState::kReady
                               : endpoint.state == EndpointState::kDraining ? HaproxyState::kDrain
                                                                            : HaproxyState::kMaint;
    wishes.push_back({endpoint.address, port, state});
  }
  return wishes;
}

class Planner {
 public:
  Planner(const protocol::View& view, const std::vector<HaproxyServer>& servers) : view_(view) {
    for (const std::string& name : view.servers) {
      const auto found = std::find_if(servers.begin(), servers.end(),
                                      [&](const HaproxyServer& one) { return one.name == name; });
      if (found != servers.end())
        free_.push_back(*found);
      else
        missing_.push_back(name);
    }
  }

  HaproxyPlan plan(std::vector<Wish> wishes) {
    keepThose(wishes);
    // Those that take no connections first: nobody is at home there.
    std::stable_sort(free_.begin(), free_.end(), [](const auto& a, const auto& b) {
      return (a.state == HaproxyState::kMaint) > (b.state == HaproxyState::kMaint);
    });
    size_t without = 0;
    for (const Wish& wish : wishes) {
      if (free_.empty()) {
        ++without;
        continue;
      }
      give(free_.front(), wish);
      free_.erase(free_.begin());
    }
    for (const HaproxyServer& server : free_) setState(server, HaproxyState::kMaint);
    if (!missing_.empty())
      plan_.problem = fmt::format("backend {} has no server {}", view_.name, missing_.front());
    if (without > 0)
      plan_.problem = fmt::format("backend {} has {} servers too few", view_.name, without);
    return std::move(plan_);
  }

 private:
  void keepThose(std::vector<Wish>& wishes) {
    std::vector<Wish> others;
    for (const Wish& wish : wishes) {
      const auto has = std::find_if(free_.begin(), free_.end(), [&](const HaproxyServer& one) {
        return one.address == wish.address && one.port == wish.port;
      });
      if (has == free_.end()) {
        others.push_back(wish);
        continue;
      }
      setState(*has, wish.state);
      free_.erase(has);
    }
    wishes = std::move(others);
  }

  void give(const HaproxyServer& server, const Wish& wish) {
    HaproxyServer now = server;
    // Never the new address under the old state.
    setState(now, HaproxyState::kMaint);
    now.state = HaproxyState::kMaint;
    add(server, fmt::format("addr {} port {}", wish.address, wish.port));
    setState(now, wish.state);
  }

  void setState(const HaproxyServer& server, HaproxyState state) {
    if (server.state != state) add(server, fmt::format("state {}", stateName(state)));
  }

  void add(const HaproxyServer& server, const std::string& what) {
    plan_.commands.push_back(fmt::format("set server {}/{} {}", view_.name, server.name, what));
  }

  const protocol::View& view_;
  std::vector<HaproxyServer> free_;
  std::vector<std::string> missing_;
  HaproxyPlan plan_;
};

}  // namespace

Result<std::vector<HaproxyServer>> parseServers(std::string_view answer,
                                                const std::string& backend) {
  std::vector<HaproxyServer> servers;
  std::optional<Columns> columns;
  for (const std::string_view line : splitAt(answer, '\n')) {
    if (line[0] == '#') {
      columns.emplace(line);
      continue;
    }
    if (!columns) continue;  // the format's number
    const auto words = splitAt(line, ' ');
    const std::string_view name = columns->in(words, "srv_name");
    const std::string_view port = columns->in(words, "srv_port");
    if (name.empty() || port.empty() || columns->in(words, "be_name") != backend) continue;
    servers.push_back({std::string(name), std::string(columns->in(words, "srv_addr")),
                       static_cast<uint16_t>(numberIn(port)),
                       stateOf(numberIn(columns->in(words, "srv_admin_state")))});
  }
  if (columns) return servers;
  const std::string said(answer.substr(0, std::min<size_t>(answer.find('\n'), 200)));
  return fail(Code::kNotFound, "HAProxy on `show servers state {}`: {}", backend,
              said.empty() ? "no answer" : said);
}

HaproxyPlan planServers(const protocol::View& view, const std::vector<HaproxyServer>& servers,
                        const ShownService& service) {
  return Planner(view, servers).plan(wishesFor(view, service));
}

// ---- the socket --------------------------------------------------------------------------------

HaproxyExchange::HaproxyExchange(EventLoop& loop, const std::string& socket, std::string line,
                                 Millis time_limit, OnAnswer on_answer)
    : on_answer_(std::move(on_answer)),
      where_(socket),
      line_(std::move(line) + "\n"),
      fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, socket.c_str(), sizeof address.sun_path - 1);
  const bool connected =
      fd_.valid() &&
      ::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  if (connected) {
    watch_ =
        loop.watch(fd_.get(), EPOLLIN | EPOLLOUT, [this](uint32_t events) { onEvents(events); });
    limit_ = loop.after(time_limit, [this] {
      finish(fail(Code::kTimeout, "{}: no answer from HAProxy in time", where_));
    });
    return;
  }
  const Error error{Code::kFailed, fmt::format("{}: {}", socket, std::strerror(errno))};
  limit_ = loop.after(Millis(0), [this, error] { finish(fail(error)); });
}

void HaproxyExchange::finish(Result<std::string> answer) {
  watch_.reset();
  limit_.reset();
  const OnAnswer on_answer = std::move(on_answer_);  // which may destroy this object
  on_answer(std::move(answer));
}

void HaproxyExchange::onEvents(uint32_t events) {
  while (!line_.empty()) {
    const ssize_t put = ::send(fd_.get(), line_.data(), line_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put < 0) break;
    line_.erase(0, static_cast<size_t>(put));
  }
  if (line_.empty()) watch_.change(EPOLLIN);
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0) return;
  for (;;) {
    char buffer[16384];
    const ssize_t got = ::recv(fd_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    if (got < 0) return finish(failErrno(errno, where_));
    if (got == 0) return finish(std::move(answer_));
    answer_.append(buffer, static_cast<size_t>(got));
    if (answer_.size() > kMaxAnswer)
      return finish(fail(Code::kFailed, "{}: that is no HAProxy: it does not stop", where_));
  }
}

}  // namespace cctl::shim
