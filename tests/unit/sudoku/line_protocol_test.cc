#include "core/line_protocol.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace sudoku;

namespace {

const std::string kPuzzle(81, '0');

// All lines, with "BAD" at the end where the splitter gave up.
std::vector<std::string> split(LineSplitter* splitter) {
  std::vector<std::string> lines;
  std::string_view line;
  while (true) {
    const auto next = splitter->next(&line);
    if (next == LineSplitter::Next::kNeedMore) return lines;
    lines.emplace_back(next == LineSplitter::Next::kBad ? "BAD" : line);
    if (next == LineSplitter::Next::kBad) return lines;
  }
}

}  // namespace

TEST_CASE("requests with and without an id") {
  const auto plain = parseLineRequest(kPuzzle);
  REQUIRE(plain.ok());
  CHECK(plain.value().id.empty());
  CHECK(plain.value().puzzle == kPuzzle);
  const auto named = parseLineRequest("r/1:" + kPuzzle);
  REQUIRE(named.ok());
  CHECK(named.value().id == "r/1");
  CHECK(parseLineRequest(std::string(kMaxIdLength, 'x') + ":" + kPuzzle).ok());
}

TEST_CASE("what is no request") {
  CHECK_FALSE(parseLineRequest("").ok());
  CHECK_FALSE(parseLineRequest(kPuzzle.substr(1)).ok());
  CHECK_FALSE(parseLineRequest(kPuzzle + "0").ok());
  CHECK_FALSE(parseLineRequest("." + kPuzzle.substr(1)).ok());
  CHECK_FALSE(parseLineRequest(":" + kPuzzle).ok());
  CHECK_FALSE(parseLineRequest("a b:" + kPuzzle).ok());
  CHECK_FALSE(parseLineRequest("a:b:" + kPuzzle).ok());
  CHECK_FALSE(parseLineRequest(std::string("a\0:", 3) + kPuzzle).ok());
  CHECK_FALSE(parseLineRequest(std::string(kMaxIdLength + 1, 'x') + ":" + kPuzzle).ok());
}

TEST_CASE("requests and replies survive the round trip") {
  const std::string line = formatLineRequest("7", kPuzzle);
  CHECK(line == "7:" + kPuzzle + "\r\n");
  CHECK(parseLineRequest(line.substr(0, line.size() - 2)).value().id == "7");
  CHECK(formatLineReply("", kPuzzle) == kPuzzle + "\r\n");
  CHECK(formatLineReply("7", "") == "7:NoSolution\r\n");
  CHECK(parseLineReply("7:NoSolution").value().kind == LineReply::Kind::kNoSolution);
  CHECK(parseLineReply("7:" + kPuzzle).value().digits == kPuzzle);
  CHECK(parseLineReply("Bad Request!").value().kind == LineReply::Kind::kBadRequest);
  CHECK_FALSE(parseLineReply("7:Whatever").ok());
}

TEST_CASE("many lines in one packet, and one line in many") {
  LineSplitter splitter;
  splitter.append("a\r\nb\r\n\r\nc");
  CHECK(split(&splitter) == std::vector<std::string>{"a", "b", ""});
  CHECK(splitter.buffered() == 1);
  splitter.append("d\r");
  CHECK(split(&splitter).empty());
  splitter.append("\n");
  CHECK(split(&splitter) == std::vector<std::string>{"cd"});
  CHECK(splitter.buffered() == 0);
}

TEST_CASE("a line without an end is found out after the longest possible line") {
  LineSplitter splitter;
  splitter.append(std::string(kMaxLineLength - 1, '1'));
  CHECK(split(&splitter).empty());
  splitter.append("1");
  CHECK(split(&splitter) == std::vector<std::string>{"BAD"});
}

TEST_CASE("a longest line passes, one longer does not, whatever follows") {
  LineSplitter splitter;
  splitter.append(std::string(kMaxLineLength - 2, '1') + "\r\n");
  CHECK(split(&splitter).size() == 1);
  splitter.append(std::string(kMaxLineLength - 1, '1') + "\r\n");
  CHECK(split(&splitter) == std::vector<std::string>{"BAD"});
}

TEST_CASE("a bare line feed is refused") {
  LineSplitter splitter;
  splitter.append("abc\n");
  CHECK(split(&splitter) == std::vector<std::string>{"BAD"});
  LineSplitter empty;
  empty.append("\n");
  CHECK(split(&empty) == std::vector<std::string>{"BAD"});
}
