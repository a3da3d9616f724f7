#include <doctest/doctest.h>

#include <algorithm>

#include "model/node.h"
#include "model/utf8.h"

using namespace cctl;

namespace {

// The canonical form, or the problems.
std::string read(std::string_view bytes, const char* file = "f.yaml") {
  Node root;
  Problems problems;
  if (parseYaml(bytes, file, root, problems)) return root.canonical();
  std::string text;
  for (const Problem& problem : problems.sorted()) text += problem.text() + "\n";
  return text;
}

bool refused(std::string_view bytes, std::string_view with) {
  Node root;
  Problems problems;
  const bool ok = parseYaml(bytes, "f.yaml", root, problems);
  CHECK(ok == problems.empty());
  for (const Problem& problem : problems.sorted())
    if (problem.text().find(with) != std::string::npos) return !ok;
  MESSAGE(read(bytes));
  return false;
}

}  // namespace

TEST_CASE("scalars keep their text") {
  CHECK(read("version: 1.10") == R"({"version":"1.10"})");
  CHECK(read("a: 0640\nb: 0x1F\nc: 1e3\nd: yes\ne: 2024-01-01") ==
        R"({"a":"0640","b":"0x1F","c":"1e3","d":"yes","e":"2024-01-01"})");
  CHECK(read("a: false\nb: 'false'\nc: ~\nd:\ne: ''") ==
        R"({"a":false,"b":"false","c":null,"d":null,"e":""})");
  CHECK(read("a: !!str 12") == R"({"a":"12"})");
}

TEST_CASE("equal content has equal canonical text, whatever the layout") {
  CHECK(read("b: [1, 2]\na: {y: 1, x: 2}") == read("# c\na:\n  x: 2\n  y: 1\nb:\n- 1\n- 2\n"));
}

TEST_CASE("JSON is accepted as it is") {
  CHECK(read("{\n\t\"a\":\n\t\t[1, true, null, \"x\\/\\u00e4\\n\"], \"b\":{}}") ==
        "{\"a\":[\"1\",true,null,\"x/ä\\n\"],\"b\":{}}");
  CHECK(read(R"({"a":"\ud83d\ude00"})") == "{\"a\":\"😀\"}");
  CHECK(read("{\"a\":\"b\",\"c\":\"http://x/y\"}") == R"({"a":"b","c":"http://x/y"})");
}

TEST_CASE("places count from one") {
  Node root;
  Problems problems;
  REQUIRE(parseYaml("a: 1\nb:\n  - x\n  - {k: v}\nc:\n", "f.yaml", root, problems));
  CHECK(root.find("a")->where().text() == "f.yaml:1:4");
  CHECK(root.find("b")->items()[1].find("k")->where().text() == "f.yaml:4:9");
  CHECK(root.find("c")->where().text() == "f.yaml:5:1");  // nothing there: the key's
}

TEST_CASE("anchors stand for copies") {
  CHECK(read("a: &x [1, 2]\nb: *x") == R"({"a":["1","2"],"b":["1","2"]})");
}

TEST_CASE("hostile and broken documents are refused with their place") {
  const std::pair<std::string, const char*> cases[] = {
      {"a: 1\nb: 2\na: 3\n",
       "f.yaml:3:1: \"a\" is given twice; remove one; the first is on line 1"},
      {"a: {x: 1, x: 2}", "f.yaml:1:11: \"x\" is given twice"},
      {"{\"a\": 1, \"a\": 2}", "\"a\" is given twice"},
      {"a: 1\n---\nb: 2\n", "a second document begins here"},
      {"a: 1\n...\n---\n", "a second document"},
      {"a: &x [*x]", "refers to something that contains it"},
      {"a: &x {b: *x}", "refers to something that contains it"},
      {"a: &x\n  b: *x\n", "refers to something that contains it"},
      {"a: *nope", "f.yaml:1:4"},
      {"x: &a {k: 1}\ny:\n  <<: *a\n", "f.yaml:3:3: merge keys (<<) are not taken"},
      {"? [a, b]\n: c\n", "cannot be a key"},
      {"? {a: b}\n: c\n", "cannot be a key"},
      {"&a x: 1\n*a : 2\n", "an alias cannot be a key"},
      {": 1\n", "a key is missing"},
      {"~: 1\n", "a key is missing or is null"},
      {"a: !!int 3", "f.yaml:1:4: tag \"tag:yaml.org,2002:int\" is not taken"},
      {"a: !!binary aGk=", "is not taken"},
      {"a: !mine {x: 1}", "is not taken"},
      {"a: [1, 2", "f.yaml:"},
      {"a: 'x", "f.yaml:"},
      {"a:\n\tb: 1\n", "f.yaml:"},
      {"a: b: c", "f.yaml:1"},
      {"%YAML 3.0\n--- a", "f.yaml:"},
      {"a: \"\\0\"", "control character"},
      {"a: \"\\e[31m\"", "control character"},
      {"a: \"\\ud800\"", "f.yaml:"},
      {std::string("a: \0b", 5), "f.yaml:1:4: byte 0x00 is a control character"},
      {"a: b\n\x1b[0m", "f.yaml:2:1: byte 0x1B"},
      {"\xEF\xBB\xBF"
       "a: 1",
       "byte order mark"},
      {"\xFF\xFE"
       "a",
       "byte 0xFF is not UTF-8"},
      {"a: \xC3\x28", "f.yaml:1:4: byte 0xC3 is not UTF-8"},
      {"a: \xE0\x80\x80", "is not UTF-8"},
      {"a: \xED\xA0\x80", "is not UTF-8"},
      {"a: \xF4\x90\x80\x80", "is not UTF-8"},
      {"a: \xC3", "is not UTF-8"},
      {std::string(300, 'k') + ": 1", "a key longer than"},
      {"- " + std::string(99, '[') + "x", "a bracket is never closed"},
      {std::string(100'000, '['), "f.yaml:1:1: "},
      {std::string(100'000, '{'), "f.yaml:1:1: "},
      {std::string(50, '[') + std::string(50, ']'), "nested deeper than 32"},
      {std::string(5u << 20, 'a'), "larger than 4 MiB"},
  };
  for (const auto& one : cases) {
    const auto& bytes = one.first;
    const auto& with = one.second;
    CHECK_MESSAGE(refused(bytes, with), bytes.substr(0, 60));
  }
}

TEST_CASE("alias bombs stop at the limit of nodes") {
  std::string bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n";
  for (int i = 1; i < 10; ++i) {
    bomb += fmt::format("a{0}: &a{0} [", i);
    for (int j = 0; j < 10; ++j) bomb += fmt::format("{}*a{}", j == 0 ? "" : ",", i - 1);
    bomb += "]\n";
  }
  CHECK(refused(bomb, "more than 200000 values, aliases counted"));
  std::string deep = "a0: &a0 [x]\n";
  for (int i = 1; i < 100; ++i) deep += fmt::format("a{0}: &a{0} [*a{1}]\n", i, i - 1);
  CHECK(refused(deep, "nested deeper than 32"));
}

TEST_CASE("several mistakes are reported together") {
  const std::string text = read("a: 1\na: 2\nb: !!int 3\nc: {<<: 1}\n");
  CHECK(std::count(text.begin(), text.end(), '\n') == 3);
}

TEST_CASE("text is made fit for messages") {
  CHECK(printable("a\x1b[31m\n") == "a?[31m?");
  CHECK(printable("ä\xff") == "ä?");
  CHECK(printable(std::string(300, 'x'), 10) == "xxxxxxxxxx…");
  CHECK(findBadByte("ok\tä\r\n") == std::nullopt);
}
