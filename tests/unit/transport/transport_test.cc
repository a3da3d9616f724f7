// The smaller parts: base64, wire types, keys, ssh_config, fan-out.
#include <doctest/doctest.h>
#include <stdlib.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/base64.h"
#include "base/file.h"
#include "base/ssh_wire.h"
#include "transport/fan_out.h"
#include "transport/keys.h"
#include "transport/ssh_config.h"

using namespace cctl;
using namespace cctl::ssh;

TEST_CASE("base64: RFC 4648 vectors") {
  const std::pair<const char*, const char*> vectors[] = {{"", ""},
                                                         {"f", "Zg=="},
                                                         {"fo", "Zm8="},
                                                         {"foo", "Zm9v"},
                                                         {"foob", "Zm9vYg=="},
                                                         {"fooba", "Zm9vYmE="},
                                                         {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, encoded] : vectors) {
    CHECK(base64Encode(plain) == encoded);
    CHECK(base64Decode(encoded) == plain);
  }
  CHECK(base64Encode("f", false) == "Zg");
  CHECK(!base64Decode("Zg=x"));
  CHECK(!base64Decode("Zm9v Zg=="));
  CHECK(!base64Decode("Z"));
}

TEST_CASE("wire: nothing is read past the end") {
  std::string bytes;
  putString(bytes, "hello");
  putNumber(bytes, 7);
  WireReader reader(bytes);
  CHECK(reader.string() == "hello");
  CHECK(reader.number() == 7);
  CHECK(!reader.failed());
  CHECK(reader.number() == 0);
  CHECK(reader.failed());
  WireReader lying(std::string_view("\xff\xff\xff\xffx", 5));
  CHECK(lying.string().empty());
  CHECK(lying.failed());
}

TEST_CASE("keys: hostile private key files are no keys") {
  for (const std::string text :
       {"", "-----BEGIN OPENSSH PRIVATE KEY-----",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n-----"}) {
    CHECK(publicBlobOf(text).empty());
  }
}

namespace {

class Home {
 public:
  Home() {
    REQUIRE(::mkdtemp(path_.data()) != nullptr);
    REQUIRE(makeDirs(path_ + "/.ssh", 0700));
  }
  ~Home() { CHECK(removeTree(path_)); }
  const std::string& path() const { return path_; }
  void config(const std::string& text) const {
    REQUIRE(replaceFile(path_ + "/.ssh/config", text, 0600, Sync::kNo));
  }
  ResolvedHost resolve(const std::string& address, SshTarget target = {}) const {
    SshConfig config(path_);
    target.name = target.address = address;
    const auto host = config.resolve(target, Deadline::in(Millis(10'000)), nullptr);
    if (!host) FAIL(host.error().message);
    return *host;
  }

 private:
  std::string path_ = "/tmp/ssh-home-XXXXXX";
};

}  // namespace

TEST_CASE("ssh_config: what stands for a host without any") {
  const Home home;
  const auto host = home.resolve("Host1");
  CHECK(host.host_name == "Host1");
  CHECK(host.port == 22);
  CHECK(!host.user.empty());
  CHECK(host.user_known_hosts.at(0) == home.path() + "/.ssh/known_hosts");
  CHECK(host.identity_files.at(0) == home.path() + "/.ssh/id_ed25519");
  CHECK(!host.identities_explicit);
  CHECK(host.strict == StrictChecking::kRefuseNew);
}

TEST_CASE("ssh_config: the inventory wins over it") {
  const Home home;
  home.config("Host *\n  User a\n  Port 1\n  IdentityFile ~/x\n  ProxyJump j\n");
  SshTarget target;
  CHECK(home.resolve("h", target).user == "a");
  CHECK(home.resolve("h", target).proxy_jump == "j");
  CHECK(home.resolve("h", target).identity_files == std::vector{home.path() + "/x"});
  CHECK(home.resolve("h", target).identities_explicit);
  target.user = "b";
  target.port = 2;
  target.identity_file = "~/y";
  target.proxy_jump = "none";
  const auto host = home.resolve("h", target);
  CHECK(host.user == "b");
  CHECK(host.port == 2);
  CHECK(host.identity_files == std::vector{home.path() + "/y"});
  CHECK(host.proxy_jump.empty());
}

TEST_CASE("ssh_config: hosts of one block do not get each other's names") {
  const Home home;
  home.config("Host a b\n  HostName a\nHost c d\n  User x\nHost *.e\n  HostName %h.example.com\n");
  SshConfig config(home.path());
  const auto name = [&](const std::string& address) {
    SshTarget target;
    target.name = target.address = address;
    return config.resolve(target, Deadline::in(Millis(10'000)), nullptr)->host_name;
  };
  CHECK(name("a") == "a");
  CHECK(name("b") == "a");
  CHECK(name("c") == "c");
  CHECK(name("d") == "d");
  CHECK(name("1.e") == "1.e.example.com");
  CHECK(name("2.e") == "2.e.example.com");
}

TEST_CASE("ssh_config: include files and host key settings") {
  const Home home;
  REQUIRE(replaceFile(home.path() + "/.ssh/more",
                      "Host h\n  HostKeyAlias k\n  Ciphers aes256-ctr\n", 0600, Sync::kNo));
  home.config("Include " + home.path() +
              "/.ssh/more\nHost *\n  HashKnownHosts yes\n"
              "  StrictHostKeyChecking accept-new\n");
  const auto host = home.resolve("h");
  CHECK(host.host_key_alias == "k");
  CHECK(host.ciphers == "aes256-ctr");
  CHECK(!host.kex);
  CHECK(host.hash_known_hosts);
  CHECK(host.strict == StrictChecking::kAcceptNew);
}

TEST_CASE("ssh_config: addresses that ssh or a shell would read as something else") {
  const Home home;
  SshConfig config(home.path());
  for (const std::string address : {"", "-oProxyCommand=x", "a b", "a;b", "$(id)", "a\nb", "`x`"}) {
    SshTarget target;
    target.name = "h";
    target.address = address;
    const auto host = config.resolve(target, Deadline::in(Millis(1000)), nullptr);
    CAPTURE(address);
    REQUIRE(!host);
    CHECK(host.error().code == Code::kBadInput);
  }
}

TEST_CASE("fan-out: results come in order, and no more than `forks` run at once") {
  FanOutOptions options;
  options.forks = 3;
  std::atomic<int> running{0}, most{0};
  const auto results = forEachHost<size_t>(50, options, [&](size_t i) -> Result<size_t> {
    const int now = ++running;
    int before = most.load();
    while (now > before && !most.compare_exchange_weak(before, now)) {
    }
    std::this_thread::yield();
    --running;
    if (i == 7) return fail(Code::kUnreachable, "down");
    return i * i;
  });
  REQUIRE(results.size() == 50);
  for (size_t i = 0; i < 50; ++i) {
    if (i == 7) continue;
    CHECK(results[i] == i * i);
  }
  CHECK(results[7].error().code == Code::kUnreachable);
  CHECK(most.load() <= 3);
  CHECK(forEachHost<int>(0, options, [](size_t) -> Result<int> { return 1; }).empty());
}

TEST_CASE("fan-out: a late one is named while it still hangs") {
  FanOutOptions options;
  options.late_after = Millis(20);
  std::mutex mutex;
  std::condition_variable named;
  std::vector<size_t> late;
  options.on_late = [&](size_t index, Millis elapsed) {
    CHECK(elapsed >= Millis(20));
    const std::lock_guard lock(mutex);
    late.push_back(index);
    named.notify_all();
  };
  fanOut(5, options, [&](size_t i) {
    if (i != 2) return;
    std::unique_lock lock(mutex);  // ends only because it was named
    CHECK(named.wait_for(lock, std::chrono::seconds(10), [&] { return !late.empty(); }));
  });
  CHECK(late == std::vector<size_t>{2});
}

TEST_CASE("fan-out: nothing is begun after a cancel") {
  CancelToken cancel;
  FanOutOptions options;
  options.forks = 1;
  options.cancel = &cancel;
  const auto results = forEachHost<int>(10, options, [&](size_t i) -> Result<int> {
    if (i == 3) cancel.cancel();
    return 1;
  });
  for (size_t i = 0; i < 10; ++i) {
    CHECK(results[i].has_value() == (i <= 3));
    if (i > 3) CHECK(results[i].error().code == Code::kCancelled);
  }
}
