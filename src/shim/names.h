// The names as this host knows them: ROOT/registry/registry.json and services/S.json, replaced
// atomically (interface.md, "On a host"), and what local readers are shown of them.
//
// What is shown may differ from what is registered in one thing: an endpoint of this host whose
// process is not ready is "unhealthy" at once, with what the registry says in "registered", at the
// same revision. Whoever may change the registry changes it later.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "protocol/messages.h"
#include "shim/disk_sync.h"
#include "shim/event_loop.h"

namespace cctl::shim {

class Names {
 public:
  // Whether the process that has these ports is ready; nullopt when there is no such instance here.
  using IsReady = std::function<std::optional<bool>(const protocol::InstanceRef&,
                                                    const std::map<std::string, int>& ports)>;

  // `loop` must outlive it.
  Names(std::string root, std::string cluster, EventLoop& loop);

  // Endpoints of `host` are this shim's own to judge, by `is_ready`. Call before load().
  void judge(std::string host, IsReady is_ready);

  // Reads what the files hold; of the two places for a service the higher revision counts. What
  // does not hold is in problems() and left out. All of it is "as of" its revision until a push
  // confirms it.
  [[nodiscard]] Result<void> load();
  const std::vector<std::string>& problems() const { return problems_; }

  // Applies each service whose revision rises, all of it or, when one is malformed, nothing. Those
  // who watch are told before it returns, and have a millisecond to hear it (in a steady stream of
  // changes ten at most) before the files are written: the services' own ones in slices, see
  // whenWritten(); registry.json at least 100 ms apart and never for more than a tenth of the time.
  // Returns the names of those that it applied.
  [[nodiscard]] Result<std::vector<std::string>> apply(
      const std::vector<protocol::NamedService>& services);
  // Calls `done` once the files of services hold all that is known now, or with why one of them
  // could not be replaced; that is tried again every second, and when somebody asks here.
  using Written = std::function<void(const Result<void>&)>;
  void whenWritten(Written done);
  // Writes those files now, before an end of this process.
  void finish();

  // A process of this service came into another state: its endpoints are judged anew at the end of
  // this turn of the loop, so that a restart comes first. Without a service: all are.
  void localChange(const std::string& service);
  void localChange();

  // As registered.
  protocol::NamesReply all() const;
  uint64_t revisionOf(const std::string& service) const;  // 0: not known
  uint64_t generation() const { return generation_; }
  std::vector<std::string> services() const;
  // As shown: a JSON list; nullptr when the service is not known. Valid until the next change.
  const std::string* shown(const std::string& service) const;
  // {"format":1,"service":…,"revision":7,"endpoints":[…]}; "known":false and revision 0 when this
  // host has never heard of it, which is not the same as no endpoints; "as_of":7 when it was read
  // from disk at the start and nothing has confirmed it since.
  std::string lineFor(const std::string& service) const;

  // Called with the service's name after each change of what is shown. Observers live as long as
  // this.
  void onChange(std::function<void(const std::string&)> callback) {
    on_change_.push_back(std::move(callback));
  }

 private:
  struct Entry {
    uint64_t revision = 0;
    std::string endpoints;  // JSON, a list, as registered
    std::string shown;      // the same as it is shown, where that differs; else empty
    bool here = false;      // some of them are this host's
    bool confirmed = false;
  };

  void loadRegistry();
  bool loadRegistryLines(std::string_view text);
  void loadServices();
  void learn(const std::string& service, uint64_t revision, const Json& endpoints);
  bool judgeEntry(Entry& entry, Json endpoints) const;
  void judgeChanged();
  void changed(const std::string& service);
  std::string tailOf(const Entry& entry) const;
  [[nodiscard]] Result<void> writeService(const std::string& service, const Entry& entry);
  void markSlice();
  void writeSoon(const std::string& service);
  void writeServicesIn(Millis wait);
  void writeServicesSoon();
  void writeServices(size_t most);
  void scheduleRegistry();
  void beginRegistry();
  void writeSlice();
  void finishRegistry();
  void putInPlace();
  void registryFailed();

  std::string root_;
  std::string cluster_;
  EventLoop& loop_;
  std::string host_;
  IsReady is_ready_;
  std::map<std::string, Entry> services_;
  std::vector<std::string> problems_;
  std::vector<std::function<void(const std::string&)>> on_change_;
  std::set<std::string> to_judge_;
  bool judging_ = false;
  uint64_t generation_ = 0;

  // Files of services to be replaced, those of them that could not be, why the first could not,
  // and who waits for it.
  std::set<std::string> to_write_;
  std::set<std::string> unwritten_;
  Result<void> written_;
  std::vector<Written> waiting_;
  std::optional<SteadyTime> write_by_;  // at the latest
  Timer services_timer_;

  // registry.json on its way.
  struct Writing {
    Fd file;
    std::string next;  // the service that comes next
    bool first = true;
    SteadyTime began{};
  };
  std::unique_ptr<Writing> writing_;
  bool write_again_ = false;
  SteadyTime next_write_{};
  Timer write_timer_;
  std::string to_mark_;  // the service from which on files are not marked yet
  Timer mark_timer_;
  DiskSync disk_;
  // Outlived by callbacks that are posted to the loop.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace cctl::shim
