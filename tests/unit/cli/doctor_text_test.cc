#include "cli/doctor_text.h"

#include <doctest/doctest.h>

using namespace cctl;
using namespace cctl::cli;
using ops::Finding;
using ops::Level;
using ops::Trouble;

namespace {

FindingText textOf(Trouble trouble, const std::string& detail, std::vector<std::string> names = {},
                   uint64_t amount = 0, uint64_t limit = 0) {
  Inventory inventory;
  inventory.root = "/opt/c";
  return findingText(inventory, Finding{HostName("host2"), trouble, Level::kBad, detail,
                                        std::move(names), amount, limit});
}

}  // namespace

TEST_CASE("every trouble has a check, a problem on one line, and a mend") {
  for (int i = 0; i <= static_cast<int>(Trouble::kDamaged); ++i) {
    const FindingText text = textOf(static_cast<Trouble>(i), "detail", {"a", "b"}, 5, 100);
    CHECK_FALSE(text.check.empty());
    CHECK_FALSE(text.problem.empty());
    CHECK_FALSE(text.mend.empty());
    CHECK(text.problem.find('\n') == std::string::npos);
    CHECK(text.mend.find('\n') == std::string::npos);
  }
}

TEST_CASE("the words of a full disk") {
  const FindingText text =
      textOf(Trouble::kDiskFull, "", {}, uint64_t{4} << 30, uint64_t{100} << 30);
  CHECK(text.check == "disk");
  CHECK(text.problem == "4% free of 100.0 GiB (4.0 GiB) on the file system of /opt/c");
}

TEST_CASE("an error of the connection ends with its own way out") {
  FindingText text = textOf(Trouble::kUnreachable,
                            "host2: host2: THE HOST KEY OF x HAS CHANGED: another machine may be "
                            "answering in its place.\n  known: a\n  shown: b\n  If the host was "
                            "reinstalled: ssh-keygen -R 'x'");
  CHECK(text.problem.find("THE HOST KEY OF x HAS CHANGED") == 0);
  CHECK(text.mend == "If the host was reinstalled: ssh-keygen -R 'x'");
  text =
      textOf(Trouble::kUnreachable, "host2: looking up x: no such name; give the host's address");
  CHECK(text.problem == "looking up x: no such name");
  CHECK(text.mend == "give the host's address");
  text = textOf(Trouble::kUnreachable, "host2: 10.0.0.2 port 22: no answer");
  CHECK(text.problem == "10.0.0.2 port 22: no answer");
  CHECK(text.mend.find("clusterctl -v ping -l host2") != std::string::npos);
}

TEST_CASE("what a shim says of its files ends with the way out, or goes without") {
  FindingText text = textOf(Trouble::kDamaged, "/r/a: torn; nothing is to be done");
  CHECK(text.problem == "/r/a: torn");
  CHECK(text.mend == "nothing is to be done");
  text = textOf(Trouble::kDamaged, "/r/a: torn");
  CHECK(text.problem == "/r/a: torn");
  CHECK(text.mend == "see `clusterctl events -l host2`");
  text = textOf(Trouble::kNoRegistry, "/r/b is gone; admit it anew");
  CHECK(text.problem == "it keeps the registry: /r/b is gone");
  CHECK(text.mend == "admit it anew");
}

TEST_CASE("reserved ports are added to those that are reserved already") {
  CHECK(textOf(Trouble::kPortsOverlap, "8080", {}, 29000, 60999)
            .mend.find("ip_local_reserved_ports=8080,21000-29999") != std::string::npos);
  CHECK(textOf(Trouble::kPortsOverlap, "", {}, 29000, 60999)
            .mend.find("ip_local_reserved_ports=21000-29999") != std::string::npos);
}

TEST_CASE("cores that are piped: where they go by name") {
  CHECK(textOf(Trouble::kCoresPiped, "|/lib/systemd/systemd-coredump %P")
            .mend.find("coredumpctl dump PID") != std::string::npos);
  CHECK(textOf(Trouble::kCoresPiped, "|/usr/share/apport/apport %p").problem.find("apport") !=
        std::string::npos);
}
