#include <doctest/doctest.h>

#include "cli/app.h"
#include "cli/exit_codes.h"
#include "cli/report.h"

using namespace cctl;
using namespace cctl::cli;

namespace {

Result<ParsedLine> parse(std::vector<std::string> arguments) {
  return parseCommandLine(commandTable(), arguments);
}

std::string problem(std::vector<std::string> arguments) {
  const auto parsed = parse(std::move(arguments));
  REQUIRE_FALSE(parsed);
  CHECK(parsed.error().code == Code::kUsage);
  return parsed.error().message;
}

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("global options are taken before and after the command") {
  for (const auto& arguments : {std::vector<std::string>{"-i", "x", "-o", "json", "status"},
                                std::vector<std::string>{"status", "-i", "x", "-o", "json"}}) {
    const auto parsed = parse(arguments);
    REQUIRE(parsed);
    CHECK(parsed->globals.inventory == "x");
    CHECK(parsed->globals.output == OutputFormat::kJson);
    CHECK(parsed->run);
  }
}

TEST_CASE("the format that was asked for is known also when something else is wrong") {
  for (const auto& arguments :
       {std::vector<std::string>{"deplyo", "-o", "json"},
        std::vector<std::string>{"deploy", "-ojson"},
        std::vector<std::string>{"status", "--forks", "0", "--output=json"}}) {
    OutputFormat output = OutputFormat::kText;
    CHECK_FALSE(parseCommandLine(commandTable(), arguments, &output));
    CHECK(output == OutputFormat::kJson);
  }
}

TEST_CASE("mistakes name the nearest command or option") {
  CHECK(has(problem({"deplyo", "a", "1"}), "\"deploy\""));
  CHECK(has(problem({"status", "--dry-rum"}), "--dry-run"));
  CHECK(has(problem({"deploy", "a", "1", "--skip-unreachabel"}), "--skip-unreachable"));
  CHECK(has(problem({"release", "ad", "a", "1", "x"}), "\"add\""));
  CHECK(has(problem({"release"}), "add, list, show"));
  CHECK(has(problem({"validate", "too", "much"}), "unexpected argument \"too\""));
  CHECK(has(problem({"deploy", "a"}), "VERSION"));
  CHECK(has(problem({"--forks", "0", "status"}), "forks"));
  CHECK(has(problem({"-o", "xml", "status"}), "xml"));
}

TEST_CASE("of a global option that is given twice the last counts, another is told of") {
  const auto parsed = parse({"-i", "a", "-l", "x", "status", "-i", "b", "--limit", "y"});
  REQUIRE(parsed);
  CHECK(parsed->globals.inventory == "b");
  CHECK(parsed->globals.limit == "y");
  CHECK(parse({"--dry-run", "status", "--dry-run"})->globals.dry_run);
  CHECK(problem({"migrate", "a/0", "--to", "x", "--to", "y"}) == "--to was given more than once");
}

TEST_CASE("help never runs anything, for every command") {
  CHECK(has(parse({"--help"})->text, "deploy"));
  CHECK(has(parse({"--help"})->text, "Usage: clusterctl [options]"));
  CHECK(has(parse({"--help"})->text, "--output {text,json,jsonl}"));
  CHECK(has(parse({"--help"})->text, "-y,--yes  "));
  CHECK(has(parse({"release", "add", "--help"})->text,
            "Usage: clusterctl release add [options] SERVICE VERSION PATH"));
  for (const Command& command : commandTable()) {
    const auto parsed = parse({command.name, "--help"});
    REQUIRE(parsed);
    CHECK_FALSE(parsed->run);
    CHECK_FALSE(parsed->text.empty());
  }
}

TEST_CASE("words after -- belong to the remote command") {
  CHECK(parse({"exec", "host1", "--", "ls", "-la", "--help"})->run);
  CHECK(parse({"exec", "host1", "--", "true"})->run);
  CHECK(has(problem({"exec", "host1", "ls", "-la"}), "put --"));
}

TEST_CASE("exit codes are those of the manual") {
  CHECK(exitCodeOf(Code::kUsage) == 64);
  CHECK(exitCodeOf(Code::kBadInput) == 65);
  CHECK(exitCodeOf(Code::kRefused) == 77);
  CHECK(exitCodeOf(Code::kLocked) == 6);
  CHECK(exitCodeOf(Code::kNoQuorum) == 8);
  CHECK(exitCodeOf(Code::kCancelled) == 130);
  CHECK(exitCodeOf(Code::kNoSpace) == 1);
}

TEST_CASE("bytes from hosts cannot drive the terminal") {
  CHECK(printable("a\x1b[2Jb\r\n\tc\x7f") == "a\\x1b[2Jb\\x0d\n\tc\\x7f");
}

TEST_CASE("a table pads by characters, not bytes, and leaves no blanks at line ends") {
  Table table({"A", "B"});
  table.add({"é", "x"});
  table.add({"longer", ""});
  CHECK(table.text(Painter(false)) == "A       B\né       x\nlonger\n");
}

TEST_CASE("failures show all that the host could tell") {
  ops::InstanceFailure failure{
      {ServiceName("s"), 0}, HostName("h"), "not ready", "connection refused", {}};
  failure.exit.emplace();
  failure.exit->exit_status = 3;
  failure.exit->last_lines = {"boom"};
  const std::string text = failureText(failure);
  for (const char* part : {"s/0 on h: not ready", "connection refused", "exit status 3", "boom"})
    CHECK(has(text, part));
}
