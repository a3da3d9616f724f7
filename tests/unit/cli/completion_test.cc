#include "cli/completion.h"

#include <doctest/doctest.h>

#include "model/load.h"

using namespace cctl;
using namespace cctl::cli;

namespace {

using Words = std::vector<std::string>;

Inventory inventory() {
  MemoryFiles files(
      {{"inv/cluster.yaml",
        "cluster: demo\nhosts: {web1: {}, web2: {}, db1: {}}\ngroups: {webs: \"web[1-2]\"}\n"},
       {"inv/services/shop.yaml",
        "service: shop\nplace: {group: webs, count: 2}\nrun: [bin/shop]\nports: {main: auto}\n"},
       {"inv/services/shelf.yaml",
        "service: shelf\nplace: {group: webs, count: 1}\nrun: [bin/shelf]\nports: {main: "
        "auto}\n"}});
  LoadedInventory loaded = loadInventory(files, "inv");
  REQUIRE(loaded.ok());
  return std::move(*loaded.inventory);
}

Completion completed(const Words& words) {
  static const Inventory kInventory = inventory();
  static const CommandShape kShape = shapeOf(commandTable());
  const CompletionNames names{&kInventory, [](const std::string& service) {
                                return service == "shop" ? Words{"1.0.0", "1.1.0"} : Words{};
                              }};
  return complete(kShape, words, names);
}

Words wordsOf(const Words& words) {
  Words found;
  for (const Candidate& candidate : completed(words).candidates) found.push_back(candidate.word);
  return found;
}

}  // namespace

TEST_CASE("commands and their children are those of the command line") {
  CHECK(wordsOf({"depl"}) == Words{"deploy"});
  CHECK(wordsOf({"release", "s"}) == Words{"show", "sign"});
  CHECK(wordsOf({"-o", "json", "unb"}) == Words{"unbootstrap"});
  CHECK(wordsOf({""}).size() == commandTable().size());
  CHECK(wordsOf({"nonsense", "x"}).empty());
  CHECK_FALSE(completed({"depl"}).candidates[0].help.empty());
}

TEST_CASE("options are a command's own and the global ones") {
  CHECK(wordsOf({"deploy", "--ski"}) == Words{"--skip-unreachable"});
  CHECK(wordsOf({"deploy", "--lock"}) == Words{"--lock-wait"});
  CHECK(wordsOf({"--output", ""}) == Words{"text", "json", "jsonl"});
  CHECK(wordsOf({"--output=js"}) == Words{"--output=json", "--output=jsonl"});
  CHECK(wordsOf({"--output", "=", "js"}) == Words{"json", "jsonl"});
  CHECK(wordsOf({"--output", "="}) == Words{"text", "json", "jsonl"});
}

TEST_CASE("arguments are completed by what they are") {
  CHECK(wordsOf({"deploy", "sh"}) == Words{"shelf", "shop"});
  CHECK(wordsOf({"deploy", "shop", "1."}) == Words{"1.0.0", "1.1.0"});
  CHECK(wordsOf({"deploy", "shop", "1.0.0", ""}).empty());
  CHECK(wordsOf({"status", "sho"}) == Words{"shop"});
  CHECK(wordsOf({"status", "shop/"}) == Words{"shop/0", "shop/1"});
  CHECK(wordsOf({"restart", "shop", "shelf/"}) == Words{"shelf/0"});
  CHECK(wordsOf({"drain", "w"}) == Words{"web1", "web2"});
  CHECK(wordsOf({"exec", "web"}) == Words{"web1", "web2", "webs"});
  CHECK(wordsOf({"migrate", "shop", "--to", "d"}) == Words{"db1"});
  CHECK(wordsOf({"-l", "webs"}) == Words{"webs"});
  CHECK(wordsOf({"signal", "US"}) == Words{"USR1", "USR2"});
  CHECK(wordsOf({"signal", "USR1", "sho"}) == Words{"shop"});
  CHECK(completed({"play", ""}).kind == WordKind::kFiles);
  CHECK(completed({"release", "add", "shop", "1.0.0", ""}).kind == WordKind::kFiles);
  CHECK(completed({"-i", ""}).kind == WordKind::kDirectories);
}

TEST_CASE("behind -- nothing is an option or a command") {
  CHECK(wordsOf({"exec", "web1", "--", "--"}).empty());
  CHECK(completed({"exec", "web1", "--", ""}).kind == WordKind::kFiles);
}

TEST_CASE("the inventory is the one that the line names") {
  const CommandShape shape = shapeOf(commandTable());
  CHECK(inventoryAmong(shape, {"-i", "here", "status", ""}, "inventory") == "here");
  CHECK(inventoryAmong(shape, {"status", "--inventory=there", ""}, "inventory") == "there");
  CHECK(inventoryAmong(shape, {"-i", "unfinish"}, "inventory") == "inventory");
}

TEST_CASE("without an inventory there are commands and options still") {
  const CommandShape shape = shapeOf(commandTable());
  CHECK(complete(shape, {"deploy", ""}, {}).candidates.empty());
  CHECK(complete(shape, {"deplo"}, {}).candidates.size() == 1);
  CHECK(completionText(complete(shape, {"play", ""}, {})) == ":files\n");
}
