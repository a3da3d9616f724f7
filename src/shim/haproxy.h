// HAProxy's runtime API, as far as servers of a backend are concerned (HAProxy's management guide,
// "9.3. Unix Socket commands": show servers state, set server).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "shim/event_loop.h"
#include "shim/view_text.h"

namespace cctl::shim {

enum class HaproxyState { kReady, kDrain, kMaint };

struct HaproxyServer {
  std::string name;
  std::string address;
  uint16_t port = 0;
  HaproxyState state = HaproxyState::kMaint;
};

// The answer to `show servers state BACKEND`. kNotFound when it says that there is no such backend.
[[nodiscard]] Result<std::vector<HaproxyServer>> parseServers(std::string_view answer,
                                                              const std::string& backend);

struct HaproxyPlan {
  std::vector<std::string> commands;  // none: all is as it should be
  std::string problem;                // what cannot be done; the rest is
};
// What makes the servers that `view` may use those of the service: a server that has an address
// already keeps it; a server without an endpoint, or with an unhealthy one, takes no connections.
HaproxyPlan planServers(const protocol::View& view, const std::vector<HaproxyServer>& servers,
                        const ShownService& service);

// One connection: sends a line of commands, reads until the other side closes, within the time.
class HaproxyExchange {
 public:
  using OnAnswer = std::function<void(Result<std::string>)>;
  static constexpr size_t kMaxAnswer = 4u << 20;

  // `loop` must outlive it. The answer comes from the loop, once; it may destroy this object.
  // Destroyed before that, it never comes.
  HaproxyExchange(EventLoop& loop, const std::string& socket, std::string line, Millis time_limit,
                  OnAnswer on_answer);
  HaproxyExchange(const HaproxyExchange&) = delete;
  HaproxyExchange& operator=(const HaproxyExchange&) = delete;

 private:
  void onEvents(uint32_t events);
  void finish(Result<std::string> answer);

  OnAnswer on_answer_;
  const std::string where_;
  std::string line_;
  std::string answer_;
  Fd fd_;
  Watch watch_;
  Timer limit_;
};

}  // namespace cctl::shim
