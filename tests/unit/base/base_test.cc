#include <doctest/doctest.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/json.h"
#include "base/subprocess.h"
#include "base/text.h"

using namespace cctl;

namespace {

// A directory that is gone when the test is over.
class TemporaryDir {
 public:
  TemporaryDir() {
    char name[] = "/tmp/cctl-base-XXXXXX";
    path_ = ::mkdtemp(name);
  }
  ~TemporaryDir() { (void)removeTree(path_); }
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }

 private:
  std::string path_;
};

Result<int> half(int number) {
  if (number % 2 != 0) return fail(Code::kBadInput, "{} is odd", number);
  return number / 2;
}

Result<int> quarter(int number) {
  CCTL_TRY(const int once, half(number));
  return half(once);
}

}  // namespace

TEST_CASE("errors carry their code and gain context on the way up") {
  CHECK(quarter(8).value() == 2);
  CHECK(quarter(6).error().code == Code::kBadInput);
  CHECK(quarter(6).error().context("six").message == "six: 3 is odd");
  CHECK(failErrno(ENOSPC, "/x").value().code == Code::kNoSpace);
}

TEST_CASE("code names survive a round trip") {
  CHECK(codeFromName(codeName(Code::kNoQuorum)) == Code::kNoQuorum);
  CHECK(codeFromName("nonsense") == Code::kError);
}

TEST_CASE("replaceFile leaves the new content, the mode and no temporary file") {
  TemporaryDir dir;
  REQUIRE(replaceFile(dir / "a", "one", 0640));
  REQUIRE(replaceFile(dir / "a", "two", 0600));
  CHECK(readFile(dir / "a").value() == "two");
  struct stat info {};
  REQUIRE(::stat((dir / "a").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
  CHECK(listDir(dir / "").value() == std::vector<std::string>{"a"});
}

TEST_CASE("readFile refuses what is larger than allowed instead of cutting it") {
  TemporaryDir dir;
  REQUIRE(replaceFile(dir / "a", std::string(100, 'x')));
  CHECK_FALSE(readFile(dir / "a", 99));
  CHECK(readFile(dir / "a", 100));
  CHECK(readFile(dir / "missing").error().code == Code::kNotFound);
}

TEST_CASE("removeTree removes read-only directories and never follows links") {
  TemporaryDir dir;
  REQUIRE(makeDirs(dir / "tree/deep"));
  REQUIRE(replaceFile(dir / "outside", "kept"));
  REQUIRE(::symlink((dir / "outside").c_str(), (dir / "tree/link").c_str()) == 0);
  REQUIRE(::chmod((dir / "tree/deep").c_str(), 0500) == 0);
  REQUIRE(removeTree(dir / "tree"));
  CHECK_FALSE(exists(dir / "tree"));
  CHECK(readFile(dir / "outside").value() == "kept");
  CHECK(removeTree(dir / "never was"));
}

TEST_CASE("JSON: duplicate keys, depth and trailing bytes are refused") {
  CHECK(parseJson(R"({"a":{"b":1},"c":{"b":2}})"));
  CHECK_FALSE(parseJson(R"({"a":1,"a":2})"));
  CHECK_FALSE(parseJson("{} x"));
  CHECK_FALSE(parseJson(""));
  CHECK_FALSE(parseJson(R"({"b":[{"a":{}},{"a":1,"c":2,"a":{}}]})"));
  CHECK_FALSE(parseJson(std::string(100'000, '[')));
  CHECK(parseJson(std::string(64, '[') + std::string(64, ']')));
  CHECK_FALSE(parseJson(std::string(65, '[') + std::string(65, ']')));
  CHECK_FALSE(parseJson("1e999"));
  // In words of ours.
  CHECK(parseJson("nonsense").error().message ==
        "not JSON at byte 2: invalid literal; last read: 'no'");
  CHECK(parseJson("").error().message.starts_with("not JSON at byte 1: "));
  CHECK(parseJson("1e999").error().message.find("exception") == std::string::npos);
  try {
    (void)Json(5).get<std::string>();
  } catch (const std::exception& error) {
    CHECK(jsonProblem(error) == "type must be string, but is number");
  }
  CHECK_FALSE(parseJson("[\"\xff\"]"));
  const std::string text =
      R"({"a":[1,-2,2.5,true,null,"x\n",[],{}],"b":{"c":18446744073709551615}})";
  CHECK(dumpJson(parseJson(text).value()) == text);
  CHECK(dumpJson(parseJson("3").value()) == "3");
  CHECK(dumpJson(Json("\xff")) == "\"\xEF\xBF\xBD\"");
}

TEST_CASE("SHA-256 and CRC-32C agree with their published vectors") {
  CHECK(sha256Hex("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(crc32c("123456789") == 0xE3069283u);
  CHECK(isSha256Hex(sha256Hex("")));
  CHECK_FALSE(isSha256Hex("ABC"));
  CHECK(randomHex(16).size() == 32);
  CHECK(randomHex(16) != randomHex(16));
}

TEST_CASE("durations and sizes need units and do not overflow") {
  CHECK(parseDuration("500ms").value() == Millis(500));
  CHECK(parseDuration("2h").value() == Millis(7'200'000));
  for (const char* bad : {"", "5", "-1s", "5 s", "1.5s", "99999999999999999d", "s"})
    CHECK_FALSE(parseDuration(bad));
  CHECK(formatDuration(Millis(60'000)) == "1m");
  CHECK(formatDuration(Millis(1'500)) == "1500ms");
  CHECK(humanDuration(Millis(2'140)) == "2.1 s");
  CHECK(humanDuration(Millis(14)) == "14 ms");
  CHECK(humanDuration(Millis(119'000)) == "119 s");
  CHECK(parseSize("512M").value() == 512u << 20);
  CHECK_FALSE(parseSize("1T"));
  CHECK_FALSE(parseSize("99999999999999999G"));
}

TEST_CASE("a subject is named once") {
  CHECK(about("host1", "no answer") == "host1: no answer");
  CHECK(about("host1", "host1: no answer") == "host1: no answer");
  CHECK(about("host1", "left out: host1: no answer") == "host1: left out: no answer");
  CHECK(about("host1", "nothing of host1: really") == "host1: nothing of host1: really");
  CHECK(about("", "no answer") == "no answer");
}

TEST_CASE("times survive a round trip") {
  const WallTime time(Millis(1'763'895'600'123));
  CHECK(formatTime(time) == "2025-11-23T11:00:00.123Z");
  CHECK(parseTime(formatTime(time)).value() == time);
  CHECK_FALSE(parseTime("2025-11-23 11:00"));
  CHECK_FALSE(parseTime("2025-11-23T11:00:00"));
}

TEST_CASE("a subprocess: input, both outputs, status, missing program, deadline") {
  const auto result = runSubprocess({{"sh", "-c", "cat; echo err >&2; exit 3"}, "in"},
                                    Deadline::in(Millis(10'000)));
  REQUIRE(result);
  CHECK(result->out == "in");
  CHECK(result->err == "err\n");
  CHECK(result->exit_status == 3);
  CHECK(runSubprocess({{"/no/such/program"}, ""}, Deadline::never()).error().code ==
        Code::kNotFound);
  CHECK(runSubprocess({{"sleep", "100"}, ""}, Deadline::in(Millis(20))).error().code ==
        Code::kTimeout);
  CancelToken cancel;
  cancel.cancel();
  CHECK(runSubprocess({{"sleep", "100"}, ""}, Deadline::never(), &cancel).error().code ==
        Code::kCancelled);
}

TEST_CASE("a token is cancelled with its parent, and alone without it") {
  const auto isSeen = [](const CancelToken& token) {
    pollfd fd{token.fd(), POLLIN, 0};
    return token.cancelled() && ::poll(&fd, 1, 0) == 1;
  };
  CancelToken parent;
  CancelToken first(&parent), second(&parent);
  CHECK_FALSE(isSeen(first));
  first.cancel();
  CHECK(isSeen(first));
  CHECK_FALSE(isSeen(second));
  CHECK_FALSE(isSeen(parent));
  parent.cancel();
  CHECK(isSeen(second));
}
