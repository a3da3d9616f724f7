#include "core/conf.h"

#include <doctest/doctest.h>

#include <string>

using namespace sudoku;

TEST_CASE("an empty file gives the defaults") {
  const auto conf = parseSolverConf("", "f");
  REQUIRE(conf.ok());
  CHECK(conf.value().threads == 0);
  CHECK(conf.value().shutdown_grace == std::chrono::seconds(1));
}

TEST_CASE("every key of the solver's file") {
  const auto conf = parseSolverConf(
      "# comment\n\n threads = 3\r\nmax_connections=7\nlog_level = debug\n"
      "motd = a = b # c\nshutdown_grace = 250ms\nidle_timeout = 2m",
      "f");
  REQUIRE(conf.ok());
  CHECK(conf.value().threads == 3);
  CHECK(conf.value().max_connections == 7);
  CHECK(conf.value().log_level == LogLevel::kDebug);
  CHECK(conf.value().motd == "a = b # c");
  CHECK(conf.value().shutdown_grace == std::chrono::milliseconds(250));
  CHECK(conf.value().idle_timeout == std::chrono::minutes(2));
}

TEST_CASE("every error is reported with its line, all at once") {
  const auto conf = parseSolverConf(
      "threads = many\nthreads = 1\ncolour = red\nnonsense\nmax_connections = 0\n"
      "log_level = loud\nshutdown_grace = 5",
      "dir/solver.conf");
  REQUIRE_FALSE(conf.ok());
  CHECK(conf.error() ==
        "dir/solver.conf:1: threads must be a number from 0 to 256\n"
        "dir/solver.conf:2: \"threads\" is given twice\n"
        "dir/solver.conf:3: unknown key \"colour\"; known are max_connections, log_level, motd, "
        "shutdown_grace, threads, idle_timeout\n"
        "dir/solver.conf:4: expected `key = value`\n"
        "dir/solver.conf:5: max_connections must be a number from 1 to 1000000\n"
        "dir/solver.conf:6: log_level must be error, warn, info or debug\n"
        "dir/solver.conf:7: shutdown_grace must be a duration such as 250ms, 1s or 2m");
}

TEST_CASE("the web server's solvers, in order") {
  const auto conf =
      parseWebConf("solver = 10.0.0.1:80\nsolver = [::1]:81\nconnections_per_solver = 5\n", "f");
  REQUIRE(conf.ok());
  REQUIRE(conf.value().solvers.size() == 2);
  CHECK(conf.value().solvers[0].text() == "10.0.0.1:80");
  CHECK(conf.value().solvers[1].text() == "[::1]:81");
  CHECK(conf.value().connections_per_solver == 5);
}

TEST_CASE("bad solvers") {
  CHECK(parseWebConf("solver = 10.0.0.1", "f").error() ==
        "f:1: solver is wrong: \"10.0.0.1\" has no port; write HOST:PORT");
  CHECK(parseWebConf("solver = a:1", "f").error().find("not looked up") != std::string::npos);
  CHECK(parseWebConf("solver = 1.1.1.1:1\nsolver = 1.1.1.1:1", "f").error() ==
        "f:2: solver names 1.1.1.1:1 twice");
  CHECK_FALSE(parseWebConf("solver = 1.1.1.1:65536", "f").ok());
}

TEST_CASE("a file that is not there") {
  CHECK(readConfFile("/nonexistent/x").error() ==
        "/nonexistent/x: cannot be opened: No such file or directory");
}
