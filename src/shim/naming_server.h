// The naming socket: one JSON object a line, for any local process.
//   {"resolve":"NAME"}  answered once
//   {"watch":"NAME"}    answered at once and again at every change, until closed
// A reader that is slow gets the newest state, not every one between, and keeps nobody waiting.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "shim/names.h"

namespace cctl::shim {

class NamingServer {
 public:
  static constexpr size_t kMaxClients = 4096;
  static constexpr size_t kMaxLine = 4096;
  static constexpr size_t kMaxWatches = 256;  // of one client

  // Both must outlive it.
  NamingServer(EventLoop& loop, Names& names);
  ~NamingServer();
  [[nodiscard]] Result<void> listen(const std::string& path);

 private:
  class Client;
  // What waits to be sent; shared by all who are told the same.
  using Line = std::shared_ptr<const std::string>;

  void onAccept();
  void admit(Fd fd);
  void onChange(const std::string& service);
  void drop(uint64_t id);
  Line lineOf(const std::string& service);

  EventLoop& loop_;
  Names& names_;
  Fd socket_;
  Watch watch_;
  Timer rest_;
  uint64_t next_id_ = 1;
  std::map<uint64_t, std::shared_ptr<Client>> clients_;
  struct Watched {
    std::vector<Client*> clients;  // of clients_
    // The newest line that was told: until it changes, every reader gets the same.
    std::weak_ptr<const std::string> line;
  };
  std::map<std::string, Watched> watched_;
};

}  // namespace cctl::shim
