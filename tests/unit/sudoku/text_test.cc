#include "core/text.h"

#include <doctest/doctest.h>

#include "core/histogram.h"
#include "core/options.h"
#include "core/pick.h"
#include "core/solve_json.h"

using namespace sudoku;
using std::chrono::microseconds;

TEST_CASE("durations") {
  CHECK(parseDuration("250ms") == microseconds(250'000));
  CHECK(parseDuration("1.5s") == microseconds(1'500'000));
  CHECK(parseDuration("2m") == microseconds(120'000'000));
  CHECK(parseDuration("0s") == microseconds(0));
  for (const char* bad : {"", "5", "s", "-1s", "1 s", "1d", "nans", "infs", "1e99s", "99999999h"}) {
    CAPTURE(bad);
    CHECK_FALSE(parseDuration(bad).has_value());
  }
}

TEST_CASE("numbers have bounds and nothing around them") {
  CHECK(parseNumber("0", 0, 9) == 0);
  CHECK(parseNumber("10", 0, 10) == 10);
  for (const char* bad : {"", "-1", "+1", "11", " 1", "1 ", "0x1", "99999999999999999999999"}) {
    CHECK_FALSE(parseNumber(bad, 0, 10).has_value());
  }
}

TEST_CASE("lists") {
  CHECK(splitList(" a, b ,,c,", ',') == std::vector<std::string>{"a", "b", "c"});
  CHECK(splitList("", ',').empty());
}

TEST_CASE("addresses") {
  CHECK(parseHostPort("localhost:80").value().text() == "127.0.0.1:80");
  CHECK(parseHostPort("[fe80::1]:80").value().host == "fe80::1");
  for (const char* bad : {"", ":", "1.2.3.4", "1.2.3.4:", "1.2.3.4:0", "1.2.3.4:x", "1.2.3:4",
                          "name:80", "[]:80", "[1:80"}) {
    CAPTURE(bad);
    CHECK_FALSE(parseHostPort(bad).ok());
  }
}

TEST_CASE("JSON strings are escaped") {
  CHECK(jsonString("a\"b\\c\n\x01") == "\"a\\\"b\\\\c\\u000a\\u0001\"");
}

TEST_CASE("the answer of /solve survives the round trip") {
  const auto solved = parseSolveAnswer(formatSolveAnswer({"123", "1.1.1.1:1", 7}));
  REQUIRE(solved.has_value());
  CHECK(solved->solution == "123");
  CHECK(solved->solver == "1.1.1.1:1");
  CHECK(solved->micros == 7);
  CHECK(formatSolveAnswer({"", "s", 1}) == "{\"solution\":null,\"solver\":\"s\",\"micros\":1}");
  CHECK(parseSolveAnswer("{\"solution\": null, \"solver\": \"s\", \"micros\": 1 }")
            ->solution.empty());
  CHECK_FALSE(parseSolveAnswer("{\"error\":\"x\"}").has_value());
  CHECK_FALSE(parseSolveAnswer("{\"solution\":\"12").has_value());
}

TEST_CASE("options in both ways of writing") {
  const std::vector<OptionSpec> specs{{"--port", "N", ""}, {"--help", "", ""}};
  const auto options = parseOptions(specs, {"--port", "1", "--help"});
  REQUIRE(options.ok());
  CHECK(options.value().get("--port") == "1");
  CHECK(options.value().has("--help"));
  CHECK(parseOptions(specs, {"--port=2"}).value().get("--port") == "2");
  CHECK(parseOptions(specs, {"--prot"}).error() == "unknown option --prot; see --help");
  CHECK(parseOptions(specs, {"--port"}).error() == "--port needs a value: N");
  CHECK(parseOptions(specs, {"--help=x"}).error() == "--help takes no value");
}

TEST_CASE("percentiles are exact to one percent") {
  Histogram histogram;
  CHECK(histogram.percentile(50) == 0);
  for (std::uint64_t value = 1; value <= 100'000; ++value) histogram.record(value);
  CHECK(histogram.count() == 100'000);
  CHECK(histogram.max() == 100'000);
  CHECK(histogram.percentile(50) >= 50'000);
  CHECK(histogram.percentile(50) <= 50'500);
  CHECK(histogram.percentile(99.9) >= 99'900);
  CHECK(histogram.percentile(100) == 100'000);
  CHECK(histogram.mean() == doctest::Approx(50'000.5));
}

TEST_CASE("small and huge values") {
  Histogram histogram;
  histogram.record(0);
  CHECK(histogram.percentile(100) == 0);
  histogram.record(255);
  histogram.record(256);
  CHECK(histogram.percentile(60) == 255);
  histogram.record(UINT64_MAX);
  CHECK(histogram.max() == UINT64_MAX);
  CHECK(histogram.percentile(100) >= (std::uint64_t{1} << 35));
}

TEST_CASE("the solver with the fewest outstanding is picked, ties in turn") {
  std::vector<Candidate> solvers(3, Candidate{true, false, false, 2});
  CHECK(pickSolver(solvers, 0) == 0U);
  CHECK(pickSolver(solvers, 4) == 1U);
  solvers[2].outstanding = 1;
  CHECK(pickSolver(solvers, 0) == 2U);
}

TEST_CASE("tried solvers are never picked; ejected and unconnected ones only at need") {
  std::vector<Candidate> solvers(3);
  solvers[0] = {true, true, false, 0};    // ejected
  solvers[1] = {false, false, false, 0};  // not connected
  solvers[2] = {true, false, false, 99};
  CHECK(pickSolver(solvers, 0) == 2U);
  solvers[2].tried = true;
  CHECK(pickSolver(solvers, 0) == 1U);
  solvers[1].tried = true;
  CHECK(pickSolver(solvers, 0) == 0U);
  solvers[0].tried = true;
  CHECK_FALSE(pickSolver(solvers, 0).has_value());
  CHECK_FALSE(pickSolver({}, 5).has_value());
}
