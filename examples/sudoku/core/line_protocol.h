// The solver's protocol: lines `[id:]<81 digits>\r\n`, answered in order by
// `[id:]<81 digits>\r\n` or `[id:]NoSolution\r\n`; anything else is answered by
// `Bad Request!\r\n`, after which the server closes. Pure.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "core/or_error.h"

namespace sudoku {

inline constexpr std::size_t kMaxIdLength = 64;  // printable ASCII but ':'
inline constexpr std::size_t kMaxLineLength = kMaxIdLength + 1 + 81 + 2;
inline constexpr std::string_view kBadRequestLine = "Bad Request!\r\n";

struct LineRequest {
  std::string id;  // empty: none was given
  std::string puzzle;
};

struct LineReply {
  enum class Kind { kSolution, kNoSolution, kBadRequest };
  Kind kind = Kind::kBadRequest;
  std::string id;
  std::string digits;  // when kSolution
};

// `line` is without its line end.
OrError<LineRequest> parseLineRequest(std::string_view line);
OrError<LineReply> parseLineReply(std::string_view line);
std::string formatLineRequest(std::string_view id, std::string_view puzzle);
// An empty `digits` says NoSolution.
std::string formatLineReply(std::string_view id, std::string_view digits);

// Cuts a byte stream into lines that end in \r\n. Holds no more than it was given
// and not yet asked for; a peer that sends no line end is found out after
// kMaxLineLength bytes.
class LineSplitter {
 public:
  enum class Next { kLine, kNeedMore, kBad };

  void append(std::string_view bytes);
  // On kLine, `*line` is the next line, without its end, valid until the next append.
  // On kBad the stream cannot be trusted any more: too long a line, or a bare \n.
  Next next(std::string_view* line);
  std::size_t buffered() const { return buffer_.size() - start_; }

 private:
  std::string buffer_;
  std::size_t start_ = 0;  // of the first byte not yet given out
};

}  // namespace sudoku
