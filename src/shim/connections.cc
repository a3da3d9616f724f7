#include "shim/connections.h"

#include <arpa/inet.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <climits>
#include <cstring>
#include <map>
#include <optional>
#include <set>

#include "base/file.h"
#include "shim/proc.h"

namespace cctl::shim {
namespace {

using protocol::TcpConnection;
using Running = Supervisor::Running;

constexpr size_t kMostTable = 256u << 20;

std::optional<uint64_t> hex(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::vector<std::string_view> fieldsOf(std::string_view line) {
  std::vector<std::string_view> fields;
  size_t at = 0;
  while ((at = line.find_first_not_of(' ', at)) != std::string_view::npos) {
    const size_t end = std::min(line.find(' ', at), line.size());
    fields.push_back(line.substr(at, end - at));
    at = end;
  }
  return fields;
}

// Eight digits are a word as the machine holds it, of an address that is in network order.
bool readWords(std::string_view digits, unsigned char* bytes) {
  for (size_t at = 0; at < digits.size(); at += 8) {
    const auto word = hex(digits.substr(at, 8));
    if (!word) return false;
    const auto value = static_cast<uint32_t>(*word);
    std::memcpy(bytes + at / 2, &value, sizeof value);
  }
  return true;
}

std::string addressText(std::string_view digits) {
  static constexpr unsigned char kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  std::array<unsigned char, 16> bytes{};
  if ((digits.size() != 8 && digits.size() != 32) || !readWords(digits, bytes.data())) return {};
  std::array<char, INET6_ADDRSTRLEN> text{};
  const bool mapped =
      digits.size() == 32 && std::memcmp(bytes.data(), kMapped, sizeof kMapped) == 0;
  const int family = digits.size() == 32 && !mapped ? AF_INET6 : AF_INET;
  ::inet_ntop(family, bytes.data() + (mapped ? sizeof kMapped : 0), text.data(), text.size());
  return text.data();
}

bool readEnd(std::string_view field, std::string& address, int& port) {
  const size_t colon = field.find(':');
  if (colon == std::string_view::npos) return false;
  address = addressText(field.substr(0, colon));
  const auto number = hex(field.substr(colon + 1));
  if (address.empty() || !number || *number > 65535) return false;
  port = static_cast<int>(*number);
  return true;
}

std::optional<TcpSocket> parseLine(std::string_view line) {
  const auto fields = fieldsOf(line);
  if (fields.size() < 10) return std::nullopt;
  TcpSocket socket;
  const auto state = hex(fields[3]);
  if (!readEnd(fields[1], socket.local_address, socket.local_port) ||
      !readEnd(fields[2], socket.peer_address, socket.peer_port) || !state || *state < 1 ||
      *state > 12)
    return std::nullopt;
  socket.state = static_cast<TcpState>(*state);
  std::from_chars(fields[9].data(), fields[9].data() + fields[9].size(), socket.inode);
  return socket;
}

std::string endText(const std::string& address, int port) {
  return address.find(':') == std::string::npos ? fmt::format("{}:{}", address, port)
                                                : fmt::format("[{}]:{}", address, port);
}

std::string_view stateText(TcpState state) {
  static constexpr std::string_view kNames[] = {
      "",      "established", "syn-sent", "syn-received", "fin-wait-1", "fin-wait-2",  "time-wait",
      "close", "close-wait",  "last-ack", "listen",       "closing",    "syn-received"};
  return kNames[static_cast<int>(state)];
}

std::vector<TcpSocket> tcpSockets() {
  std::vector<TcpSocket> all;
  for (const char* path : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    const auto text = readFile(path, kMostTable);
    if (!text) continue;
    std::vector<TcpSocket> some = parseTcpTable(*text);
    all.insert(all.end(), std::make_move_iterator(some.begin()),
               std::make_move_iterator(some.end()));
  }
  return all;
}

// Somebody may still read or write it. Without a process: it waits to be accepted, or the process
// is done with it and the kernel sees to the rest.
bool isAlive(const TcpSocket& socket) {
  if (socket.state == TcpState::kListen || socket.state == TcpState::kTimeWait) return false;
  if (socket.inode != 0) return true;
  return socket.state == TcpState::kEstablished || socket.state == TcpState::kCloseWait ||
         socket.state == TcpState::kSynReceived || socket.state == TcpState::kNewSynReceived;
}

// Which process has which of these sockets. Of several that share one, any.
using Owners = std::map<uint64_t, int>;

void addSockets(int pid, const std::set<uint64_t>& wanted, Owners& owners) {
  const std::string dir = fmt::format("/proc/{}/fd", pid);
  const auto names = listDir(dir);
  if (!names) return;
  for (const std::string& name : *names) {
    std::array<char, 64> target{};
    const ssize_t length = ::readlink((dir + "/" + name).c_str(), target.data(), target.size() - 1);
    static constexpr std::string_view kPrefix = "socket:[";
    const std::string_view text(target.data(), length > 0 ? static_cast<size_t>(length) : 0);
    if (text.substr(0, kPrefix.size()) != kPrefix) continue;
    uint64_t inode = 0;
    std::from_chars(text.data() + kPrefix.size(), text.data() + text.size(), inode);
    if (wanted.count(inode) != 0) owners.emplace(inode, pid);
  }
}

std::string commandOf(int pid) {
  if (pid == 0) return {};
  auto text = readFile(fmt::format("/proc/{}/comm", pid), 256);
  if (!text) return {};
  while (!text->empty() && text->back() == '\n') text->pop_back();
  return *text;
}

bool isAsked(const protocol::ConnectionsRequest& request, const Running& one) {
  return (request.service.empty() || request.service == one.ref.service) &&
         (!request.index || *request.index == one.ref.index) &&
         (request.generation == 0 || request.generation == one.generation);
}

struct NamedPort {
  std::string name;
  bool shared = false;
};

std::map<int, NamedPort> portsOf(const Running& one) {
  std::map<int, NamedPort> ports;
  for (const auto& [name, number] : one.ports) {
    const bool shared =
        std::find(one.sockets.begin(), one.sockets.end(), name) != one.sockets.end();
    ports[number] = {name, shared};
  }
  return ports;
}

TcpConnection describe(const TcpSocket& socket, int pid) {
  TcpConnection connection;
  connection.local = socket.local();
  connection.peer = socket.peer();
  connection.state = stateText(socket.state);
  connection.pid = pid;
  connection.command = commandOf(pid);
  return connection;
}

void name(TcpConnection& connection, const Running& one) {
  connection.service = one.ref.service;
  connection.index = one.ref.index;
  connection.generation = one.generation;
}

void addConnectionsTo(const Running& one, const std::vector<TcpSocket>& sockets,
                      std::vector<TcpConnection>& found) {
  const std::map<int, NamedPort> ports = portsOf(one);
  std::vector<const TcpSocket*> on_ports;
  std::set<uint64_t> inodes;
  for (const TcpSocket& socket : sockets)
    if (ports.count(socket.local_port) != 0) {
      on_ports.push_back(&socket);
      if (socket.inode != 0) inodes.insert(socket.inode);
    }
  Owners owners;
  if (const auto leader = inodes.empty() ? std::nullopt : readProcStat(one.pid))
    for (const int pid : sessionMembers(one.pid, leader->start_ticks))
      addSockets(pid, inodes, owners);
  for (const TcpSocket* socket : on_ports) {
    const NamedPort& port = ports.at(socket->local_port);
    const auto owner = owners.find(socket->inode);
    if (port.shared && owner == owners.end()) continue;
    found.push_back(describe(*socket, owner == owners.end() ? 0 : owner->second));
    found.back().port = port.name;
    name(found.back(), one);
  }
}

Owners ownersAmongAll(const std::set<uint64_t>& inodes) {
  Owners owners;
  const auto names = inodes.empty() ? Result<std::vector<std::string>>() : listDir("/proc");
  if (!names) return owners;
  for (const std::string& entry : *names) {
    int pid = 0;
    std::from_chars(entry.data(), entry.data() + entry.size(), pid);
    if (pid > 0) addSockets(pid, inodes, owners);
    if (owners.size() == inodes.size()) break;
  }
  return owners;
}

const Running* serviceOf(int pid, const std::vector<Running>& running) {
  const auto stat = pid > 0 ? readProcStat(pid) : std::nullopt;
  if (!stat) return nullptr;
  const auto found = std::find_if(running.begin(), running.end(), [&](const Running& one) {
    return one.pid == pid || one.pid == stat->session;
  });
  return found == running.end() ? nullptr : &*found;
}

}  // namespace

std::string TcpSocket::local() const { return endText(local_address, local_port); }
std::string TcpSocket::peer() const { return endText(peer_address, peer_port); }

std::vector<TcpSocket> parseTcpTable(std::string_view text) {
  std::vector<TcpSocket> sockets;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    if (auto socket = parseLine(text.substr(0, end))) sockets.push_back(std::move(*socket));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return sockets;
}

std::vector<TcpConnection> connectionsToServices(const protocol::ConnectionsRequest& request,
                                                 const std::vector<Running>& running) {
  std::vector<TcpSocket> sockets = tcpSockets();
  std::erase_if(sockets, [](const TcpSocket& socket) { return !isAlive(socket); });
  std::vector<TcpConnection> found;
  for (const Running& one : running)
    if (isAsked(request, one)) addConnectionsTo(one, sockets, found);
  return found;
}

std::vector<TcpConnection> connectionsFromHere(const std::vector<std::string>& to,
                                               const std::vector<Running>& running) {
  const std::set<std::string> wanted(to.begin(), to.end());
  std::vector<TcpSocket> sockets = tcpSockets();
  std::erase_if(sockets, [&](const TcpSocket& socket) {
    return !isAlive(socket) || socket.inode == 0 || wanted.count(socket.peer()) == 0;
  });
  std::set<uint64_t> inodes;
  for (const TcpSocket& socket : sockets) inodes.insert(socket.inode);
  const Owners owners = ownersAmongAll(inodes);
  std::vector<TcpConnection> found;
  for (const TcpSocket& socket : sockets) {
    const auto owner = owners.find(socket.inode);
    const int pid = owner == owners.end() ? 0 : owner->second;
    found.push_back(describe(socket, pid));
    if (const Running* one = serviceOf(pid, running)) name(found.back(), *one);
  }
  return found;
}

}  // namespace cctl::shim
