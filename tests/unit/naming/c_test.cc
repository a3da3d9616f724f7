#include <thread>

#include "unit/naming/fake_shim.h"
#include "unit/naming/from_c.h"

TEST_CASE("naming: from C") {
  const fixture::Root root;
  fixture::FakeShim shim(root.socket());
  seen_from_c seen{};
  std::thread peer([&] {
    shim.accept();
    shim.readLine();
    shim.send(fixture::object("web", 5, fixture::endpoint("web/0", 8080)));
    shim.readLine();  // until it hangs up
  });
  CHECK(follow_from_c(root.socket().c_str(), "web", 20'000, &seen) == -1);
  peer.join();
  CHECK(seen.calls == 1);
  CHECK(seen.known == 1);
  CHECK(seen.revision == 5);
  CHECK(seen.endpoints == 1);
  CHECK(seen.port == 8080);
  CHECK(seen.ready == 1);
}
