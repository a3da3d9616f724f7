#include "transport/shell_quote.h"

#include <doctest/doctest.h>

#include "base/subprocess.h"

using namespace cctl;
using namespace cctl::ssh;

namespace {

std::string outputOf(const std::string& command) {
  SubprocessRequest request;
  request.argv = {"sh", "-c", command};
  const auto result = runSubprocess(request, Deadline::in(Millis(10'000)));
  REQUIRE(result);
  return result->out;
}

const char* const kHard[] = {
    "",        "plain",       "two words",   "it's",  "a\"b",     "$HOME `id` $(id)",
    "back\\x", "!history!",   "line\nbreak", "%s %%", "tab\tand", "-n",
    "*?[a]~",  "caf\xc3\xa9", "\\0101\\n",   ";|&<>", "'''",      "#"};

}  // namespace

TEST_CASE("shellQuote gives back exactly one word") {
  for (const std::string text : kHard) {
    CAPTURE(text);
    CHECK(outputOf("printf '[%s]' " + shellQuote(text)) == "[" + text + "]");
  }
  CHECK(shellQuote("/opt/clusterctl") == "/opt/clusterctl");
  CHECK(shellQuote("") == "''");
}

TEST_CASE("shellJoin keeps the words apart") {
  CHECK(outputOf("printf '[%s]' " + shellJoin({"a b", "", "c'd"})) == "[a b][][c'd]");
}

TEST_CASE("shScript runs the script with its arguments") {
  for (const std::string text : kHard) {
    CAPTURE(text);
    CHECK(outputOf(shScript("printf '[%s]' \"$1\" \"$2\"\n", {text, "last"})) ==
          "[" + text + "][last]");
  }
  CHECK(outputOf(shScript("cat", {}) + " <<x\nhello\nx\n") == "hello\n");
}

TEST_CASE("shScript holds nothing that other shells read differently inside single quotes") {
  const auto line = shScript("echo 'it'\\''s' !x \\ \n", {"a'b!c\\d\n"});
  const auto script = line.substr(line.find(" sh '") + 5);
  CHECK(script.find('\'') == script.size() - 1);
  CHECK(script.find('!') == std::string::npos);
  CHECK(script.find('\n') == std::string::npos);
  for (size_t i = script.find('\\'); i != std::string::npos; i = script.find('\\', i + 1)) {
    CHECK(script.substr(i, 2) == "\\0");
  }
}
