#include "clusterctl/naming.h"

#include <poll.h>

#include <atomic>
#include <random>
#include <thread>

#include "unit/naming/fake_shim.h"

using namespace std::chrono_literals;
using clusterctl::Naming;
using clusterctl::NamingOptions;
using clusterctl::NamingThread;
using clusterctl::Service;
using clusterctl::Source;
using fixture::endpoint;
using fixture::FakeShim;
using fixture::object;
using fixture::Root;

namespace {

constexpr auto kPatience = 20s;

NamingOptions optionsFor(const Root& root) {
  NamingOptions options;
  options.socket = root.socket();
  options.retry_first = 1ms;
  options.retry_most = 5ms;
  return options;
}

template <typename Condition>
void waitUntil(Naming& naming, Condition condition) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (!condition()) {
    REQUIRE(std::chrono::steady_clock::now() < end);
    naming.wait(100ms);
  }
}

bool readable(const Naming& naming) {
  pollfd fd{naming.fd(), POLLIN, 0};
  return ::poll(&fd, 1, 0) == 1;
}

}  // namespace

TEST_CASE("naming: the list at first and at each change, whole and with its revision") {
  const Root root;
  FakeShim shim(root.socket());
  Naming naming(optionsFor(root));
  std::vector<Service> seen;
  REQUIRE(naming.watch("web", [&](const Service& service) { seen.push_back(service); }));
  shim.accept();
  CHECK(shim.readLine() == R"({"watch":"web"})");
  CHECK(naming.isConnected());
  CHECK_FALSE(readable(naming));
  shim.send(object("web", 3, endpoint("web/0", 80)));
  waitUntil(naming, [&] { return seen.size() == 1; });
  CHECK(seen[0].revision == 3);
  CHECK(seen[0].endpoints.at(0).port("main") == 80);
  CHECK(seen[0].source == Source::kSocket);
  // In pieces, two at once, an older one, the same again, and one of another service.
  const std::string next = object("web", 4, endpoint("web/0", 81));
  shim.send(next.substr(0, 10));
  naming.wait(1s);
  shim.send(next.substr(10) + object("web", 2) + next + object("other", 9) + object("web", 5));
  waitUntil(naming, [&] { return naming.find("web")->revision == 5; });
  CHECK(seen.back().revision == 5);
  CHECK(seen.back().endpoints.empty());
  CHECK(seen.back().known);
  for (std::size_t i = 1; i < seen.size(); ++i) CHECK(seen[i].revision > seen[i - 1].revision);
  CHECK_FALSE(readable(naming));
}

TEST_CASE("naming: the shim's own mark on an endpoint comes at the same revision") {
  const Root root;
  FakeShim shim(root.socket());
  Naming naming(optionsFor(root));
  int changes = 0;
  naming.watch("web", [&](const Service&) { ++changes; });
  shim.accept();
  shim.send(object("web", 3, endpoint("web/0", 80)));
  waitUntil(naming, [&] { return changes == 1; });
  shim.send(object("web", 3, endpoint("web/0", 80, "unhealthy")));
  waitUntil(naming, [&] { return changes == 2; });
  CHECK(naming.find("web")->ready().empty());
  shim.send(object("web", 3, endpoint("web/0", 80)));
  waitUntil(naming, [&] { return changes == 3; });
  CHECK(naming.find("web")->ready().size() == 1);
}

TEST_CASE("naming: a shim that goes away leaves the last list; a new one is asked again") {
  const Root root;
  auto shim = std::make_unique<FakeShim>(root.socket());
  Naming naming(optionsFor(root));
  int changes = 0;
  naming.watch("web", [&](const Service&) { ++changes; });
  naming.watch("api");
  shim->accept();
  shim->send(object("web", 7, endpoint("web/0", 80)));
  waitUntil(naming, [&] { return changes == 1; });
  shim.reset();
  waitUntil(naming, [&] { return !naming.isConnected(); });
  CHECK(naming.error().find("naming.sock") != std::string::npos);
  CHECK(naming.find("web")->endpoints.size() == 1);
  CHECK(naming.find("api") == nullptr);
  shim = std::make_unique<FakeShim>(root.socket());
  waitUntil(naming, [&] { return naming.isConnected(); });
  CHECK(naming.error() == "");
  shim->accept();
  CHECK(shim->readLine() == R"({"watch":"api"})");
  CHECK(shim->readLine() == R"({"watch":"web"})");
  // One that lost its disk knows less than we do.
  shim->send(object("web", 0, "", ",\"known\":false") + object("web", 6) +
             object("api", 0, "", ",\"known\":false"));
  waitUntil(naming, [&] { return naming.find("api") != nullptr; });
  CHECK_FALSE(naming.find("api")->known);
  CHECK(naming.find("web")->revision == 7);
  CHECK(changes == 1);
  shim->send(object("web", 8));
  waitUntil(naming, [&] { return changes == 2; });
}

TEST_CASE("naming: files, where there is no socket") {
  const Root root;
  Naming naming(optionsFor(root));
  int changes = 0;
  naming.watch("web", [&](const Service&) { ++changes; });
  CHECK(naming.find("web") == nullptr);  // nothing there: nothing known, not even that
  CHECK(naming.waitFor("web", 30ms) == nullptr);
  root.put(
      "registry.json",
      R"({"format":1,"cluster":"c","generation":1,"services":{"api":{"revision":2,"endpoints":[]}}})");
  REQUIRE(naming.waitFor("web", kPatience) != nullptr);
  CHECK_FALSE(naming.find("web")->known);
  root.put("services/web.json", object("web", 4, endpoint("web/0", 80)));
  waitUntil(naming, [&] { return naming.find("web")->known; });
  CHECK(naming.find("web")->source == Source::kFile);
  CHECK_FALSE(naming.find("web")->confirmed);
  CHECK(changes == 2);
  // A torn file of one service: the whole registry has it too.
  root.put(
      "registry.json",
      R"({"format":1,"cluster":"c","generation":2,"services":{"web":{"revision":5,"endpoints":[]}}})");
  root.put("services/web.json", "{\"format\":1,\"serv");
  waitUntil(naming, [&] { return naming.find("web")->revision == 5; });
  // The socket has the last word.
  FakeShim shim(root.socket());
  waitUntil(naming, [&] { return naming.isConnected(); });
  shim.accept();
  shim.send(object("web", 6, endpoint("web/0", 81)));
  waitUntil(naming, [&] { return naming.find("web")->revision == 6; });
  CHECK(naming.find("web")->source == Source::kSocket);
}

TEST_CASE("naming: without a socket's name there is an error, and no list") {
  ::unsetenv("CLUSTERCTL_NAMING");
  Naming naming;
  CHECK(naming.watch("web"));
  CHECK(naming.error() == "CLUSTERCTL_NAMING is not set");
  CHECK(naming.find("web") == nullptr);
  CHECK(naming.fd() >= 0);
}

TEST_CASE("naming: names that are none, and too many") {
  const Root root;
  Naming naming(optionsFor(root));
  for (const char* name : {"", "A", "../x", "-a", "a b", "a\"", "a\n"})
    CHECK_FALSE(naming.watch(name));
  CHECK_FALSE(naming.watch(std::string(64, 'a')));
  for (std::size_t i = 0; i < Naming::kMaxWatches; ++i)
    REQUIRE(naming.watch("s" + std::to_string(i)));
  CHECK_FALSE(naming.watch("one-more"));
  CHECK(naming.watch("s0"));  // that one is there already
  naming.unwatch("s1");
  CHECK(naming.watch("one-more"));
}

TEST_CASE("naming: callbacks may begin and end watches, their own too") {
  const Root root;
  FakeShim shim(root.socket());
  Naming naming(optionsFor(root));
  bool second = false;
  bool first = false;
  naming.watch("web", [&](const Service&) {
    first = true;
    naming.unwatch("web");
    naming.watch("api", [&](const Service&) { second = true; });
  });
  shim.accept();
  shim.send(object("web", 1) + object("api", 1));
  waitUntil(naming, [&] { return first; });
  CHECK(naming.find("web") == nullptr);
  CHECK(shim.readLine() == R"({"watch":"web"})");
  CHECK(shim.readLine() == R"({"watch":"api"})");
  shim.send(object("api", 2));
  waitUntil(naming, [&] { return second; });
}

TEST_CASE("naming: what a socket sends that is no naming socket ends the connection, not us") {
  const Root root;
  FakeShim shim(root.socket());
  Naming naming(optionsFor(root));
  naming.watch("web");
  const std::string good = object("web", 1, endpoint("web/0", 80));
  const std::string bad[] = {"HTTP/1.1 400\r\n\r\n",
                             "[]\n",
                             "{}\n",
                             "\n",
                             "\xff\xfe\n",
                             "{\"format\":9}\n",
                             std::string(3000, '[') + "\n",
                             "{\"error\":{\"code\":\"x\",\"message\":\"too many watches\"}}\n"};
  for (const std::string& text : bad) {
    shim.accept();
    shim.readLine();
    shim.send(text);
    waitUntil(naming, [&] { return !naming.isConnected(); });
    CHECK(naming.error() != "");
    waitUntil(naming, [&] { return naming.isConnected(); });
  }
  // A line without an end is given up after some megabytes.
  shim.accept();
  std::thread flood([&] { shim.send(std::string(16u << 20, 'x')); });
  waitUntil(naming, [&] { return !naming.isConnected(); });
  CHECK(naming.error().find("a line without an end") != std::string::npos);
  flood.join();
  waitUntil(naming, [&] { return naming.isConnected(); });
  shim.accept();
  shim.send(good);
  waitUntil(naming, [&] { return naming.find("web") != nullptr; });
}

TEST_CASE("naming: any bytes at all leave it whole") {
  const Root root;
  FakeShim shim(root.socket());
  Naming naming(optionsFor(root));
  naming.watch("web");
  std::minstd_rand random(7);
  const std::string good = object("web", 1, endpoint("web/0", 80));
  for (int round = 0; round < 100; ++round) {
    shim.accept();
    std::string text = good;
    for (unsigned i = 0; i < 1 + random() % 4; ++i)
      text[random() % text.size()] = static_cast<char>(random());
    shim.send(text.substr(0, random() % (text.size() + 1)));
    shim.hangUp();
    waitUntil(naming, [&] { return !naming.isConnected(); });
    waitUntil(naming, [&] { return naming.isConnected(); });
  }
  shim.accept();
  shim.send(object("web", 1000));
  waitUntil(naming, [&] { return naming.find("web") && naming.find("web")->revision >= 1000; });
}

TEST_CASE("naming: a thread of its own, asked from others") {
  const Root root;
  FakeShim shim(root.socket());
  NamingThread naming(optionsFor(root));
  std::atomic<int> changes{0};
  CHECK_FALSE(naming.watch("no name"));
  REQUIRE(naming.watch("web", [&](const Service&) { ++changes; }));
  CHECK(naming.find("web") == nullptr);
  shim.accept();
  shim.send(object("web", 1, endpoint("web/0", 80)));
  const auto first = naming.waitFor("web", kPatience);
  REQUIRE(first != nullptr);
  CHECK(first->revision == 1);
  std::vector<std::thread> readers;
  for (int i = 0; i < 4; ++i)
    readers.emplace_back([&] {
      std::uint64_t last = 0;
      while (last < 50) {
        const auto now = naming.find("web");
        CHECK(now->revision >= last);
        last = now->revision;
        std::this_thread::yield();
      }
    });
  for (int revision = 2; revision <= 50; ++revision) shim.send(object("web", revision));
  for (std::thread& reader : readers) reader.join();
  CHECK(first->revision == 1);
  CHECK(naming.isConnected());
  naming.unwatch("web");
  CHECK(naming.find("web") == nullptr);
}
