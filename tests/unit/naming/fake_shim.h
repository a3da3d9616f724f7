// The naming socket's other end, for tests: speaks when told to.
#pragma once

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

namespace fixture {

// A ROOT with run/ and registry/services/, removed at the end.
class Root {
 public:
  Root() {
    char name[] = "/tmp/cctl-naming-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    path_ = name;
    std::filesystem::create_directories(path_ + "/run");
    std::filesystem::create_directories(path_ + "/registry/services");
  }
  ~Root() { std::filesystem::remove_all(path_); }
  std::string socket() const { return path_ + "/run/naming.sock"; }
  // Replaced by another file, as the shim does it.
  void put(const std::string& name, const std::string& text) const {
    const std::string path = path_ + "/registry/" + name;
    std::ofstream(path + ".new") << text;
    std::filesystem::rename(path + ".new", path);
  }

 private:
  std::string path_;
};

inline std::string object(const std::string& name, int revision, const std::string& endpoints = "",
                          const std::string& more = "") {
  return "{\"format\":1,\"service\":\"" + name + "\",\"revision\":" + std::to_string(revision) +
         ",\"endpoints\":[" + endpoints + "]" + more + "}\n";
}

inline std::string endpoint(const std::string& instance, int port, const char* state = "ready") {
  return "{\"instance\":\"" + instance + "\",\"host\":\"h1\",\"address\":\"10.0.0.1\",\"ports\":{" +
         "\"main\":" + std::to_string(port) + "},\"version\":\"1\",\"state\":\"" + state + "\"}";
}

class FakeShim {
 public:
  explicit FakeShim(const std::string& path) : path_(path) {
    listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    ::unlink(path.c_str());
    REQUIRE(::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(listener_, 8) == 0);
  }
  ~FakeShim() {
    hangUp();
    ::close(listener_);
    ::unlink(path_.c_str());
  }
  void accept() {
    hangUp();
    client_ = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    REQUIRE(client_ >= 0);
  }
  std::string readLine() const {
    std::string line;
    char c = 0;
    while (::recv(client_, &c, 1, 0) == 1 && c != '\n') line.push_back(c);
    return line;
  }
  void send(const std::string& text) const {
    for (std::size_t at = 0; at < text.size();) {
      const ssize_t put = ::send(client_, text.data() + at, text.size() - at, MSG_NOSIGNAL);
      if (put <= 0) return;  // the other side had enough
      at += static_cast<std::size_t>(put);
    }
  }
  void hangUp() {
    if (client_ >= 0) ::close(client_);
    client_ = -1;
  }

 private:
  std::string path_;
  int listener_ = -1;
  int client_ = -1;
};

}  // namespace fixture
