// HTTP/1.1 (RFC 9112), as much as a small service needs: requests without use for a
// body, responses with Content-Length. Pure: bytes in, values out.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sudoku {

inline constexpr std::size_t kMaxHeadLength = 8 * 1024;
inline constexpr std::size_t kMaxIgnoredBody = 64 * 1024;
inline constexpr std::size_t kMaxResponseBody = 1024 * 1024;

struct HttpRequest {
  std::string method;
  std::string target;
  bool keep_alive = true;  // what the client asked for
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;  // further ones
};

std::string_view reasonPhrase(int status);
// A HEAD request gets the head alone.
std::string formatResponse(const HttpResponse& response, bool keep_alive, bool head_only);

// Reads requests from a byte stream. Bodies are skipped, since nothing here takes one.
class HttpRequestParser {
 public:
  enum class Next { kRequest, kNeedMore, kError };

  void append(std::string_view bytes);
  // On kError, errorStatus() and errorText() say what to answer before closing.
  Next next(HttpRequest* request);
  int errorStatus() const { return error_status_; }
  const std::string& errorText() const { return error_text_; }
  // True when no request has been begun.
  bool empty() const { return buffer_.empty(); }
  std::size_t buffered() const { return buffer_.size(); }

 private:
  Next fail(int status, std::string text);
  Next parseHead(std::string_view head, HttpRequest* request);

  std::string buffer_;
  std::size_t body_left_ = 0;
  int error_status_ = 0;
  std::string error_text_;
};

// The client's side: one response after another.
class HttpResponseParser {
 public:
  enum class Next { kResponse, kNeedMore, kBad };
  struct Response {
    int status = 0;
    bool keep_alive = true;
    std::string body;
  };

  void append(std::string_view bytes) { buffer_.append(bytes); }
  Next next(Response* response);
  bool empty() const { return buffer_.empty(); }

 private:
  std::string buffer_;
};

}  // namespace sudoku
