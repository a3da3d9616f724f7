#include "ops/difference.h"

#include <doctest/doctest.h>

using namespace cctl;
using protocol::GenerationSpec;
using Reasons = std::vector<std::string>;

namespace {

GenerationSpec specOf(std::string version) {
  GenerationSpec spec;
  spec.service = "s";
  spec.version = std::move(version);
  spec.release_digest = "d" + spec.version;
  spec.argv = {"bin/s"};
  spec.env = {{"A", "1"}, {"CLUSTERCTL_VERSION", spec.version}};
  spec.ports = {{"main", 21000}};
  spec.config = {{"app.conf", "0644", "threads = 4\n"}};
  return spec;
}

}  // namespace

TEST_CASE("the number of a generation and the digest of its spec are no difference") {
  GenerationSpec before = specOf("1"), after = specOf("1");
  after.generation = 7;
  after.spec_digest = "other";
  CHECK(ops::differenceOf(before, after).empty());
}

TEST_CASE("each reason is named, with the files before and after") {
  const GenerationSpec before = specOf("1");
  GenerationSpec after = specOf("2");
  after.config = {{"app.conf", "0644", "threads = 8\n"}, {"extra.conf", "0600", "x\n"}};
  after.env["A"] = "2";
  after.env["B"] = "";
  after.ports = {{"main", 21000}, {"admin", 0}};
  after.argv.push_back("-v");
  after.limit_cpu = 500;
  const Difference found = ops::differenceOf(before, after);
  CHECK(found.reasons == Reasons{"version 1 → 2", "config app.conf", "config extra.conf is new",
                                 "environment A", "environment B", "port admin is new", "arguments",
                                 "limits"});
  CHECK(found.files == std::vector<FileDifference>{{"app.conf", "threads = 4\n", "threads = 8\n"},
                                                   {"extra.conf", "", "x\n", true}});
}

TEST_CASE("a mode alone is a reason without a file to show") {
  const GenerationSpec before = specOf("1");
  GenerationSpec after = specOf("1");
  after.config[0].mode = "0600";
  const Difference found = ops::differenceOf(before, after);
  CHECK(found.reasons == Reasons{"config app.conf mode 0644 → 0600"});
  CHECK(found.files.empty());
}

TEST_CASE("secrets are hidden in files, and what is secret is no difference by itself") {
  GenerationSpec before = specOf("1"), after = specOf("1");
  after.secrets = {"hunter2"};
  CHECK(ops::differenceOf(before, after).empty());
  before.secrets = {"swordfish"};
  before.config[0].content = "password = swordfish\n";
  after.config[0].content = "password = hunter2\n";
  const Difference found = ops::differenceOf(before, after);
  CHECK(found.reasons == Reasons{"config app.conf"});
  CHECK(found.files == std::vector<FileDifference>{
                           {"app.conf", "password = (old secret)\n", "password = (new secret)\n"}});
  const std::string diff = ops::diffOf(before, after);
  CHECK(diff.find("+password = (new secret)\n") != std::string::npos);
  CHECK(diff.find("swordfish") == std::string::npos);
}

TEST_CASE("what is new is shown whole, with its secrets hidden as such") {
  GenerationSpec fresh = specOf("1");
  fresh.secrets = {"hunter2"};
  fresh.config[0].content = "password = hunter2\n";
  CHECK(ops::newFilesOf(fresh) ==
        std::vector<FileDifference>{{"app.conf", "", "password = (secret)\n", true}});
}

TEST_CASE("a generation is shown without its secrets") {
  GenerationSpec spec = specOf("1");
  spec.secrets = {"hunter2"};
  spec.argv = {"bin/s", "--password=hunter2"};
  spec.env["DSN"] = "db:hunter2@host";
  spec.config[0].content = "password = hunter2\n";
  const GenerationSpec shown = ops::withoutSecrets(spec);
  CHECK(shown.argv[1] == "--password=(secret)");
  CHECK(shown.env.at("DSN") == "db:(secret)@host");
  CHECK(shown.config[0].content == "password = (secret)\n");
  CHECK(shown.secrets.empty());
}
