#include "release/host_facts.h"

#include <doctest/doctest.h>
#include <sys/utsname.h>

#include "base/subprocess.h"
#include "release/needs.h"

using namespace cctl;
using namespace cctl::release;

namespace {

constexpr std::string_view kAnswer =
    "Welcome to host1\r\nmachine=motd\r\nclusterctl-facts 1\r\nmachine=aarch64\nkernel=6.1.0-13\n"
    "libc=glibc 2.36\nlibrary=libz.so.1\nexists=/bin/sh\nfuture=1\nclusterctl-facts end\nbye\n";

}  // namespace

TEST_CASE("host facts are read from between the markers, whatever the login shell says") {
  const auto host = parseProbedHost(kAnswer);
  REQUIRE(host.has_value());
  CHECK(host->facts.machine == "aarch64");
  CHECK(host->facts.glibc == "2.36");
  CHECK(host->facts.libraries == std::set<std::string>{"libz.so.1"});
  CHECK(host->facts.interpreters == std::set<std::string>{"/bin/sh"});
  CHECK(host->kernel == "6.1.0-13");
  CHECK(host->libc == "glibc");
}

TEST_CASE("another libc is not taken for glibc") {
  const auto host = parseProbedHost(
      "clusterctl-facts 1\nmachine=x86_64\nlibc=musl 1.2.4\nclusterctl-facts end\n");
  REQUIRE(host.has_value());
  CHECK_FALSE(host->facts.glibc.has_value());
  CHECK(host->libc == "musl");
  CHECK(host->libc_version == "1.2.4");
  const auto unknown =
      parseProbedHost("clusterctl-facts 1\nmachine=x86_64\nlibc=unknown\nclusterctl-facts end\n");
  REQUIRE(unknown.has_value());
  CHECK(unknown->libc_version.empty());
}

TEST_CASE("answers cut short anywhere, or of something else, are errors") {
  const size_t end =
      kAnswer.find("clusterctl-facts end") + std::string_view("clusterctl-facts end").size();
  for (size_t length = 0; length < end; ++length) {
    const auto host = parseHostFacts(kAnswer.substr(0, length));
    REQUIRE_FALSE(host.has_value());
    CHECK(host.error().code == Code::kCorrupt);
  }
  CHECK_FALSE(parseHostFacts("sh: command not found\x1b[31m"));
  CHECK_FALSE(parseHostFacts("clusterctl-facts 1\nclusterctl-facts end\n"));
  CHECK_FALSE(parseHostFacts("clusterctl-facts 2\nmachine=x86_64\nclusterctl-facts end\n"));
}

TEST_CASE("names that a shell could misread are not asked for") {
  CHECK(safeFactNames({"libz.so.1", "libstdc++.so.6", "/lib64/ld-linux-x86-64.so.2"}).size() == 3);
  CHECK(safeFactNames({"", "-x", "a b", "$(id)", "`id`", "a;b", "a'b", "~root", "é", "a\nb"})
            .empty());
}

TEST_CASE("the script tells the truth about this machine") {
  for (const char* shell : {"/bin/sh", "/bin/bash"}) {
    SubprocessRequest request;
    request.argv = {shell, "-s", "--", "libc.so.6", "libnothing.so.9", "/bin/sh", "/nothing"};
    request.input = hostFactsScript();
    const auto run = runSubprocess(request, Deadline::in(Millis(60'000)));
    if (!run) continue;  // no such shell here
    CAPTURE(run->out);
    CHECK(run->exit_status == 0);
    CHECK(run->err.empty());
    const auto host = parseProbedHost(run->out);
    REQUIRE(host.has_value());
    struct utsname name {};
    REQUIRE(::uname(&name) == 0);
    CHECK(host->facts.machine == name.machine);
    CHECK(host->kernel == name.release);
    CHECK(host->facts.libraries == std::set<std::string>{"libc.so.6"});
    CHECK(host->facts.interpreters == std::set<std::string>{"/bin/sh"});
    CHECK(host->facts.glibc.has_value());
  }
}

TEST_CASE("libraries of another kind of machine are not taken for ours") {
  SubprocessRequest request;
  request.argv = {"/bin/sh",        "-c",       hostFactsScript(), "sh", "machine:s390x",
                  "libstdc++.so.6", "libc.so.6"};
  const auto run = runSubprocess(request, Deadline::in(Millis(60'000)));
  REQUIRE(run.has_value());
  const auto facts = parseHostFacts(run->out);
  REQUIRE(facts.has_value());
  if (facts->machine == "x86_64") CHECK(facts->libraries->empty());
}
