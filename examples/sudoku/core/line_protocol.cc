#include "core/line_protocol.h"

#include <algorithm>

#include "core/solver.h"

namespace sudoku {
namespace {

struct IdAndRest {
  std::string_view id;
  std::string_view rest;
};

bool isIdCharacter(char c) { return c > ' ' && c < '\x7f'; }

OrError<IdAndRest> splitId(std::string_view line) {
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return IdAndRest{{}, line};
  const std::string_view id = line.substr(0, colon);
  if (id.empty() || id.size() > kMaxIdLength) return Failure{"the id is empty or too long"};
  if (!std::all_of(id.begin(), id.end(), isIdCharacter)) {
    return Failure{"the id has a character that is not printable ASCII"};
  }
  return IdAndRest{id, line.substr(colon + 1)};
}

std::string joinLine(std::string_view id, std::string_view rest) {
  std::string line;
  line.reserve(id.size() + rest.size() + 3);
  if (!id.empty()) line.append(id).push_back(':');
  line.append(rest).append("\r\n");
  return line;
}

}  // namespace

OrError<LineRequest> parseLineRequest(std::string_view line) {
  const auto parts = splitId(line);
  if (!parts) return Failure{parts.error()};
  if (!isPuzzle(parts.value().rest)) return Failure{"not 81 digits"};
  return LineRequest{std::string(parts.value().id), std::string(parts.value().rest)};
}

OrError<LineReply> parseLineReply(std::string_view line) {
  if (line == kBadRequestLine.substr(0, kBadRequestLine.size() - 2)) return LineReply{};
  const auto parts = splitId(line);
  if (!parts) return Failure{parts.error()};
  LineReply reply{LineReply::Kind::kNoSolution, std::string(parts.value().id), {}};
  if (parts.value().rest == "NoSolution") return reply;
  if (!isPuzzle(parts.value().rest)) return Failure{"neither 81 digits nor NoSolution"};
  reply.kind = LineReply::Kind::kSolution;
  reply.digits = parts.value().rest;
  return reply;
}

std::string formatLineRequest(std::string_view id, std::string_view puzzle) {
  return joinLine(id, puzzle);
}

std::string formatLineReply(std::string_view id, std::string_view digits) {
  return joinLine(id, digits.empty() ? "NoSolution" : digits);
}

void LineSplitter::append(std::string_view bytes) {
  buffer_.erase(0, start_);
  start_ = 0;
  buffer_.append(bytes);
}

LineSplitter::Next LineSplitter::next(std::string_view* line) {
  const std::string_view rest = std::string_view(buffer_).substr(start_);
  const std::size_t end = rest.substr(0, kMaxLineLength).find('\n');
  if (end == std::string_view::npos) {
    return rest.size() >= kMaxLineLength ? Next::kBad : Next::kNeedMore;
  }
  if (end == 0 || rest[end - 1] != '\r') return Next::kBad;
  *line = rest.substr(0, end - 1);
  start_ += end + 1;
  return Next::kLine;
}

}  // namespace sudoku
