#include "core/http.h"

#include <doctest/doctest.h>

#include <string>

using namespace sudoku;

namespace {

using Next = HttpRequestParser::Next;

struct Parsed {
  Next next;
  HttpRequest request;
  int status;
};

Parsed parse(const std::string& bytes) {
  HttpRequestParser parser;
  parser.append(bytes);
  Parsed parsed{};
  parsed.next = parser.next(&parsed.request);
  parsed.status = parser.errorStatus();
  return parsed;
}

}  // namespace

TEST_CASE("a plain request") {
  const Parsed parsed = parse("GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n");
  REQUIRE(parsed.next == Next::kRequest);
  CHECK(parsed.request.method == "GET");
  CHECK(parsed.request.target == "/a?b");
  CHECK(parsed.request.keep_alive);
}

TEST_CASE("who keeps the connection") {
  CHECK_FALSE(
      parse("GET / HTTP/1.1\r\nHost: x\r\nConnection: foo, Close\r\n\r\n").request.keep_alive);
  CHECK_FALSE(parse("GET / HTTP/1.0\r\n\r\n").request.keep_alive);
  CHECK(parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").request.keep_alive);
}

TEST_CASE("requests may be pipelined, come byte by byte, and follow empty lines") {
  const std::string bytes =
      "\r\nGET /1 HTTP/1.1\r\nHost: x\r\n\r\n\r\nGET /2 HTTP/1.1\nHost: x\n\nGET /3 "
      "HTTP/1.0\r\n\r\n";
  HttpRequestParser parser;
  HttpRequest request;
  std::string seen;
  for (const char c : bytes) {
    parser.append({&c, 1});
    while (parser.next(&request) == Next::kRequest) seen += request.target;
  }
  CHECK(seen == "/1/2/3");
  parser.append(bytes);
  for (seen = ""; parser.next(&request) == Next::kRequest;) seen += request.target;
  CHECK(seen == "/1/2/3");
}

TEST_CASE("bodies are skipped, however they are cut") {
  const std::string bytes =
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcdeGET /2 HTTP/1.0\r\n\r\n";
  for (std::size_t cut = 1; cut < bytes.size(); ++cut) {
    HttpRequestParser parser;
    HttpRequest request;
    std::string seen;
    for (const std::string& part : {bytes.substr(0, cut), bytes.substr(cut)}) {
      parser.append(part);
      while (parser.next(&request) == Next::kRequest) seen += request.method + request.target;
    }
    CHECK(seen == "POST/GET/2");
  }
}

TEST_CASE("bad requests and the status that they get") {
  const std::string host = "\r\nHost: x\r\n";
  CHECK(parse("nonsense\r\n\r\n").status == 400);
  CHECK(parse("GET /" + host + "\r\n").status == 400);
  CHECK(parse("GET  / HTTP/1.1 x" + host + "\r\n").status == 400);
  CHECK(parse("GET / HTTP/1.1\r\n\r\n").status == 400);  // no Host
  CHECK(parse("GET / HTTP/1.1" + host + "Host: y\r\n\r\n").status == 400);
  CHECK(parse("GET / HTTP/1.1" + host + "a : b\r\n\r\n").status == 400);
  CHECK(parse("GET / HTTP/1.1" + host + " folded\r\n\r\n").status == 400);
  CHECK(parse("GET / HTTP/1.1" + host + "Content-Length: 1x\r\n\r\n").status == 400);
  CHECK(parse("GET / HTTP/1.1" + host + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n").status ==
        400);
  CHECK(parse("GET / HTTP/1.1" + host + "Content-Length: 99999999\r\n\r\n").status == 413);
  CHECK(parse("GET / HTTP/1.1" + host + "Transfer-Encoding: chunked\r\n\r\n").status == 501);
  CHECK(parse("PRI * HTTP/2.0\r\n\r\n").status == 505);
  CHECK(parse(std::string("G\0T / HTTP/1.1\r\n\r\n", 18)).status == 400);
}

TEST_CASE("a request that does not end is refused at the limit, not before") {
  CHECK(parse(std::string(kMaxHeadLength - 1, 'a')).next == Next::kNeedMore);
  CHECK(parse(std::string(kMaxHeadLength, 'a')).status == 414);
  CHECK(parse("GET / HTTP/1.1\r\n" + std::string(kMaxHeadLength, 'a')).status == 431);
}

TEST_CASE("responses survive the round trip") {
  HttpResponse response;
  response.status = 503;
  response.body = "no";
  response.headers = {{"X-A", "b"}};
  const std::string text = formatResponse(response, true, false);
  CHECK(text.find("HTTP/1.1 503 Service Unavailable\r\n") == 0);
  CHECK(text.find("\r\nX-A: b\r\n") != std::string::npos);
  HttpResponseParser parser;
  HttpResponseParser::Response parsed;
  for (const char c : text + formatResponse({}, false, false)) {
    CHECK(parser.next(&parsed) != HttpResponseParser::Next::kBad);
    parser.append({&c, 1});
    if (parser.next(&parsed) != HttpResponseParser::Next::kResponse) continue;
    CHECK(parsed.keep_alive == (parsed.status == 503));
    CHECK(parsed.body == (parsed.status == 503 ? "no" : ""));
  }
  CHECK(parsed.status == 200);
  CHECK(parser.empty());
}

TEST_CASE("the answer to HEAD has the length but no body") {
  HttpResponse response;
  response.body = "abc";
  const std::string text = formatResponse(response, false, true);
  CHECK(text.find("Content-Length: 3\r\n") != std::string::npos);
  CHECK(text.find("abc") == std::string::npos);
}

TEST_CASE("responses that cannot be framed are bad") {
  for (const std::string text :
       {"HTTP/1.1 200 OK\r\n\r\n", "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", "junk\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"}) {
    HttpResponseParser parser;
    HttpResponseParser::Response response;
    parser.append(text);
    CHECK(parser.next(&response) == HttpResponseParser::Next::kBad);
  }
}
