// The names as this host knows them: ROOT/registry/registry.json and services/S.json, replaced
// atomically (interface.md, "On a host").
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "protocol/messages.h"
#include "shim/event_loop.h"

namespace cctl::shim {

class Names {
 public:
  // `loop` must outlive it.
  Names(std::string root, std::string cluster, EventLoop& loop);

  // Reads what the files hold; of the two places for a service the higher revision counts. What
  // does not hold is in problems() and left out.
  [[nodiscard]] Result<void> load();
  const std::vector<std::string>& problems() const { return problems_; }

  // Applies each service whose revision rises, all of it or, when one is malformed, nothing. The
  // service's own file is replaced before it returns; registry.json at most ten times a second.
  // Returns the names of those that it applied.
  [[nodiscard]] Result<std::vector<std::string>> apply(
      const std::vector<protocol::NamedService>& services);

  protocol::NamesReply all() const;
  uint64_t revisionOf(const std::string& service) const;  // 0: not known
  uint64_t generation() const { return generation_; }
  // {"format":1,"service":…,"revision":7,"endpoints":[…]}; "known":false and revision 0 when this
  // host has never heard of it, which is not the same as no endpoints.
  std::string lineFor(const std::string& service) const;

  // Called with the service's name after each change.
  void onChange(std::function<void(const std::string&)> callback) {
    on_change_ = std::move(callback);
  }

 private:
  struct Entry {
    uint64_t revision = 0;
    std::string endpoints;  // JSON, a list
  };

  void loadRegistry();
  void loadServices();
  void learn(const std::string& service, Entry entry);
  [[nodiscard]] Result<void> writeService(const std::string& service, const Entry& entry);
  void scheduleRegistry();
  void writeRegistry();

  std::string root_;
  std::string cluster_;
  EventLoop& loop_;
  std::map<std::string, Entry> services_;
  std::vector<std::string> problems_;
  std::function<void(const std::string&)> on_change_;
  uint64_t generation_ = 0;
  SteadyTime next_write_{};
  Timer write_timer_;
};

}  // namespace cctl::shim
