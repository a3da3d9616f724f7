// TCP connections as the kernel tells them (/proc/net/tcp, proc(5)), and whose they are.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/messages.h"
#include "shim/supervisor.h"

namespace cctl::shim {

// Items of one answer: they are all made at once.
constexpr int kMostConnections = 10'000;

enum class TcpState {
  kEstablished = 1,
  kSynSent,
  kSynReceived,
  kFinWait1,
  kFinWait2,
  kTimeWait,
  kClose,
  kCloseWait,
  kLastAck,
  kListen,
  kClosing,
  kNewSynReceived,
};

// One line of the table.
struct TcpSocket {
  std::string local_address;  // "10.0.0.1", "::1"; IPv4 in IPv6 as IPv4
  int local_port = 0;
  std::string peer_address;
  int peer_port = 0;
  TcpState state = TcpState::kClose;
  uint64_t inode = 0;  // 0: no process has it

  std::string local() const;  // "10.0.0.1:80", "[::1]:80"
  std::string peer() const;
};

// Both of /proc/net/tcp and tcp6; lines that are neither are passed over.
std::vector<TcpSocket> parseTcpTable(std::string_view text);

// To the ports of these services. A port that generations share counts for the one whose process
// has accepted the connection.
std::vector<protocol::TcpConnection> connectionsToServices(
    const protocol::ConnectionsRequest& request, const std::vector<Supervisor::Running>& running);

// From any process here to one of these "ADDRESS:PORT".
std::vector<protocol::TcpConnection> connectionsFromHere(
    const std::vector<std::string>& to, const std::vector<Supervisor::Running>& running);

}  // namespace cctl::shim
