#include "model/secrets.h"

#include <doctest/doctest.h>

#include "model/render.h"
#include "unit/model/inventory_fixture.h"

using namespace cctl;
using namespace cctl::fixture;

namespace {

std::string clusterProblems(const std::string& more) {
  return textOf(load(kCluster + more).problems);
}

}  // namespace

TEST_CASE("secrets are found anywhere in a text, the longest first") {
  CHECK(hideSecrets("user:hunter22@db hunter2", {"hunter2", "hunter22"}) ==
        "user:(secret)@db (secret)");
  CHECK(hideSecrets("key = line one\nline two\n", {"line one\nline two"}) == "key = (secret)\n");
  CHECK(hideSecrets("nothing", {}) == "nothing");
}

TEST_CASE("a secret that changed is a difference, and neither value is shown") {
  const HiddenTexts texts = hideSecrets("a old-one same", {"old-one", "same"},  //
                                        "a new-one same", {"new-one", "same"});
  CHECK(texts.before == "a (old secret) (secret)");
  CHECK(texts.after == "a (new secret) (secret)");
}

TEST_CASE("of a file from before its secrets were named, only lines that stay are shown") {
  const HiddenTexts texts =
      hideSecrets("port = 1\npassword = old-one\n", {}, "port = 1\npassword = new-one\n",  //
                  {"new-one"});
  CHECK(texts.before == "port = 1\n(not shown: generated before its secrets were named as such)\n");
  CHECK(texts.after == "port = 1\npassword = (new secret)\n");
}

TEST_CASE("secrets of a rendering: of cluster, groups, hosts and service, and of the environment") {
  const Inventory inventory = mustLoad(
      "cluster: demo\n"
      "hosts: {host1: {address: 10.0.0.11, vars: {token: of-the-host}}}\n"
      "groups: {all-of-them: {hosts: host1, vars: {keys: [first-key, {inner: second-key}]}}}\n"
      "vars: {token: of-the-cluster, other: seen}\n"
      "secrets: [token, keys]\n",
      "service: solver\n"
      "place: {hosts: [host1]}\n"
      "run: [bin/solver]\n"
      "vars: {salt: \"grain\\n\"}\n"
      "env: {DSN: \"db:{{vars.other}}\", PLAIN: \"1\"}\n"
      "secrets: [salt, DSN]\n");
  const auto rendered =
      renderInstance(sampleInput(inventory, inventory.services.at(ServiceName("solver"))));
  REQUIRE(rendered);
  CHECK(rendered->secrets == std::vector<std::string>{"db:seen", "first-key", "grain",
                                                      "of-the-cluster", "of-the-host",
                                                      "second-key"});
}

TEST_CASE("secrets name what there is, once, and what can be told from other text") {
  CHECK(clusterProblems("vars: {db_password: hunter2}\nsecrets: [db_pasword]\n") ==
        "inv/cluster.yaml:7:11: secrets: there is no variable \"db_pasword\"; did you mean "
        "\"db_password\"?\n");
  CHECK(clusterProblems("vars: {pin: \"123\"}\nsecrets: [pin]\n") ==
        "inv/cluster.yaml:6:13: pin is named in secrets, and too short to be hidden; 4 characters "
        "or more can be told from other text\n");
  CHECK(clusterProblems("vars: {token: hunter2}\nsecrets: [token, token]\n") ==
        "inv/cluster.yaml:7:18: secrets: token is named twice; remove one of them\n");
  CHECK(manifestProblems(std::string(kManifest) + "env: {TOKEN: abc}\nsecrets: [TOKEN, salt]\n") ==
        "inv/services/s.yaml:5:14: TOKEN is named in secrets, and too short to be hidden; 4 "
        "characters or more can be told from other text\n"
        "inv/services/s.yaml:6:18: secrets: there is no variable or environment variable \"salt\"; "
        "add it to vars or env\n");
}
