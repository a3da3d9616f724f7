#include "naming/json_cursor.h"

#include <doctest/doctest.h>

#include "naming/decode.h"

using clusterctl::EndpointState;
using clusterctl::Service;
using clusterctl::internal::decodeFromRegistry;
using clusterctl::internal::decodeService;
using clusterctl::internal::JsonCursor;

namespace {

bool isJson(std::string_view text) {
  JsonCursor in(text);
  return in.skip() && in.atEnd();
}

std::string stringOf(std::string_view text) {
  JsonCursor in(text);
  std::string value;
  return in.readString(&value) && in.atEnd() ? value : "failed: " + in.error();
}

std::string mistakeIn(std::string_view text) {
  Service service;
  std::string error;
  return decodeService(text, &service, &error) ? "" : error;
}

}  // namespace

TEST_CASE("JSON is what RFC 8259 says, and nothing else") {
  for (const char* text :
       {"{}", "[]", " [ ] ", "0", "-0.5e+7", "\"\"", "true", "false", "null",
        R"({"a":[1,{"b":null},[]],"c":"\u00e9\n"})", "[[[]],{}]", "[1 , 2]", "1.5E-3"})
    CHECK_MESSAGE(isJson(text), text);
  for (const char* text :
       {"",        " ",        "{",         "[",           "[1,]",        "[,1]",
        "{\"a\"}", "{\"a\":}", "{a:1}",     "{\"a\":1,}",  "01",          "-",
        "1.",      ".5",       "1e",        "+1",          "tru",         "nul",
        "\"",      "\"\\x\"",  "\"\\u12\"", "\"\\ud800\"", "\"\\udc00\"", "[1 2]",
        "[1]]",    "{} {}",    "\"\n\"",    "[}",          "{]",          "'a'",
        "NaN"})
    CHECK_FALSE_MESSAGE(isJson(text), text);
  CHECK(isJson(std::string(64, '[') + std::string(64, ']')));
  CHECK_FALSE(isJson(std::string(65, '[') + std::string(65, ']')));
  CHECK_FALSE(isJson(std::string(1'000'000, '[')));
}

TEST_CASE("escapes become UTF-8") {
  CHECK(stringOf(R"("a\"\\\/\b\f\n\r\tz")") == "a\"\\/\b\f\n\r\tz");
  CHECK(stringOf(R"("\u0041\u00e9\u20ac\ud83d\ude00")") == "A\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80");
  CHECK(stringOf(R"("\ud83d\u0041")").substr(0, 6) == "failed");
  CHECK(stringOf(R"("\u-041")").substr(0, 6) == "failed");
}

TEST_CASE("a service as the socket sends it") {
  Service service;
  std::string error;
  REQUIRE(decodeService(
      R"({"format":1,"service":"web","revision":7,"new":[{}],"endpoints":[)"
      R"({"instance":"web/0","host":"h1","address":"10.0.0.1","ports":{"main":80,"x":0},)"
      R"("version":"1.0","state":"ready","registered":"ready"},)"
      R"({"instance":"web/1","host":"h2","address":"::1","ports":{},"version":"1","state":"odd"}]})",
      &service, &error));
  CHECK(service.known);
  CHECK(service.confirmed);
  CHECK(service.revision == 7);
  REQUIRE(service.endpoints.size() == 2);
  CHECK(service.endpoints[0].port() == 80);
  CHECK(service.endpoints[0].port("main") == 80);
  CHECK(service.endpoints[0].port("x") == 0);
  CHECK(service.endpoints[0].isReady());
  CHECK(service.endpoints[1].state == EndpointState::kOther);
  CHECK(service.ready().size() == 1);
}

TEST_CASE("unknown is not empty; as of a revision is not confirmed") {
  Service service;
  std::string error;
  REQUIRE(decodeService(R"({"format":1,"service":"a","revision":0,"endpoints":[],"known":false})",
                        &service, &error));
  CHECK_FALSE(service.known);
  REQUIRE(decodeService(R"({"format":1,"service":"a","revision":3,"endpoints":[],"as_of":3})",
                        &service, &error));
  CHECK(service.known);
  CHECK_FALSE(service.confirmed);
}

TEST_CASE("anything else is an error that says what is wrong") {
  CHECK(mistakeIn("x").find("not JSON") == 0);
  CHECK(mistakeIn(R"({"format":2,"service":"a","revision":1,"endpoints":[]})").find("format 2") ==
        0);
  CHECK(mistakeIn(R"({"error":{"code":"bad-input","message":"no"}})") == "the shim says: no");
  CHECK(mistakeIn(R"({"format":1,"service":"a","revision":1})").find("no endpoints") !=
        std::string::npos);
  CHECK(mistakeIn(R"({"format":1,"service":"../x","revision":1,"endpoints":[]})") != "");
  CHECK(mistakeIn(R"({"format":1,"service":"a","revision":-1,"endpoints":[]})") != "");
  CHECK(mistakeIn(R"({"format":1,"service":"a","revision":1e3,"endpoints":[]})") != "");
  CHECK(mistakeIn(R"({"format":1,"service":"a","revision":1,"endpoints":{}})") != "");
  CHECK(mistakeIn(R"({"format":1,"service":"a","revision":1,"endpoints":[1]})") != "");
  CHECK(mistakeIn(R"({"format":1,"service":"a","revision":1,"endpoints":[]} x)") != "");
}

TEST_CASE("one service of a whole registry") {
  const std::string registry =
      R"({"format":1,"cluster":"c","generation":4,"services":{"a":{"revision":2,"endpoints":[]},)"
      "\n"
      R"("b":{"revision":5,"endpoints":[{"instance":"b/0","host":"h","address":"1.2.3.4",)"
      R"("ports":{"main":1},"version":"1","state":"draining"}]}}})";
  Service service;
  std::string error;
  REQUIRE(decodeFromRegistry(registry, "b", &service, &error));
  CHECK(service.known);
  CHECK(service.revision == 5);
  CHECK(service.name == "b");
  REQUIRE(decodeFromRegistry(registry, "c", &service, &error));
  CHECK_FALSE(service.known);
  for (std::size_t cut = 0; cut < registry.size(); ++cut)
    CHECK_FALSE(decodeFromRegistry(registry.substr(0, cut), "b", &service, &error));
}
