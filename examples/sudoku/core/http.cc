#include "core/http.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "core/text.h"

namespace sudoku {
namespace {

struct Reason {
  int status;
  std::string_view text;
};
constexpr std::array<Reason, 15> kReasons{{{200, "OK"},
                                           {400, "Bad Request"},
                                           {404, "Not Found"},
                                           {405, "Method Not Allowed"},
                                           {408, "Request Timeout"},
                                           {413, "Content Too Large"},
                                           {414, "URI Too Long"},
                                           {417, "Expectation Failed"},
                                           {426, "Upgrade Required"},
                                           {431, "Request Header Fields Too Large"},
                                           {500, "Internal Server Error"},
                                           {501, "Not Implemented"},
                                           {503, "Service Unavailable"},
                                           {504, "Gateway Timeout"},
                                           {505, "HTTP Version Not Supported"}}};

bool isTokenCharacter(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

bool isToken(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), isTokenCharacter);
}

bool isVisible(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < '\x7f'; });
}

// Takes the first line off `text`; line ends are \r\n or, as RFC 9112 2.2 allows, \n.
std::string_view takeLine(std::string_view* text) {
  const std::size_t end = text->find('\n');
  std::string_view line = text->substr(0, end);
  *text = end == std::string_view::npos ? std::string_view() : text->substr(end + 1);
  if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
  return line;
}

// The length of the head with its empty line, or npos.
std::size_t findHeadEnd(std::string_view bytes) {
  for (std::size_t at = bytes.find('\n'); at != std::string_view::npos;
       at = bytes.find('\n', at + 1)) {
    if (bytes.substr(at + 1, 1) == "\n") return at + 2;
    if (bytes.substr(at + 1, 2) == "\r\n") return at + 3;
  }
  return std::string_view::npos;
}

struct HttpVersion {
  int major = 0;
  int minor = 0;
};

std::optional<HttpVersion> parseVersion(std::string_view text) {
  constexpr std::string_view kStart = "HTTP/";
  if (text.size() != 8 || text.substr(0, 5) != kStart || text[6] != '.') return std::nullopt;
  if (std::isdigit(static_cast<unsigned char>(text[5])) == 0 ||
      std::isdigit(static_cast<unsigned char>(text[7])) == 0) {
    return std::nullopt;
  }
  return HttpVersion{text[5] - '0', text[7] - '0'};
}

// What of the header fields decides about framing.
struct Framing {
  std::optional<std::size_t> content_length;
  bool transfer_encoding = false;
  bool close = false;
  bool keep_alive = false;
  int hosts = 0;
};

void readConnection(std::string_view value, Framing* framing) {
  for (const std::string& option : splitList(value, ',')) {
    if (equalsIgnoringCase(option, "close")) framing->close = true;
    if (equalsIgnoringCase(option, "keep-alive")) framing->keep_alive = true;
  }
}

bool readContentLength(std::string_view value, Framing* framing) {
  const auto length = parseNumber(value, 0, SIZE_MAX / 2);
  if (!length || (framing->content_length && *framing->content_length != *length)) return false;
  framing->content_length = *length;
  return true;
}

bool readField(std::string_view line, Framing* framing) {
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || !isToken(line.substr(0, colon))) return false;
  const std::string_view name = line.substr(0, colon);
  const std::string_view value = trim(line.substr(colon + 1));
  if (value.find('\0') != std::string_view::npos) return false;
  if (equalsIgnoringCase(name, "connection")) readConnection(value, framing);
  if (equalsIgnoringCase(name, "host")) ++framing->hosts;
  if (equalsIgnoringCase(name, "transfer-encoding")) framing->transfer_encoding = true;
  return !equalsIgnoringCase(name, "content-length") || readContentLength(value, framing);
}

std::optional<Framing> readFields(std::string_view fields) {
  Framing framing;
  while (true) {
    const std::string_view line = takeLine(&fields);
    if (line.empty()) return framing;
    if (!readField(line, &framing)) return std::nullopt;
  }
}

struct StatusLine {
  int status = 0;
  int minor = 0;
};

std::optional<StatusLine> parseStatusLine(std::string_view line) {
  if (line.size() < 12 || line[8] != ' ') return std::nullopt;
  const auto version = parseVersion(line.substr(0, 8));
  const auto status = parseNumber(line.substr(9, 3), 100, 599);
  if (!version || version->major != 1 || !status) return std::nullopt;
  return StatusLine{static_cast<int>(*status), version->minor};
}

}  // namespace

std::string_view reasonPhrase(int status) {
  const auto* found = std::find_if(kReasons.begin(), kReasons.end(),
                                   [&](const Reason& reason) { return reason.status == status; });
  return found == kReasons.end() ? "Unknown" : found->text;
}

std::string formatResponse(const HttpResponse& response, bool keep_alive, bool head_only) {
  std::string text = "HTTP/1.1 " + std::to_string(response.status) + " ";
  text.append(reasonPhrase(response.status)).append("\r\nContent-Type: ");
  text.append(response.content_type).append("\r\nContent-Length: ");
  text.append(std::to_string(response.body.size())).append("\r\n");
  for (const auto& [name, value] : response.headers) {
    text.append(name).append(": ").append(value).append("\r\n");
  }
  text.append(keep_alive ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n");
  if (!head_only) text.append(response.body);
  return text;
}

void HttpRequestParser::append(std::string_view bytes) {
  const std::size_t skipped = std::min(body_left_, bytes.size());
  body_left_ -= skipped;
  buffer_.append(bytes.substr(skipped));
}

HttpRequestParser::Next HttpRequestParser::fail(int status, std::string text) {
  error_status_ = status;
  error_text_ = std::move(text);
  return Next::kError;
}

HttpRequestParser::Next HttpRequestParser::next(HttpRequest* request) {
  if (error_status_ != 0) return Next::kError;
  if (body_left_ > 0) return Next::kNeedMore;
  // A client may send an empty line after a body (RFC 9112 2.2).
  buffer_.erase(0, std::min(buffer_.find_first_not_of("\r\n"), buffer_.size()));
  const std::size_t length = findHeadEnd(std::string_view(buffer_).substr(0, kMaxHeadLength));
  if (length == std::string::npos) {
    if (buffer_.size() < kMaxHeadLength) return Next::kNeedMore;
    if (buffer_.find('\n') >= kMaxHeadLength) return fail(414, "the request line is too long");
    return fail(431, "the header fields are too long");
  }
  const Next result = parseHead(std::string_view(buffer_).substr(0, length), request);
  buffer_.erase(0, length);
  const std::size_t skipped = std::min(body_left_, buffer_.size());
  buffer_.erase(0, skipped);
  body_left_ -= skipped;
  return result;
}

HttpRequestParser::Next HttpRequestParser::parseHead(std::string_view head, HttpRequest* request) {
  const std::string_view line = takeLine(&head);
  const std::size_t first = line.find(' ');
  const std::size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) return fail(400, "bad request line");
  const std::string_view target = line.substr(first + 1, last - first - 1);
  const auto version = parseVersion(line.substr(last + 1));
  if (!isToken(line.substr(0, first)) || !isVisible(target) || !version) {
    return fail(400, "bad request line");
  }
  if (version->major != 1) return fail(505, "only HTTP/1.x is spoken here");
  const auto framing = readFields(head);
  if (!framing) return fail(400, "bad header field");
  if (framing->hosts > 1 || (version->minor >= 1 && framing->hosts == 0)) {
    return fail(400, "exactly one Host field is needed");
  }
  if (framing->transfer_encoding) return fail(501, "no transfer encodings are taken here");
  if (framing->content_length.value_or(0) > kMaxIgnoredBody) return fail(413, "body too large");
  request->method = line.substr(0, first);
  request->target = target;
  request->keep_alive = !framing->close && (version->minor >= 1 || framing->keep_alive);
  body_left_ = framing->content_length.value_or(0);
  return Next::kRequest;
}

HttpResponseParser::Next HttpResponseParser::next(Response* response) {
  const std::size_t head_length = findHeadEnd(std::string_view(buffer_).substr(0, kMaxHeadLength));
  if (head_length == std::string::npos) {
    return buffer_.size() < kMaxHeadLength ? Next::kNeedMore : Next::kBad;
  }
  std::string_view head = std::string_view(buffer_).substr(0, head_length);
  const auto status = parseStatusLine(takeLine(&head));
  const auto framing = status ? readFields(head) : std::nullopt;
  if (!framing || framing->transfer_encoding || !framing->content_length) return Next::kBad;
  if (*framing->content_length > kMaxResponseBody) return Next::kBad;
  if (buffer_.size() < head_length + *framing->content_length) return Next::kNeedMore;
  response->status = status->status;
  response->keep_alive = !framing->close && (status->minor >= 1 || framing->keep_alive);
  response->body = buffer_.substr(head_length, *framing->content_length);
  buffer_.erase(0, head_length + *framing->content_length);
  return Next::kResponse;
}

}  // namespace sudoku
